"""Resuming and snapshots: nothing missing, nothing twice, nothing pretended."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.errors import StoreError
from tests.stream.clients import Client, sequences, types, ws
from tests.stream.fakes import FakeStore, House, house


def history(count: int) -> FakeStore:
    """A log with events of ten tasks."""
    store = FakeStore()
    for n in range(count):
        store.append("task.progressed", f"studio/{n % 10}")
    return store


@pytest.mark.parametrize(("ring_bytes", "room"), [(1, 1000), (1, 5), (1 << 24, 1000), (1 << 24, 1)])
async def test_replay_runs_into_live_without_a_seam(ring_bytes: int, room: int) -> None:
    """From the store, in pages cut by number or by bytes, the ring, and live, while events keep coming: every position once,
    in order."""
    store = history(1000)
    store.room = room
    async with house(store, ring_bytes=ring_bytes) as gateway:
        for _ in range(600):
            gateway.publish("task.progressed")
        async with ws(gateway.url("after=5")) as client:
            publisher = asyncio.create_task(keep_publishing(gateway, 300))
            seen: list[dict[str, Any]] = []
            while not seen or sequences(seen)[-1:] != [1900]:
                seen.append(await client.next())
            await publisher
            if "stream.synced" not in types(seen):
                seen.append(await client.next())
        assert sequences(seen) == list(range(6, 1901))
        assert types(seen).count("stream.synced") == 1
        assert seen[1]["data"] == {"id": "default", "resume": "replayed", "sequence": f"{5:020d}"}


async def keep_publishing(gateway: House, count: int) -> None:
    for _ in range(count):
        gateway.publish("task.progressed")
        await asyncio.sleep(0)


async def test_replay_from_the_end_is_synced_at_once() -> None:
    """There is nothing to replay, and it is said."""
    async with house(history(3)) as gateway, ws(gateway.url("after=3")) as client:
        seen = await client.until("stream.synced")
        assert types(seen) == ["stream.opened", "stream.subscribed", "stream.synced"]
        assert seen[1]["data"]["resume"] == "replayed"
        assert gateway.store.reads == 0


@pytest.mark.parametrize("after", ["2", "11", "ffffffffffff:5", "99999999999999999999"])
async def test_reset(after: str) -> None:
    """Older than the log, beyond its end, or of another log: `reset`, then the current states."""
    store = history(10)
    store.trim(3)
    async with house(store) as gateway, ws(gateway.url(f"after={after}")) as client:
        seen = await client.until("stream.synced")
        assert seen[1]["data"]["resume"] == "reset"
        assert types(seen).count("task.snapshot") == 10
        assert sequences(seen) == []
        gateway.publish("task.started")
        assert sequences([await client.next()]) == [11]


@pytest.mark.parametrize("after", ["3", "10", "abcdef012345:9"])
async def test_no_reset_within_the_log(after: str) -> None:
    """The first position that is still complete is one below the first event that is left."""
    store = history(10)
    store.trim(3)
    async with house(store) as gateway, ws(gateway.url(f"after={after}")) as client:
        seen = await client.until("stream.synced")
        assert seen[1]["data"]["resume"] == "replayed"
        assert sequences(seen) == list(range(int(after[-2:].lstrip(":")) + 1, 11))


async def test_a_position_that_is_not_shown_yet() -> None:
    """The read API may tell a position a moment before the hub hands it out: the stream goes on behind it."""
    async with house(history(3)) as gateway:
        made = gateway.store.append("task.started")
        async with ws(gateway.url("after=4")) as client:
            assert (await client.next())["type"] == "stream.opened"
            assert (await client.next())["data"]["resume"] == "replayed"
            gateway.hub.publish([made])
            assert (await client.next())["type"] == "stream.synced"
            gateway.publish("task.started")
            assert sequences([await client.next()]) == [5]


async def test_retention_overtakes_a_replay() -> None:
    """A replay that loses its footing says `reset` and goes on with the states."""
    store = history(300)
    read = store.read

    async def slow_read(*args: Any, **kwargs: Any) -> Any:
        events = await read(*args, **kwargs)
        if store.reads == 2:
            store.trim(290)
        return events

    store.read = slow_read  # type: ignore[method-assign]
    async with house(store) as gateway, ws(gateway.url("after=0")) as client:
        seen = await client.until("stream.synced")
        outcomes = [event["data"]["resume"] for event in seen if event["type"] == "stream.subscribed"]
        assert outcomes == ["replayed", "reset"]
        assert sequences(seen) == list(range(1, 257))
        assert types(seen).count("task.snapshot") == 10


async def test_a_log_that_cannot_be_read() -> None:
    """The connection closes with 1011; the log says why. Nothing follows `stream.closing`, no word on parameters either."""
    store = history(3)
    store.broken = StoreError("disk")
    async with house(store) as gateway, ws(gateway.url("after=0&x=1")) as client:
        code, seen = await client.closed()
        assert code == 1011
        assert types(seen)[-1] == "stream.closing"
        assert "stream.error" not in types(seen)
        assert seen[-1]["data"]["reconnect_after_ms"] > 0


# --- snapshots --------------------------------------------------------------------------------------------------------


async def test_snapshot_then_live() -> None:
    """The state of every unfinished task, then what comes; `task.snapshot` carries the position it is valid at."""
    async with house() as gateway:
        gateway.publish("task.started", "studio/1")
        gateway.publish("task.succeeded", "studio/2")
        gateway.publish("task.queued", "studio/3")
        async with ws(gateway.url("snapshot=true")) as client:
            seen = await client.until("stream.synced")
            snapshots = [event for event in seen if event["type"] == "task.snapshot"]
            assert [event["subject"] for event in snapshots] == ["1", "3"]
            assert {event["sequence"] for event in snapshots} == {f"{3:020d}"}
            assert snapshots[0]["source"] == "/triverse/studio"
            assert snapshots[0]["data"]["origin"] == "snapshot"
            assert seen[1]["data"]["resume"] == "snapshot"
            assert len({event["id"] for event in seen}) == len(seen)
            gateway.publish("task.succeeded", "studio/1")
            assert sequences([await client.next()]) == [4]


async def test_named_tasks_are_in_the_snapshot_although_finished() -> None:
    """Whoever names a task wants to know, finished or not; the type filter is for events, not for states."""
    async with house() as gateway:
        gateway.publish("task.succeeded", "studio/2")
        async with ws(gateway.url("snapshot=true&task=studio/2&type=task.failed")) as client:
            seen = await client.until("stream.synced")
            assert [event["subject"] for event in seen if event["type"] == "task.snapshot"] == ["2"]


async def test_pages_are_read_at_different_times() -> None:
    """What a later page includes is not sent again, what it does not include is not lost."""
    async with house() as gateway:
        for task in ("a", "b", "c"):
            gateway.publish("task.started", f"studio/{task}")
        gateway.store.page = 1
        steps = [("task.progressed", "studio/c"), ("task.succeeded", "studio/a"), ("task.succeeded", "studio/b")]

        def meanwhile() -> None:
            if steps:
                gateway.publish(*steps.pop(0))

        gateway.store.between_pages = meanwhile
        async with ws(gateway.url("snapshot=true")) as client:
            seen = await client.until("stream.synced")
            told = [(event["type"], event["subject"]) for event in seen if event["type"].startswith("task")]
            assert told == [
                ("task.snapshot", "a"), ("task.snapshot", "b"), ("task.snapshot", "c"), ("task.succeeded", "a"),
            ]  # fmt: skip
            states = [event["sequence"] for event in seen if event["type"] == "task.snapshot"]
            assert states == sorted(states)


async def test_large_snapshots_block_nobody() -> None:
    """While one connection takes thousands of states, another gets its events, and other subscriptions go on."""
    async with house(buffer=32_768) as gateway:
        for n in range(2000):
            gateway.publish("task.started", f"studio/{n}")
        async with (
            ws(gateway.url("type=task.created")) as other,
            ws(gateway.url("snapshot=true&source=studio")) as client,
        ):
            await other.until("stream.synced")
            await client.send(op="subscribe", id="live", filter={"type": ["task.created"]})
            seen = await until_subscribed(client, "live")
            gateway.publish("task.created", "jobs/1")
            assert (await other.next())["subject"] == "1"
            seen += await client.until("stream.synced")
            while "task.created" not in types(seen) or types(seen).count("stream.synced") < 2:
                seen.append(await client.next())
            assert types(seen).count("task.snapshot") == 2000
            assert types(seen).count("task.created") == 1


async def until_subscribed(client: Client, id: str) -> list[dict[str, Any]]:
    seen = []
    while True:
        seen.append(await client.next())
        if seen[-1]["type"] == "stream.subscribed" and seen[-1]["data"]["id"] == id:
            return seen


async def test_replays_side_by_side() -> None:
    """Two subscriptions that replay the same events send each once; one that is ended stops."""
    async with house(history(1200), ring_bytes=1) as gateway, ws(gateway.url("subscribe=none")) as client:
        await client.next()
        await client.send(op="subscribe", id="a", after="100")
        await client.send(op="subscribe", id="b", after="0", filter={"task": ["studio/1"]})
        seen = []
        while types(seen).count("stream.synced") < 2:
            seen.append(await client.next())
        found = sequences(seen)
        assert len(found) == len(set(found))
        assert set(found) == set(range(101, 1201)) | set(range(2, 101, 10))
        await client.send(op="subscribe", id="c", after="0", filter={"task": ["studio/2"]})
        await client.send(op="unsubscribe", id="c")
        await client.until("stream.unsubscribed")
        await client.send(op="ping")
        assert "stream.synced" not in types(await client.until("stream.pong"))


async def test_bodies_are_not_touched() -> None:
    """Replay sends the stored bytes."""
    async with house(history(1), ring_bytes=1) as gateway, ws(gateway.url("after=0")) as client:
        await client.next()
        await client.next()
        assert (await client.socket.recv()).encode() == gateway.store.events[0].body  # type: ignore[union-attr]
        assert json.loads(gateway.store.events[0].body)["type"] == "task.progressed"
