"""`/v1/events`."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from gateway.http import events
from tests.http.checks import bearer, fields, problem_of
from tests.http.fakes import EPOCH, World, source_event, task_event

READER = bearer("reader")


async def get(client: TestClient, query: str = "") -> dict[str, Any]:
    async with client.get(f"/v1/events?{query}", headers=READER) as response:
        assert response.status == 200, await response.text()
        body: dict[str, Any] = await response.json()
        return body


def sequences(body: dict[str, Any]) -> list[int]:
    return [int(item["sequence"]) for item in body["items"]]


def at(sequence: int) -> str:
    return f"{EPOCH}:{sequence:020d}"


async def test_events_are_the_stored_bytes(client: TestClient, world: World) -> None:
    """They are neither decoded nor encoded anew."""
    world.log(task_event(1, "studio/t1"), source_event(2, "studio"))
    async with client.get("/v1/events", headers=READER) as response:
        body = await response.read()
    assert body.startswith(b'{"items":[' + b",".join(event.body for event in world.store.events) + b"],")


async def test_an_empty_log(client: TestClient) -> None:
    """Nothing, and a position to begin at."""
    assert await get(client) == {"items": [], "next": None, "position": at(0)}
    assert sequences(await get(client, "after=0")) == []


@pytest.mark.parametrize("room", [1, 2, 3, 100])
async def test_pages_follow_each_other(client: TestClient, world: World, room: int) -> None:
    """`next` is usable as `after` and null at the end; no event is twice or never on a page, however many of them the log
    gives at once."""
    world.store.room = room
    world.log(*(task_event(number, "studio/t1") for number in range(1, 8)))
    seen: list[int] = []
    query = "limit=3"
    for count in (3, 3, 1):
        body = await get(client, query)
        assert len(body["items"]) == count
        seen += sequences(body)
        query = f"limit=3&after={body['next']}"
    assert body["next"] is None
    assert seen == list(range(1, 8))


@pytest.mark.parametrize("count", [100, 101, 250])
async def test_a_full_last_page_has_no_next(client: TestClient, world: World, count: int) -> None:
    """Where the page ends with the log, there is no next one."""
    world.log(*(task_event(number, "studio/t1") for number in range(1, count + 1)))
    body = await get(client, f"limit={count}")
    assert (len(body["items"]), body["next"]) == (count, None)
    body = await get(client, f"limit={count - 1}")
    assert (len(body["items"]), body["next"]) == (count - 1, at(count - 1))


async def test_a_page_ends_early_when_it_is_large(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page is bounded in bytes; an event that is larger alone comes alone."""
    world.log(*(task_event(number, "studio/t1") for number in range(1, 4)))
    size = len(world.store.events[0].body)
    monkeypatch.setattr(events, "PAGE_BYTES", 2 * size)
    assert sequences(body := await get(client)) == [1, 2]
    assert sequences(await get(client, f"after={body['next']}")) == [3]
    monkeypatch.setattr(events, "PAGE_BYTES", size - 1)
    assert sequences(await get(client)) == [1]


async def test_filters_apply_with_type_prefixes(client: TestClient, world: World) -> None:
    """The same filter as on the stream, `type` included; `position` moves on although nothing matched."""
    world.store.room = 1
    world.log(
        task_event(1, "studio/t1", "task.created", "pending"),
        source_event(2, "labs"),
        task_event(3, "labs/t2", "task.succeeded", "succeeded"),
        task_event(4, "studio/t1", "task.progressed"),
    )
    assert sequences(await get(client, "type=task.*")) == [1, 3, 4]
    assert sequences(await get(client, "type=source.*,task.created")) == [1, 2]
    assert sequences(await get(client, "source=labs")) == [2, 3]
    assert sequences(await get(client, "task=studio/t1&status=running")) == [4]
    body = await get(client, "kind=none")
    assert body == {"items": [], "next": None, "position": at(4)}


@pytest.mark.parametrize("after", ["2", "00000000000000000002", at(2)])
async def test_after_takes_both_forms(client: TestClient, world: World, after: str) -> None:
    """A bare sequence, padded or not, or one with the epoch."""
    world.log(*(task_event(number, "studio/t1") for number in range(1, 4)))
    assert sequences(await get(client, f"after={after}")) == [3]


async def test_without_after_from_the_oldest_retained(client: TestClient, world: World) -> None:
    """Who asks for no position gets what there is."""
    world.log(task_event(6, "studio/t1"))
    world.store.floor = 5
    assert sequences(await get(client)) == [6]
    assert sequences(await get(client, "after=")) == [6]
    assert sequences(await get(client, "after=5")) == [6]


@pytest.mark.parametrize("after", ["0", "4", at(4), "7", "99999999999999999999", "ba9876543210:6", "elsewhere:6"])
async def test_a_position_that_cannot_be_resumed_is_gone(client: TestClient, world: World, after: str) -> None:
    """Older than the retained log, after its end, or of another log: 410 with where to go on, never a pretence."""
    world.log(task_event(6, "studio/t1"))
    world.store.floor = 5
    async with client.get("/v1/events", params={"after": after}, headers=READER) as response:
        body = await problem_of(response, 410, "position_gone")
    assert (body["reset"], body["epoch"], body["oldest"]) == (True, EPOCH, at(5))
    assert fields(body) == ["after"]
    assert sequences(await get(client, f"after={body['oldest']}")) == [6]


async def test_a_log_that_is_trimmed_meanwhile_is_no_answer(client: TestClient, world: World) -> None:
    """What retention removed while it was read may be missing."""
    world.log(*(task_event(number, "studio/t1") for number in range(1, 4)))
    world.store.trims_to = 2
    async with client.get("/v1/events?after=1", headers=READER) as response:
        await problem_of(response, 410, "position_gone")


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("after=abc", "after"),
        ("after=-1", "after"),
        ("after=1:2:3", "after"),
        ("after=:1", "after"),
        ("after=123456789012345678901", "after"),
        ("after=1&after=2", "after"),
        ("limit=0", "limit"),
        ("type=task.*.x", "type"),
        ("status=bogus", "status"),
    ],
)
async def test_a_bad_parameter_is_named(client: TestClient, query: str, name: str) -> None:
    """400 with the name of the parameter."""
    async with client.get(f"/v1/events?{query}", headers=READER) as response:
        assert fields(await problem_of(response, 400, "invalid_parameter")) == [name]


async def test_next_may_come_back_as_cursor(client: TestClient, world: World) -> None:
    """A client that pages every list in the same way once got the first page for ever."""
    world.log(*(task_event(number, "studio/t1") for number in range(1, 6)))
    first = await get(client, "limit=2")
    second = await get(client, f"limit=2&cursor={first['next']}")
    assert sequences(first) + sequences(second) == [1, 2, 3, 4]
