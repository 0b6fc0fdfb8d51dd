"""All streams of a source: watches asked for at run time, refusals that stay where they belong, the end of it all."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from aiohttp import web

from gateway.errors import Refused
from gateway.upstream.limits import Limits
from schemas import rfc3339
from tests.upstream.kit import START, Rig, Upstream, rig, until
from tests.upstream.toy import SECRET, everything, watch


def finishing(upstream: Upstream, task_id: str) -> None:
    """Scripts a watch that ends at once."""
    upstream.on(f"/watch/{task_id}")(upstream.says({"task": task_id, "status": "succeeded"}, {"done": True}))


def state(it: Rig, task_id: str) -> str | None:
    """Of a watch."""
    return next((row["state"] for row in it.supervisor.watches() if row["task_id"] == task_id), None)


async def test_a_watch_lives_until_its_task_is_finished() -> None:
    """Started on demand, listed, remembered; then over, forgotten, and still listed."""
    async with rig() as it:
        done = asyncio.Event()

        @it.upstream.on("/watch/a")
        async def script(socket: web.WebSocketResponse, number: int) -> None:
            await socket.send_json({"task": "a", "seq": 1})
            await done.wait()
            await socket.send_json([{"task": "a", "status": "succeeded"}, {"done": True}])
            await it.upstream.listen(socket)

        await it.sources.start()
        assert it.supervisor.state == "live"
        row = await it.supervisor.watch("a")
        assert row == {
            "source": "toy",
            "task_id": "a",
            "endpoint": "/watch/a",
            "configured": False,
            "state": "connecting",
            "since": rfc3339.render(START),
            "error": None,
        }
        await until(lambda: state(it, "a") == "live" and it.intake.tasks)
        assert (await it.supervisor.watch("a"))["state"] == "live"
        assert it.upstream.connects == {"/watch/a": 1}
        assert {"~watch:a", "~task:a", "task:a"} <= set(it.store.rows)
        done.set()
        await until(lambda: it.intake.named("source.finished"))
        await until(lambda: set(it.store.rows) == {"~finished"})
        assert state(it, "a") == "finished"
        assert it.intake.tasks == [("a", "running"), ("a", "succeeded")]
        assert it.intake.named("source.disconnected") == [{"endpoint": "/watch/a"}]
        await it.clock.pass_time(10_000)
        assert it.upstream.connects == {"/watch/a": 1}
        assert it.supervisor.state == "finished"


async def test_a_watch_survives_a_restart() -> None:
    """It is taken up again, with its cursor, until it is stopped."""
    async with rig() as it:
        it.upstream.on("/watch/a")(it.upstream.says({"task": "a", "seq": 4}))
        await it.sources.start()
        await it.supervisor.watch("a")
        await until(lambda: it.intake.tasks)
        await it.restart()
        await until(lambda: it.adapter.resumes)
        assert it.adapter.resumes[0].cursor == {"seq": 4}
        await until(lambda: state(it, "a") == "live")
        await it.supervisor.unwatch("a")
        assert it.supervisor.watches() == []
        assert it.store.rows == {}
        await until(lambda: it.upstream.open == 0)
        await it.restart()
        assert it.supervisor.watches() == []


async def test_a_remembered_watch_that_makes_no_sense_any_more_is_dropped() -> None:
    """As after a change of the configuration."""
    async with rig() as it:
        it.store.rows["~watch:a b"] = b"{}"
        it.store.rows["~watch:c"] = b"\xff"
        await it.sources.start()
        assert it.supervisor.watches() == []
        assert "~watch:a b" not in it.store.rows


async def test_a_finished_task_is_not_watched_again() -> None:
    """Neither a configured watch nor one that is asked for connects for a task that is known to be finished."""
    async with rig(watch("a")) as it:
        it.store.put("a", "succeeded")
        it.store.put("b", "failed")
        await it.sources.start()
        await until(lambda: it.intake.named("source.finished"))
        await it.supervisor.watch("b")
        await until(lambda: state(it, "b") == "finished")
        assert it.upstream.requests == []


async def test_source_finished_is_said_once() -> None:
    """When all single-task watches are done; not again after a restart, but again after a new watch."""
    async with rig(watch("a"), watch("b")) as it:
        finishing(it.upstream, "a")
        it.upstream.on("/watch/b")(it.upstream.listen)
        await it.sources.start()
        await until(lambda: state(it, "a") == "finished")
        assert it.intake.named("source.finished") == []
        finishing(it.upstream, "b")
        await it.restart()
        await until(lambda: it.intake.named("source.finished"))
        await until(lambda: "~finished" in it.store.rows)
        await it.restart()
        await until(lambda: it.supervisor.state == "finished")
        assert it.upstream.connects == {"/watch/a": 1, "/watch/b": 2}
        assert len(it.intake.named("source.finished")) == 1
        finishing(it.upstream, "c")
        await it.supervisor.watch("c")
        await until(lambda: len(it.intake.named("source.finished")) == 2)


async def test_a_source_with_a_stream_of_everything_never_finishes() -> None:
    """There is always more to come."""
    async with rig(everything()) as it:
        it.upstream.on("/all")(it.upstream.listen)
        finishing(it.upstream, "a")
        await it.sources.start()
        await it.supervisor.watch("a")
        await until(lambda: state(it, "a") == "finished" and "~watch:a" not in it.store.rows)
        assert it.intake.named("source.finished") == []


async def test_a_refused_watch_fails_alone() -> None:
    """Its state says why; readiness and the other streams are untouched. Asked for again, it is tried again."""
    async with rig(everything()) as it:
        it.upstream.on("/all")(it.upstream.listen)
        await it.sources.start()
        await it.supervisor.watch("nope")
        await until(lambda: state(it, "nope") == "failed")
        await until(lambda: it.intake.named("source.failed"))
        assert it.intake.named("source.failed") == [
            {"endpoint": "/watch/nope", "error": "handshake: answered with HTTP 404", "code": "404"}
        ]
        [row] = it.supervisor.watches()
        assert row["error"] == "handshake: answered with HTTP 404"
        assert it.sources.trouble() == {}
        await until(lambda: it.supervisor.state == "live")
        it.upstream.on("/watch/nope")(it.upstream.listen)
        await it.supervisor.watch("nope")
        await until(lambda: state(it, "nope") == "live")


async def test_one_refused_stream_does_not_stop_the_others() -> None:
    """The source is not ready, its other streams go on."""
    async with rig(everything(), watch("a")) as it:
        it.upstream.on("/all")(it.upstream.says({"task": "x"}))
        await it.sources.start()
        await until(lambda: it.supervisor.state == "failed" and it.intake.tasks)
        states = {row["endpoint"]: row["state"] for row in it.supervisor.status()["streams"]}
        assert states == {"/all": "live", "/watch/a": "failed"}
        assert it.metric("source_up") == 1
        it.upstream.on("/watch/a")(it.upstream.listen)
        assert (await it.supervisor.watch("a"))["configured"] is True
        await until(lambda: it.supervisor.state == "live")
        assert it.sources.trouble() == {}


async def test_watches_that_cannot_be() -> None:
    """Refused with a status and a code."""

    async def refusal(task_id: str) -> tuple[int, str]:
        with pytest.raises(Refused) as caught:
            await it.supervisor.watch(task_id)
        return caught.value.status, caught.value.code

    async with rig(watch("configured"), limits=Limits(watches=2, close=0.2)) as it:
        for task_id in ("configured", "a", "b", "c"):
            it.upstream.on(f"/watch/{task_id}")(it.upstream.listen)
        await it.sources.start()
        assert await refusal("a b") == (400, "bad_task_id")
        await it.supervisor.watch("a")
        await it.supervisor.watch("b")
        assert await refusal("c") == (429, "too_many_watches")
        await it.supervisor.unwatch("a")
        await it.supervisor.watch("c")
        with pytest.raises(Refused, match="does not watch"):
            await it.supervisor.unwatch("a")
        with pytest.raises(Refused, match="configuration file"):
            await it.supervisor.unwatch("configured")
        await it.sources.stop()
        assert await refusal("d") == (409, "stopping")
        it.adapter.watch = lambda task_id: None  # type: ignore[method-assign]
        assert await refusal("e") == (409, "no_watches")


async def test_watches_that_are_over_stay_listed_for_a_while() -> None:
    """The newest of them, up to a limit."""
    async with rig(limits=Limits(watches=3, close=0.2)) as it:
        await it.sources.start()
        for number in range(6):
            finishing(it.upstream, f"t{number}")
            await it.supervisor.watch(f"t{number}")
            await until(lambda number=number: state(it, f"t{number}") == "finished")
            await until(lambda number=number: f"~watch:t{number}" not in it.store.rows)
        await until(lambda: len(it.supervisor.watches()) == 3)
        assert [row["task_id"] for row in it.supervisor.watches()] == ["t3", "t4", "t5"]
        await it.supervisor.unwatch("t4")
        assert len(it.supervisor.watches()) == 2


async def test_handshakes_of_many_watches_are_spread() -> None:
    """No more than a few at once; streams that carry everything do not queue behind them."""
    async with rig(everything(), limits=Limits(handshakes=3, close=0.2)) as it:
        busy = most = 0
        release = asyncio.Event()

        async def handshake(request: web.Request) -> None:
            nonlocal busy, most
            if request.path.startswith("/watch"):
                busy += 1
                most = max(most, busy)
                await release.wait()
                busy -= 1

        it.upstream.handshake = handshake
        it.upstream.on("/all")(it.upstream.listen)
        for number in range(20):
            it.upstream.on(f"/watch/{number}")(it.upstream.listen)
        await it.sources.start()
        for number in range(20):
            await it.supervisor.watch(str(number))
        await until(lambda: busy == 3 and it.upstream.connects.get("/all"))
        release.set()
        await until(lambda: all(row["state"] == "live" for row in it.supervisor.watches()))
        assert most == 3


async def test_two_requests_for_one_watch_start_one() -> None:
    """Also when they come at the same moment."""
    async with rig() as it:
        it.upstream.on("/watch/a")(it.upstream.listen)
        await it.sources.start()
        await asyncio.gather(*(it.supervisor.watch("a") for _ in range(5)))
        await until(lambda: state(it, "a") == "live")
        assert it.upstream.connects == {"/watch/a": 1}


async def test_a_task_creation_response_starts_a_watch() -> None:
    """What it says is published first."""
    async with rig() as it:
        it.upstream.on("/watch/a")(it.upstream.listen)
        await it.sources.start()
        row = await it.supervisor.created(b'{"task": "a", "status": "pending"}')
        assert row["task_id"] == "a"
        assert it.intake.submits == [("task:a", ["a"], None)]
        with pytest.raises(Refused, match="no task in it") as caught:
            await it.supervisor.created(b"{}")
        assert caught.value.status == 422


async def test_the_end_of_a_watch_that_lost_something_on_the_way() -> None:
    """Where the upstream replays nothing, a watch that finishes right after a reconnect still says what was missed."""
    async with rig(watch("a", gap="always")) as it:
        it.store.rows["~task:a"] = msgspec.json.encode({"connected_at": START - 900.0, "alive_at": START - 100.0})
        finishing(it.upstream, "a")
        await it.sources.start()
        await until(lambda: it.intake.named("source.finished"))
        [gap] = it.intake.named("source.gap")
        assert (gap["from"], gap["recovered"]) == (rfc3339.render(START - 100), True)


async def test_a_normal_close_can_be_the_end_of_a_watch() -> None:
    """The adapter decides what a close means."""
    async with rig(watch("a")) as it:

        @it.upstream.on("/watch/a")
        async def script(socket: web.WebSocketResponse, number: int) -> None:
            await socket.close(code=4002)

        await it.sources.start()
        await until(lambda: it.intake.named("source.finished"))
        assert it.intake.named("source.disconnected") == [{"endpoint": "/watch/a", "code": "4002"}]


async def test_a_source_without_streams_tells_its_state() -> None:
    """And every field of the contract."""
    async with rig(everything()) as it:
        it.upstream.on("/all")(it.upstream.says({"task": "a"}))
        await it.sources.start()
        await until(lambda: it.intake.tasks)
        now = rfc3339.render(START)
        assert it.sources.status() == [
            {
                "name": "toy",
                "adapter": "toy",
                "enabled": True,
                "state": "live",
                "streams": [
                    {
                        "endpoint": "/all",
                        "state": "live",
                        "since": now,
                        "last_frame_at": now,
                        "reconnects": 0,
                        "error": None,
                    }
                ],
                "last_frame_at": now,
                "reconnects": 0,
                "gaps": 0,
                "error": None,
            }
        ]


async def test_a_task_that_dies_takes_readiness_with_it() -> None:
    """Whatever kills it: here an intake that fails outside of any connection."""
    async with rig(watch("a")) as it:
        finishing(it.upstream, "a")
        remember = it.intake.remember

        async def failing(source: str, key: str, value: dict[str, object] | None) -> None:
            if value is not None and value.get("finished"):
                raise RuntimeError(f"the log is gone {SECRET}")
            await remember(source, key, value)

        it.intake.remember = failing  # type: ignore[method-assign]
        await it.sources.start()
        await until(it.sources.trouble)
        assert it.sources.trouble() == {"toy": "/watch/a: internal error: RuntimeError"}
        assert it.supervisor.state == "failed"


async def test_downloads() -> None:
    """200 with the public object; 404, 502 and 504 for what can go wrong."""
    async with rig() as it:
        await it.sources.start()
        assert (await it.supervisor.fetch_download("a")).code == "no_downloads"
        it.adapter.looks_up = True
        it.upstream.answer("/download/a", body={"url": "https://x"})
        it.upstream.answer("/download/list", body=[1])
        it.upstream.answer("/download/denied", 403)
        good = await it.supervisor.fetch_download("a")
        assert (good.status, bytes(good.body or b"")) == (200, b'{"url":"https://x"}')
        assert (await it.supervisor.fetch_download("none")).status == 404
        assert (await it.supervisor.fetch_download("list")).status == 502
        assert (await it.supervisor.fetch_download("denied")).message == (
            "the upstream's download endpoint: answered with HTTP 403"
        )
        held = asyncio.Event()

        async def handshake(request: web.Request) -> None:
            await held.wait()

        it.upstream.handshake = handshake
        assert (await it.supervisor.fetch_download("slow")).status == 504
        held.set()
