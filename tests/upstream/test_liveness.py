"""Transport age and data age are two clocks."""

from __future__ import annotations

from gateway.upstream.liveness import Dead, Liveness, Ping, Wait


def listening(ping_interval: float = 20, idle_timeout: float | None = None) -> Liveness:
    """A connection made at 0 that is being read."""
    liveness = Liveness(0, ping_interval, idle_timeout)
    liveness.reading(0)
    return liveness


def test_a_ping_is_due_after_silence_on_the_transport() -> None:
    """Also on a connection that never said anything."""
    liveness = listening()
    assert liveness.next(0) == Wait(20)
    assert liveness.next(15) == Wait(5)
    assert liveness.next(20) == Ping()
    assert liveness.next(20) == Wait(10)


def test_an_unanswered_ping_is_death() -> None:
    """Nothing at all within half the interval after a ping."""
    liveness = listening()
    assert liveness.next(20) == Ping()
    assert liveness.next(29) == Wait(1)
    assert liveness.next(30) == Dead("a ping was not answered")


def test_any_sign_answers_a_ping() -> None:
    """A pong, a ping of the peer, a data frame: it is there."""
    liveness = listening()
    assert liveness.next(20) == Ping()
    liveness.heard(21)
    assert liveness.next(30) == Wait(11)
    assert liveness.next(41) == Ping()
    liveness.data(42)
    liveness.reading(42)
    assert liveness.next(60) == Wait(2)
    assert (liveness.heard_at, liveness.data_at) == (42, 42)


def test_silence_is_not_failure_by_default() -> None:
    """Answered pings keep a connection without data alive for ever."""
    liveness = listening()
    for moment in range(20, 100_000, 20):
        assert liveness.next(moment) == Ping()
        liveness.heard(moment)


def test_idle_timeout_counts_data_frames_alone() -> None:
    """Answered pings do not help where an idle timeout is set."""
    liveness = listening(idle_timeout=50)
    assert liveness.next(20) == Ping()
    liveness.heard(20)
    assert liveness.next(40) == Ping()
    liveness.heard(40)
    assert liveness.next(40) == Wait(10)
    assert liveness.next(50) == Dead("no data frame for 50 s")


def test_a_data_frame_restarts_the_idle_timeout() -> None:
    """It counts from the last one."""
    liveness = listening(ping_interval=1000, idle_timeout=50)
    liveness.data(45)
    liveness.reading(46)
    assert liveness.next(95) == Wait(1)
    assert liveness.next(96) == Dead("no data frame for 50 s")


def test_no_verdict_while_the_gateway_is_not_reading() -> None:
    """When the log is behind, what waits in the socket says nothing about the peer; the clocks start over afterwards."""
    liveness = listening(idle_timeout=30)
    liveness.data(5)
    assert liveness.next(1000) == Wait(10)
    liveness.reading(1000)
    assert liveness.next(1000) == Wait(20)
    assert liveness.heard_at == 5


def test_short_intervals_leave_time_to_answer() -> None:
    """A busy machine may take a moment."""
    assert Liveness(0, 0.1).pong_wait == 1
    assert Liveness(0, 20).pong_wait == 10
