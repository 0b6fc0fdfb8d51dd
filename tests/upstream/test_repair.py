"""After a connect: what became of the tasks that the upstream has not mentioned, and what is said where nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from adapters.api import Stream
from gateway.upstream.limits import Limits
from gateway.upstream.repair import gap_due
from schemas import rfc3339
from tests.upstream.kit import START, Rig, Script, rig, until
from tests.upstream.toy import everything, watch


@asynccontextmanager
async def reconnected(stream: Stream, *, limits: Limits | None = None, **abilities: bool) -> AsyncIterator[Rig]:
    """A rig whose stream was connected by an earlier process, until 100 s ago. The test starts it."""
    async with rig(stream, limits=limits) as it:
        it.store.rows[f"~{stream.key}"] = msgspec.json.encode(
            {"connected_at": START - 900.0, "alive_at": START - 100.0}
        )
        for ability, value in abilities.items():
            setattr(it.adapter, ability, value)
        it.upstream.on(stream.path)(it.upstream.listen)
        yield it


async def settle(it: Rig) -> None:
    """Lets the repair of the first connection come to its end: then the stream's row has nothing missing any more."""

    def done() -> bool:
        row = msgspec.json.decode(it.store.rows.get("~all", b"{}"))
        return "connected_at" in row and "missing_from" not in row and row.get("alive_at", 0) >= START

    await it.clock.until(lambda: done() and it.clock.slept.count(it.limits.checkpoint))


def gap(it: Rig) -> dict[str, Any]:
    """The one gap that was told."""
    [data] = it.intake.named("source.gap")
    return data


async def test_mentioned_tasks_are_not_asked_for() -> None:
    """The states sent on connect are enough: no request at all, no gap."""
    async with reconnected(everything(), looks_up=True) as it:
        it.store.put("a", "running")
        it.upstream.on("/all")(it.upstream.says({"task": "a", "status": "succeeded"}))
        await it.sources.start()
        await settle(it)
        assert not any(path.startswith("/tasks") for path in it.upstream.requests)
        assert it.intake.named("source.gap") == []


async def test_lookups_repair_what_was_not_mentioned() -> None:
    """Each unmentioned unfinished task is asked for, with the adapter's headers, and what comes is submitted."""
    async with reconnected(everything(), looks_up=True) as it:
        it.store.put("a", "running")
        it.store.put("b", "queued")
        it.store.put("done", "failed")
        it.upstream.answer("/tasks/a", body={"task": "a", "status": "succeeded"})
        it.upstream.answer("/tasks/b", body={"task": "b", "status": "running"})
        await it.sources.start()
        await settle(it)
        assert sorted(it.intake.tasks) == [("a", "succeeded"), ("b", "running")]
        assert {item.origin for item in it.intake.observed} == {"reconcile"}
        assert "/tasks/done" not in it.upstream.requests
        assert it.intake.named("source.gap") == []


async def test_the_listing_comes_first_and_spares_the_lookups() -> None:
    """Pages until one is empty; what was listed is not looked up."""
    async with reconnected(everything(), lists=True, looks_up=True) as it:
        for task in ("a", "b", "c"):
            it.store.put(task, "running")
        pages = {"0": [{"task": "a", "status": "succeeded"}], "1": [{"task": "b"}, {"task": "stranger"}, {"junk": 1}]}
        it.upstream.answers["/tasks"] = lambda request, number: web.json_response(pages.get(request.query["page"], []))
        it.upstream.answer("/tasks/c", body={"task": "c"})
        await it.sources.start()
        await settle(it)
        assert it.intake.tasks == [("a", "succeeded"), ("b", "running"), ("c", "running")]
        assert [path for path in it.upstream.requests if path.startswith("/tasks")] == [
            "/tasks?page=0",
            "/tasks?page=1",
            "/tasks?page=2",
            "/tasks/c",
        ]
        assert it.metric("frames_rejected_total", reason="no_task") == 1


async def test_the_listing_stops_when_nothing_is_open() -> None:
    """No page is fetched that nobody needs."""
    async with reconnected(everything(), lists=True) as it:
        it.store.put("a", "running")
        it.upstream.answer("/tasks", body=[{"task": "a"}])
        await it.sources.start()
        await settle(it)
        assert it.upstream.connects["/tasks"] == 1


async def test_tasks_that_began_during_the_outage_are_found_in_the_listing() -> None:
    """Unknown tasks are news if they were created after the connection was lost, and only then."""
    async with reconnected(everything(), lists=True) as it:
        young, old = rfc3339.render(START - 50), rfc3339.render(START - 5000)
        pages = {"0": [{"task": "young", "created_at": young}, {"task": "old", "created_at": old}]}
        it.upstream.answers["/tasks"] = lambda request, number: web.json_response(pages.get(request.query["page"], []))
        await it.sources.start()
        await settle(it)
        assert it.intake.tasks == [("young", "running")]


@pytest.mark.parametrize("status", [401, 403, 404, 405, 501])
async def test_without_a_rest_api_probes_are_next(status: int) -> None:
    """A listing that is refused spares every lookup; a short-lived stream shows each task."""
    async with reconnected(everything(gap="always"), lists=True, looks_up=True, probes=True) as it:
        it.store.put("a", "running")
        it.upstream.answer("/tasks", status)
        it.upstream.on("/probe/a")(it.upstream.says({"task": "other"}, {"task": "a", "status": "failed"}))
        await it.sources.start()
        await settle(it)
        assert it.intake.submits == [("all", ["a"], None)]
        assert it.intake.tasks == [("a", "failed")]
        assert it.upstream.connects == {"/all": 1, "/tasks": 1, "/probe/a": 1}
        assert gap(it)["recovered"] is True
        await until(lambda: it.upstream.open == 1)


@pytest.mark.parametrize("means", ["404", "refused probe", "mute probe", "closing probe", "faulty probe", "none"])
async def test_what_cannot_be_verified_is_told(means: str) -> None:
    """`source.gap` names the task, from when the stream was last connected to when it came back."""
    async with reconnected(everything(), looks_up=means == "404", probes="probe" in means) as it:
        it.store.put("a", "running")
        scripts: dict[str, Script] = {
            "mute probe": it.upstream.listen,
            "closing probe": it.upstream.says(then=lambda socket, number: asyncio.sleep(0)),
            "faulty probe": it.upstream.says({"fault": "NO", "verdict": "retry"}),
        }
        if means in scripts:
            it.upstream.on("/probe/a")(scripts[means])
        await it.sources.start()
        await settle(it)
        assert gap(it) == {
            "endpoint": "/all",
            "from": rfc3339.render(START - 100),
            "to": rfc3339.render(START),
            "recovered": False,
            "unverified": ["a"],
        }
        assert it.intake.tasks == []
        assert it.supervisor.status()["gaps"] == 1


async def test_requests_that_fail_are_tried_again_a_few_times() -> None:
    """5xx, 429 and silence: three tries with pauses between them."""
    async with reconnected(everything(), looks_up=True) as it:
        it.store.put("a", "running")
        it.store.put("b", "running")

        def unwell(request: web.Request, number: int) -> web.StreamResponse:
            return web.Response(status=503) if number < 3 else web.json_response({"task": "a"})

        it.upstream.answers["/tasks/a"] = unwell
        it.upstream.answer("/tasks/b", 429)
        await it.sources.start()
        await settle(it)
        assert it.upstream.connects["/tasks/a"] == it.upstream.connects["/tasks/b"] == 3
        assert gap(it)["unverified"] == ["b"]


async def test_a_hopeless_means_is_given_up() -> None:
    """A REST API that is down is not asked for every one of a thousand tasks."""
    limits = Limits(tries=1, hopeless=5, named=10, close=0.2, request=0.3)
    async with reconnected(everything(), looks_up=True, limits=limits) as it:
        for number in range(1000):
            it.store.put(str(number), "running")
        it.upstream.handshake = _unwell
        await it.sources.start()
        await settle(it)
        assert sum(1 for path in it.upstream.requests if path.startswith("/tasks")) < 15
        assert len(gap(it)["unverified"]) == 10
        assert gap(it)["unverified_total"] == 1000


async def test_lookups_are_few_at_once() -> None:
    """Four, whatever the number of tasks; those beyond the limit of a repair stay unverified."""
    limits = Limits(tasks=20, close=0.2)
    async with reconnected(everything(), looks_up=True, limits=limits) as it:
        busy = most = 0

        async def handshake(request: web.Request) -> web.StreamResponse | None:
            nonlocal busy, most
            if not request.path.startswith("/tasks/"):
                return None
            busy += 1
            most = max(most, busy)
            await asyncio.sleep(0.005)
            busy -= 1
            return web.json_response({"task": request.path.rpartition("/")[2]})

        it.upstream.handshake = handshake
        for number in range(22):
            it.store.put(f"t{number}", "running")
        await it.sources.start()
        await settle(it)
        assert most == 4
        assert len(it.intake.tasks) == 20
        assert gap(it)["unverified"] == ["t20", "t21"]


async def test_newer_news_wins() -> None:
    """What the live stream says while a lookup is under way is not overwritten by its answer."""
    async with reconnected(everything(), looks_up=True) as it:
        it.store.put("a", "running")
        asked, said = asyncio.Event(), asyncio.Event()

        @it.upstream.on("/all")
        async def script(socket: web.WebSocketResponse, number: int) -> None:
            await asked.wait()
            await socket.send_json({"task": "a", "status": "succeeded"})
            await it.upstream.listen(socket)

        async def handshake(request: web.Request) -> web.StreamResponse | None:
            if request.path != "/tasks/a":
                return None
            asked.set()
            await said.wait()
            return web.json_response({"task": "a", "status": "running"})

        it.upstream.handshake = handshake
        it.limits = Limits(close=0.2)
        await it.sources.start()
        await it.clock.until(asked.is_set)
        await until(lambda: it.intake.tasks)
        said.set()
        await settle(it)
        assert it.intake.tasks == [("a", "succeeded")]
        assert it.intake.named("source.gap") == []


async def test_repair_waits_for_quiet_but_not_for_ever() -> None:
    """Frames in quick succession put it off, ten times the quiet time at most; the session is told."""
    async with reconnected(everything(), looks_up=True) as it:
        it.store.put("z", "running")
        it.upstream.answer("/tasks/z", body={"task": "z"})

        @it.upstream.on("/all")
        async def script(socket: web.WebSocketResponse, number: int) -> None:
            for count in range(100_000):
                await socket.send_json({"task": f"t{count % 5}"})
                seen = it.metric("frames_received_total")
                await until(lambda seen=seen: socket.closed or it.metric("frames_received_total") != seen)

        await it.sources.start()
        await it.clock.until(lambda: ("z", "running") in it.intake.tasks, step=0.4)
        assert 9 <= it.clock.monotonic() <= 14
        await it.clock.until(lambda: it.intake.observed[-1].origin == "live")


@pytest.mark.parametrize(("policy", "told"), [("never", 0), ("unverified", 0), ("always", 1)])
async def test_gap_policies_where_all_is_repaired(policy: Any, told: int) -> None:
    """`always` says so even then, with `recovered` true."""
    async with reconnected(everything(gap=policy), looks_up=True) as it:
        it.store.put("a", "running")
        it.upstream.answer("/tasks/a", body={"task": "a"})
        await it.sources.start()
        await settle(it)
        assert [data["recovered"] for data in it.intake.named("source.gap")] == [True] * told


@pytest.mark.parametrize(("policy", "told"), [("never", 0), ("unverified", 1), ("always", 1)])
async def test_gap_policies_where_something_is_not(policy: Any, told: int) -> None:
    """`never` means that nothing can be missing."""
    async with reconnected(everything(gap=policy)) as it:
        it.store.put("a", "running")
        await it.sources.start()
        await settle(it)
        assert [data["recovered"] for data in it.intake.named("source.gap")] == [False] * told


async def test_nothing_can_be_verified_without_states_and_means() -> None:
    """A stream of mere occurrences: every reconnect is a gap that was not repaired."""
    async with reconnected(everything(gap="always", settle=None), looks_up=True) as it:
        await it.sources.start()
        await settle(it)
        assert (gap(it)["recovered"], gap(it)["unverified"]) == (False, [])


async def test_no_gap_on_the_very_first_connect() -> None:
    """Nobody was promised what came before."""
    async with rig(everything(gap="always")) as it:
        it.upstream.on("/all")(it.upstream.listen)
        await it.sources.start()
        await settle(it)
        assert it.intake.named("source.gap") == []


async def test_the_upstream_says_that_nothing_was_missed() -> None:
    """Then nothing is repaired, and no gap is told."""
    async with reconnected(everything(gap="always"), looks_up=True) as it:
        it.store.put("a", "running")
        it.upstream.on("/all")(it.upstream.says({"missed": 0}))
        await it.sources.start()
        await settle(it)
        assert it.intake.named("source.gap") == []
        assert it.upstream.connects == {"/all": 1}


async def test_the_upstream_says_how_much_was_missed() -> None:
    """The number is passed on."""
    async with reconnected(everything(gap="always")) as it:
        it.upstream.on("/all")(it.upstream.says({"missed": 12}))
        await it.sources.start()
        await settle(it)
        assert (gap(it)["missed"], gap(it)["recovered"]) == (12, True)


async def test_a_gap_that_nobody_was_told_of_yet_is_carried_on() -> None:
    """A connection that drops before its repair is done does not end the gap, nor does a word about that connection alone;
    nor does a restart."""
    async with reconnected(everything(gap="always")) as it:

        @it.upstream.on("/all")
        async def script(socket: web.WebSocketResponse, number: int) -> None:
            if number == 1:
                return
            await socket.send_json({"missed": 0})
            await it.upstream.listen(socket)

        await it.sources.start()
        await until(lambda: it.intake.named("source.disconnected"))
        assert it.intake.named("source.gap") == []
        await it.restart()
        await settle(it)
        assert gap(it)["from"] == rfc3339.render(START - 100)


async def test_a_gap_within_one_process() -> None:
    """From the last sign of the old connection to the new one."""
    async with rig(everything(gap="always")) as it:
        release = asyncio.Event()

        @it.upstream.on("/all")
        async def script(socket: web.WebSocketResponse, number: int) -> None:
            await socket.send_json({"task": "a"})
            if number == 1:
                await release.wait()
            else:
                await it.upstream.listen(socket)

        await it.sources.start()
        await settle(it)
        await it.clock.pass_time(200)
        release.set()
        await it.clock.until(lambda: it.intake.named("source.gap"))
        lost = rfc3339.parse(gap(it)["from"])
        assert START < lost <= rfc3339.parse(gap(it)["to"])
        assert gap(it)["recovered"] is True


async def test_the_time_of_a_crash_is_known_to_the_minute() -> None:
    """While a stream is connected that is noted from time to time, so that a gap does not start before it."""
    async with rig(everything()) as it:
        it.upstream.on("/all")(it.upstream.listen)
        await it.sources.start()
        await settle(it)
        row = it.store.rows["~all"]
        await it.clock.pass_time(70)
        await until(lambda: it.store.rows["~all"] != row or it.clock.slept.count(it.limits.checkpoint) > 1)
        assert msgspec.json.decode(it.store.rows["~all"])["alive_at"] >= START


async def test_a_failing_repair_is_told_and_leaves_the_connection_alone() -> None:
    """What could not be found out is a gap, whatever the reason."""
    async with reconnected(everything()) as it:
        it.upstream.on("/all")(it.upstream.says({"task": "a"}))
        await it.sources.start()
        await until(lambda: it.intake.tasks)
        it.store.broken = RuntimeError("the store is away")
        await settle(it)
        assert gap(it)["recovered"] is False
        assert it.upstream.connects == {"/all": 1}
        it.store.broken = None


async def test_a_watch_is_verified_on_its_first_connect() -> None:
    """Also where the task is not known at all; when it turns out to be finished, so is the watch."""
    async with rig(watch("a")) as it:
        it.adapter.looks_up = True
        it.upstream.on("/watch/a")(it.upstream.listen)
        it.upstream.answer("/tasks/a", body={"task": "a", "status": "succeeded"})
        await it.sources.start()
        await it.clock.until(lambda: it.supervisor.state == "finished")
        assert it.intake.tasks == [("a", "succeeded")]
        await until(lambda: it.intake.named("source.finished"))
        await until(lambda: it.upstream.open == 0)


async def test_a_cursor_that_moves_when_the_states_are_complete_is_stored() -> None:
    """It is submitted without any observation."""
    async with rig(everything()) as it:
        it.upstream.on("/all")(it.upstream.says({"task": "a", "seq": 5}))
        await it.sources.start()
        await settle(it)
        assert it.intake.submits == [("all", ["a"], {"seq": 5})]


def test_gap_rules() -> None:
    """The whole table."""
    table = {
        ("never", True, ()): False, ("never", False, ("a",)): False,
        ("unverified", True, ()): False, ("unverified", True, ("a",)): True, ("unverified", False, ()): True,
        ("always", True, ()): True, ("always", False, ("a",)): True,
    }  # fmt: skip
    for (policy, complete, unverified), due in table.items():
        assert gap_due(everything(gap=policy), complete, unverified) is due


async def _unwell(request: web.Request) -> web.StreamResponse | None:
    return web.Response(status=503) if request.path.startswith("/tasks") else None
