"""One stream kept connected: what is said of it, when it comes back, and when it does not."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from aiohttp import web

from gateway.upstream.limits import Limits
from tests.upstream.kit import START, Rig, hang_up, rig, turns, until
from tests.upstream.toy import SECRET, everything, watch


def backoffs(it: Rig) -> list[float]:
    """The waits before reconnects: in these rigs nothing else sleeps for less than the grace, or as jittered a time."""
    known = {it.limits.grace, it.limits.checkpoint, 1.0, 3600.0, 1800.0}
    return [seconds for seconds in it.clock.slept if seconds not in known]


async def test_frames_become_submits_in_order_with_their_cursor() -> None:
    """One submit per frame; what is rejected is counted, and everything else goes on."""
    async with rig(everything()) as it:
        it.upstream.on("/all")(
            it.upstream.says(
                [{"task": "a", "seq": 1}, {"task": "b"}], {"junk": 1, "seq": 2}, [{"junk": 2}, {"task": "c", "seq": 3}]
            )
        )
        await it.sources.start()
        await until(lambda: len(it.intake.submits) == 3)
        assert it.intake.submits == [
            ("all", ["a", "b"], {"seq": 1}),
            ("all", [], {"seq": 2}),
            ("all", ["c"], {"seq": 3}),
        ]
        assert it.upstream.connects["/all"] == 1
        assert it.metric("frames_received_total") == 3
        assert it.metric("frames_rejected_total", reason="no_task") == 2
        assert it.metric("source_last_frame_timestamp_seconds") == START
        assert it.metric("source_up") == 1


async def test_a_connection_is_announced_and_so_is_its_end() -> None:
    """One pair of notices per connection, with the path of the endpoint alone."""
    async with rig(everything()) as it:

        @it.upstream.on("/all")
        async def script(socket: web.WebSocketResponse, number: int) -> None:
            if number == 1:
                await socket.close(code=1011, message=f"out of {SECRET}".encode())
            await it.upstream.listen(socket)

        await it.sources.start()
        await it.clock.until(lambda: len(it.intake.notices) >= 3)
        assert it.intake.notices[:3] == [
            ("source.connected", {"endpoint": "/all"}),
            (
                "source.disconnected",
                {"endpoint": "/all", "error": "closed by the upstream: 1011 out of ***", "code": "1011"},
            ),
            ("source.connected", {"endpoint": "/all"}),
        ]
        assert it.intake.up == [("all", True), ("all", False), ("all", True)]
        assert it.metric("source_reconnects_total") == 1


@pytest.mark.parametrize("frames", [[], [{"task": "a"}]], ids=["silent", "with the states of a connect"])
async def test_accept_then_close_is_not_hammered(frames: list[object]) -> None:
    """Every reconnect waits longer, a clean close included; states that come with the connect do not change that."""
    async with rig(everything()) as it:
        it.upstream.on("/all")(it.upstream.says(*frames, then=hang_up))
        await it.sources.start()
        await it.clock.until(lambda: it.clock.monotonic() > 600, step=2)
        # on average half of 1 + 2 + 4 + ... + 32 s, then one connect in 30 s
        assert 8 < it.upstream.connects["/all"] < 45
        assert it.upstream.most_open == 1
        assert it.supervisor.status()["reconnects"] >= it.upstream.connects["/all"] - 1


async def test_an_upstream_that_worked_for_a_while_is_come_back_to_at_once() -> None:
    """A live event and a few seconds: the next wait is a short one again."""
    async with rig(everything(settle=None)) as it:
        release = asyncio.Event()

        @it.upstream.on("/all")
        async def script(socket: web.WebSocketResponse, number: int) -> None:
            if number <= 6:
                return
            await socket.send_json({"task": "a"})
            await release.wait()

        await it.sources.start()
        await it.clock.until(lambda: it.intake.tasks)
        await it.clock.pass_time(5)
        waits = len(backoffs(it))
        release.set()
        await until(lambda: len(backoffs(it)) > waits)
        assert backoffs(it)[-1] <= 1.0


async def test_one_event_and_a_close_over_and_over_is_not_hammered() -> None:
    """An upstream that sends something on each connect and hangs up was reached several times a second for ever."""
    async with rig(everything(settle=None)) as it:
        it.upstream.on("/all")(it.upstream.says({"task": "a"}, then=hang_up))
        await it.sources.start()
        await it.clock.until(lambda: len(backoffs(it)) >= 12)
        assert max(backoffs(it)[8:]) > 4.0


async def test_states_count_once_they_were_complete() -> None:
    """States on connect prove that the upstream works, if it then stays."""
    async with rig(everything()) as it:
        release = asyncio.Event()

        @it.upstream.on("/all")
        async def script(socket: web.WebSocketResponse, number: int) -> None:
            if number <= 6:
                return
            await socket.send_json({"task": "a"})
            await release.wait()

        await it.sources.start()
        await it.clock.until(lambda: it.intake.tasks)
        assert it.adapter.closes
        await it.clock.pass_time(5)
        waits = len(backoffs(it))
        release.set()
        await until(lambda: len(backoffs(it)) > waits)
        assert backoffs(it)[-1] <= 1.0


async def test_minimum_uptime_resets_the_backoff() -> None:
    """A quiet upstream that stays long enough is well."""
    async with rig(everything()) as it:
        release = asyncio.Event()

        @it.upstream.on("/all")
        async def script(socket: web.WebSocketResponse, number: int) -> None:
            if number > 6:
                await release.wait()

        await it.sources.start()
        await it.clock.until(lambda: it.upstream.connects.get("/all", 0) > 6)
        await until(lambda: it.supervisor.state == "live")
        await it.clock.pass_time(61)
        waits = len(backoffs(it))
        release.set()
        await until(lambda: len(backoffs(it)) > waits)
        assert backoffs(it)[-1] <= 1.0


@pytest.mark.parametrize("way", ["handshake", "fault", "close", "ticket"])
async def test_a_refusal_stops_the_stream_for_good(way: str) -> None:
    """401, a refusing fault, a refusing close: no second attempt, `source.failed`, not ready."""
    async with rig(everything()) as it:
        if way == "handshake":
            it.upstream.answer("/all", 401)
        elif way == "ticket":
            it.adapter.authorizes = True
            it.upstream.answer("/ticket", 403)
        elif way == "fault":
            it.upstream.on("/all")(
                it.upstream.says({"task": "a"}, {"fault": "BAD_KEY", "verdict": "refused"}, {"task": "b"})
            )
        else:

            @it.upstream.on("/all")
            async def script(socket: web.WebSocketResponse, number: int) -> None:
                await socket.close(code=4001)

        await it.sources.start()
        await until(lambda: it.intake.named("source.failed"))
        await it.clock.pass_time(10_000)
        assert sum(it.upstream.connects.values()) == 1
        [failed] = it.intake.named("source.failed")
        code, error = {
            "handshake": ("401", "handshake: answered with HTTP 401"),
            "ticket": ("403", "authorization: answered with HTTP 403"),
            "fault": ("BAD_KEY", "the upstream says BAD_KEY ***"),
            "close": ("4001", "closed by the upstream: 4001"),
        }[way]
        assert failed == {"endpoint": "/all", "error": error, "code": code}
        assert it.intake.tasks == ([("a", "running")] if way == "fault" else [])
        assert it.supervisor.state == "failed"
        assert it.sources.trouble() == {"toy": f"/all: {error}"}
        assert it.sources.status()[0]["streams"][0]["error"] == error


async def test_slow_down_waits_the_whole_maximum() -> None:
    """A rate limit is not answered with jitter from zero."""
    async with rig(everything()) as it:
        it.upstream.on("/all")(it.upstream.says({"fault": "RATE", "verdict": "slow_down"}))
        await it.sources.start()
        await until(lambda: backoffs(it))
        assert 60 <= backoffs(it)[-1] <= 75


async def test_retry_after_of_a_handshake_is_honoured() -> None:
    """429 with Retry-After: that long, if it is longer."""
    async with rig(everything()) as it:
        it.upstream.answer("/all", 429, headers={"Retry-After": "400"})
        await it.sources.start()
        await until(lambda: backoffs(it))
        assert 400 <= backoffs(it)[-1] <= 500
        assert it.supervisor.state == "retrying"


async def test_an_unreachable_upstream_is_logged_once_and_so_is_its_return() -> None:
    """Not one line per attempt; never the URL."""
    async with rig(everything()) as it:
        it.upstream.answer("/all", 503)
        with structlog.testing.capture_logs() as logs:
            await it.sources.start()
            await it.clock.until(lambda: it.upstream.connects.get("/all", 0) >= 5)
            del it.upstream.answers["/all"]
            it.upstream.on("/all")(it.upstream.listen)
            await it.clock.until(lambda: any(line["event"] == "stream_up" for line in logs))
        assert [line["event"] for line in logs] == ["stream_down", "stream_up"]
        assert logs[0]["error"] == "handshake: answered with HTTP 503"
        assert SECRET not in repr(logs)


async def test_a_fresh_ticket_for_every_connect() -> None:
    """One-time credentials: `authorize` comes before each handshake; an answer that is none is a reason to try again."""
    async with rig(everything()) as it:
        it.adapter.authorizes = True
        it.upstream.answers["/ticket"] = lambda request, number: web.Response(
            text=f"ticket{number}" if number != 2 else f"sorry {SECRET}"
        )
        it.upstream.on("/all")(hang_up)
        await it.sources.start()
        await it.clock.until(lambda: it.upstream.connects.get("/all", 0) >= 2)
        connects = [path for path in it.upstream.requests if path.startswith("/all")]
        assert [path.rpartition("=")[2] for path in connects[:2]] == ["ticket1", "ticket3"]


async def test_back_pressure_stops_the_reading() -> None:
    """While the log is behind nothing more is read, and nobody takes the upstream for dead."""
    async with rig(everything(), ping_interval=20.0) as it:
        it.upstream.on("/all")(it.upstream.says(*({"task": str(number)} for number in range(50))))
        it.intake.gate.clear()
        await it.sources.start()
        await until(lambda: it.intake.waiting == 1)
        await it.clock.pass_time(500)
        assert it.metric("frames_received_total") == 1
        it.intake.gate.set()
        await until(lambda: len(it.intake.tasks) == 50)
        assert it.upstream.connects["/all"] == 1


async def test_rejected_frames_do_not_flood_the_log() -> None:
    """A line every few seconds, with the count of the others, cut to size, without secrets."""
    async with rig(everything()) as it:
        it.upstream.on("/all")(it.upstream.says(*({"junk": "x" * 1000 + SECRET} for _ in range(20))))
        with structlog.testing.capture_logs() as logs:
            await it.sources.start()
            await until(lambda: it.metric("frames_rejected_total", reason="no_task") == 20)
        lines = [line for line in logs if line["event"] == "frame_rejected"]
        assert len(lines) == 1
        assert len(lines[0]["excerpt"]) == 200
        assert SECRET not in repr(logs)


async def test_a_bug_in_one_stream_is_its_own_misfortune() -> None:
    """Logged with its traceback, without secrets; that stream backs off, the others go on."""

    def explode(frame: str | bytes) -> None:
        if "boom" in str(frame):
            raise LookupError(f"no such thing: {SECRET}")

    async with rig(everything(), everything_else := watch("w")) as it:
        it.adapter.on_frame = explode
        it.upstream.on("/all")(it.upstream.says({"task": "boom"}))
        it.upstream.on(everything_else.path)(it.upstream.says({"task": "w"}))
        with structlog.testing.capture_logs() as logs:
            await it.sources.start()
            await it.clock.until(lambda: it.upstream.connects.get("/all", 0) >= 3)
        bug = next(line for line in logs if line["event"] == "upstream_bug")
        assert "LookupError: no such thing: ***" in bug["traceback"]
        assert SECRET not in repr(logs)
        assert ("w", "running") in it.intake.tasks
        assert it.upstream.connects[everything_else.path] == 1
        assert it.intake.named("source.disconnected")[0]["error"] == "internal error: LookupError"
        assert it.sources.trouble() == {}


async def test_what_an_adapter_is_told_on_connect() -> None:
    """First, then again: cursor, first connect, what is unfinished; also after a restart."""
    async with rig(everything()) as it:
        it.store.put("old", "running", created_at="2026-01-01T00:00:00Z")
        it.store.put("new", "succeeded", created_at="2026-02-01T00:00:00Z")
        it.upstream.on("/all")(it.upstream.says({"task": "a", "seq": 7}, then=hang_up))
        await it.sources.start()
        await it.clock.until(lambda: len(it.adapter.resumes) == 2)
        first, second = it.adapter.resumes
        assert (first.first, first.connected_at, first.cursor) == (True, None, None)
        assert (first.oldest_unfinished, first.newest) == ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")
        assert (second.first, second.connected_at, second.cursor) == (False, first.now, {"seq": 7})
        await it.restart()
        await until(lambda: it.adapter.resumes)
        [third] = it.adapter.resumes
        assert (third.first, third.connected_at, third.cursor) == (False, first.now, {"seq": 7})


async def test_idle_timeout_and_dead_peers_reconnect() -> None:
    """Both are this side's verdict: the adapter is not asked what the close means."""
    async with rig(everything(), ping_interval=20.0, idle_timeout=30.0) as it:
        it.upstream.on("/all")(it.upstream.listen)
        await it.sources.start()
        await it.clock.until(lambda: it.upstream.connects.get("/all", 0) >= 2)
        assert it.intake.named("source.disconnected")[0] == {"endpoint": "/all", "error": "no data frame for 30 s"}
        assert it.adapter.closes == []


async def test_stop_leaves_nothing_behind() -> None:
    """Every socket is closed, every end is said, and it is remembered up to when the stream was connected."""
    async with rig(everything(), watch("w")) as it:
        it.upstream.on("/all")(it.upstream.listen)
        it.upstream.on("/watch/w")(it.upstream.listen)
        await it.sources.start()
        await until(lambda: it.upstream.open == 2)
        await until(lambda: len(it.intake.named("source.connected")) == 2)
        await it.sources.stop()
        await until(lambda: it.upstream.open == 0)
        assert len(it.intake.named("source.disconnected")) == 2
        assert it.store.rows["~all"]
        await it.sources.stop()


async def test_stop_is_bounded() -> None:
    """Also while the log takes nothing more."""
    async with rig(everything(), limits=Limits(stop=0.05, close=0.05)) as it:
        it.upstream.on("/all")(it.upstream.says({"task": "a"}))
        it.intake.gate.clear()
        await it.sources.start()
        await until(lambda: it.intake.waiting == 1)
        held = asyncio.Event()

        async def notice(*args: object) -> None:
            await held.wait()

        it.intake.notice = notice  # type: ignore[method-assign]
        await it.sources.stop()
        await until(lambda: it.upstream.open == 0)


async def test_a_frame_before_a_fault_is_kept() -> None:
    """Items are taken in order, up to the one that ends the connection."""
    async with rig(everything()) as it:
        it.upstream.on("/all")(it.upstream.says([{"task": "a"}, {"fault": "X", "verdict": "retry"}, {"task": "b"}]))
        await it.sources.start()
        await until(lambda: it.intake.named("source.disconnected"))
        assert it.intake.tasks == [("a", "running")]
        assert it.intake.named("source.disconnected")[0]["code"] == "X"
        await turns()
