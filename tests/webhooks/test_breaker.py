"""When an endpoint is left alone."""

from __future__ import annotations

from gateway.webhooks.breaker import Breaker


def failed(breaker: Breaker, *moments: float, lane: str | None = None, status: int | None = 500) -> list[bool]:
    return [breaker.failed(at, lane or f"task{n}", status, None) for n, at in enumerate(moments)]


def test_a_run_of_failures_opens_it() -> None:
    """Twenty failures of several tasks over ten seconds hold up what is new, and nothing that was tried before."""
    breaker = Breaker()
    assert not any(failed(breaker, *[n / 2 for n in range(20)]))
    assert failed(breaker, 10.0) == [True]
    assert breaker.is_open
    assert (breaker.opens_at(new=True), breaker.opens_at(new=False)) == (15.0, 0.0)


def test_one_task_never_opens_it() -> None:
    """However often one poison task fails and whatever is answered to it, the others are not held up."""
    for status in (500, 503, None):
        breaker = Breaker()
        assert not any(failed(breaker, *range(1000), lane="poison", status=status))


def test_a_burst_does_not_open_it() -> None:
    """Failures within a moment are one hiccup, however many were in flight."""
    breaker = Breaker()
    assert not any(failed(breaker, *[n / 1000 for n in range(500)]))


def test_a_success_begins_anew() -> None:
    """Only failures since the last success count."""
    breaker = Breaker()
    failed(breaker, *range(19))
    breaker.succeeded()
    assert not any(failed(breaker, *range(19, 38)))


def test_probes() -> None:
    """While open one new delivery may go every 5 s, doubling to 60; the first success closes it."""
    breaker, now, waits = Breaker(), 0.0, []
    failed(breaker, *range(21))
    now = 20.0
    for _ in range(6):
        waits.append(breaker.opens_at(new=True) - now)
        now = breaker.opens_at(new=True)
        breaker.sent(now, new=True)
        assert breaker.opens_at(new=True) > now  # one at a time
        failed(breaker, now)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    breaker.succeeded()
    assert (breaker.is_open, breaker.opens_at(new=True)) == (False, 0.0)


def test_retries_are_probes() -> None:
    """A retry that fails while open puts the next probe off, and does not make the wait longer."""
    breaker = Breaker()
    failed(breaker, *range(21))
    breaker.sent(22.0, new=False)
    failed(breaker, 22.0)
    assert breaker.opens_at(new=True) == 27.0
    failed(breaker, 23.0)
    assert breaker.opens_at(new=True) == 28.0


def test_open_before_a_restart() -> None:
    """The first new delivery is a probe; one success is enough here, too."""
    breaker = Breaker()
    breaker.reopen(100.0)
    assert (breaker.is_open, breaker.opens_at(new=True)) == (True, 100.0)
    breaker.sent(100.0, new=True)
    assert breaker.opens_at(new=True) == 105.0
    assert failed(breaker, 101.0) == [False]
    assert breaker.opens_at(new=True) == 111.0
    breaker.reopen(200.0)
    breaker.succeeded()
    assert (breaker.is_open, breaker.opens_at(new=True)) == (False, 0.0)


def test_answers_that_ask_for_less() -> None:
    """Four of 429, 502, 503, 504 in a row, of several tasks, are enough, at once."""
    breaker = Breaker()
    assert failed(breaker, 0, 0, 0, 0, status=503) == [False, False, False, True]
    assert breaker.opens_at(new=True) == 5.0


def test_retry_after_holds_everything() -> None:
    """A named time holds up retries as well, at most an hour, even past a success; without overload it does not."""
    breaker = Breaker()
    breaker.failed(100.0, "a", 429, 30.0)
    assert (breaker.opens_at(new=False), breaker.opens_at(new=True), breaker.is_open) == (130.0, 130.0, False)
    breaker.succeeded()
    assert breaker.opens_at(new=False) == 130.0
    breaker.failed(100.0, "a", 503, 1e9)
    assert breaker.opens_at(new=True) == 3700.0
    other = Breaker()
    other.failed(100.0, "a", 500, 30.0)
    assert other.opens_at(new=True) == 0.0
