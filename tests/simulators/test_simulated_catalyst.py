"""Each rule of the Catalyst document, over real sockets."""

from __future__ import annotations

import uuid

import pytest

from gateway.simulators.catalyst import ERRORS, EVENTS

AT = 1_737_025_677.954470  # 2025-01-16T11:07:57.954470Z
TASKS = "/ws/events/tasks/"


def error(code: str) -> dict[str, str]:
    return {"type": "error", "error_code": code, "detail": ERRORS[code]}


async def test_a_frame_is_a_list_of_events_in_creation_order(simulate, connect):
    """The document's own example: four keys, timestamps with microseconds and an offset, not sorted."""
    sim = await simulate("catalyst", interval=None)
    client = await connect(sim, TASKS, uuid=sim.credentials["uuid"])
    sim.push_event(1, "task_created", at=AT)
    sim.push_event(1, "task_status_changed", at=AT - 0.019539)
    sim.push_event(1, "task_deleted", at=AT + 9.489615)
    sim.deliver()
    assert await client.json() == [
        {
            "task_id": 1,
            "object_class_id": 1,
            "event": "task_created",
            "timestamp": "2025-01-16T11:07:57.954470+00:00",
        },
        {
            "task_id": 1,
            "object_class_id": 1,
            "event": "task_status_changed",
            "timestamp": "2025-01-16T11:07:57.934931+00:00",
        },
        {
            "task_id": 1,
            "object_class_id": 1,
            "event": "task_deleted",
            "timestamp": "2025-01-16T11:08:07.444085+00:00",
        },
    ]


async def test_frames_come_every_five_seconds_and_only_with_events(simulate, connect, clock):
    """What happened in the interval comes in one frame; an empty interval sends none."""
    sim = await simulate("catalyst", clock=clock)
    client = await connect(sim, TASKS, uuid=sim.credentials["uuid"])
    for _ in range(3):
        sim.push_event(1, "task_value_changed")
    await clock.advance(4.9)
    connection = await sim.wait_connection()
    assert (sim.waiting(connection), connection.sent) == (3, 0)
    await clock.advance(0.2)
    assert len(await client.json()) == 3
    await clock.advance(20.0)
    sim.push_raw('"end"')
    assert await client.json() == "end"


async def test_at_most_a_thousand_events_a_frame_the_rest_waits(simulate, connect):
    """1,000 a frame; chunked results come in ascending order of their timestamps, nothing lost."""
    sim = await simulate("catalyst", interval=None)
    client = await connect(sim, TASKS, uuid=sim.credentials["uuid"])
    for number in range(2_300):
        sim.push_event(number, "task_created", at=AT - number)
    sizes, ids = [], []
    for _ in range(3):
        sim.deliver()
        frame = await client.json()
        sizes.append(len(frame))
        ids += [item["task_id"] for item in frame]
    assert sizes == [1_000, 1_000, 300]
    assert ids == list(range(2_299, -1, -1))


async def test_the_buffer_is_discarded_when_the_socket_drops(simulate, connect):
    """After a reconnect only new events come."""
    sim = await simulate("catalyst", interval=None)
    first = await connect(sim, TASKS, uuid=sim.credentials["uuid"])
    for number in range(1_500):
        sim.push_event(number, "task_created")
    sim.deliver()
    assert len(await first.json()) == 1_000
    connection = await sim.wait_connection()
    assert sim.waiting(connection) == 500
    sim.drop()
    assert await first.end() == 1006
    await sim.wait_for(lambda: not sim.connections)
    assert sim.waiting(connection) == 0
    second = await connect(sim, TASKS, uuid=sim.credentials["uuid"])
    sim.push_event(7_000, "task_created")
    sim.deliver()
    assert [item["task_id"] for item in await second.json()] == [7_000]


@pytest.mark.parametrize("given", [None, "", "nonsense", str(uuid.UUID(int=1)), "unknown"])
async def test_an_invalid_uuid_is_told_in_an_object_before_a_normal_close(simulate, connect, given):
    """ERR_INVALID_UUID: an object, not a list; then 1000."""
    sim = await simulate("catalyst")
    given = str(uuid.uuid4()) if given == "unknown" else given
    client = await connect(sim, TASKS, **({} if given is None else {"uuid": given}))
    assert await client.json() == error("ERR_INVALID_UUID")
    assert await client.end() == 1000


@pytest.mark.parametrize("path", ["/ws/events/tasks", "/ws/events/", "/", "/ws/events/nothing/"])
async def test_another_path_is_told_in_an_object_before_a_normal_close(simulate, connect, path):
    """ERR_INCORRECT_URL: the upgrade succeeds, the error follows, then 1000."""
    sim = await simulate("catalyst")
    client = await connect(sim, path, uuid=sim.credentials["uuid"])
    assert await client.json() == error("ERR_INCORRECT_URL")
    assert await client.end() == 1000


async def test_a_client_that_sends_is_told_off(simulate, connect):
    """RECEIVE_NOT_SUPPORTED for any data frame, then 1000; pings are no data."""
    sim = await simulate("catalyst")
    for data in ("hello", b"hello"):
        client = await connect(sim, TASKS, uuid=sim.credentials["uuid"])
        await client.socket.ping()
        await (client.socket.send_str(data) if isinstance(data, str) else client.socket.send_bytes(data))
        assert await client.json() == error("RECEIVE_NOT_SUPPORTED")
        assert await client.end() == 1000
    assert [message for _, message in sim.received_frames] == ["hello", b"hello"]


async def test_too_many_connects_are_told_to_wait(simulate, connect, clock):
    """ERR_RATE_LIMIT_EXCEEDED, then 1000; a minute later it is good again."""
    sim = await simulate("catalyst", clock=clock, connects_per_minute=2)
    for number in range(3):
        client = await connect(sim, TASKS, uuid=sim.credentials["uuid"])
        if number == 2:
            assert await client.json() == error("ERR_RATE_LIMIT_EXCEEDED")
            assert await client.end() == 1000
    await clock.advance(61.0)
    client = await connect(sim, TASKS, uuid=sim.credentials["uuid"])
    sim.push_event(1, "task_created")
    sim.deliver()
    assert len(await client.json()) == 1


async def test_errors_on_demand(simulate, connect):
    """Any error at the next connect, or in the middle of a connection."""
    sim = await simulate("catalyst")
    sim.answer_connects("ERR_RATE_LIMIT_EXCEEDED", 2)
    for _ in range(2):
        client = await connect(sim, TASKS, uuid=sim.credentials["uuid"])
        assert await client.json() == error("ERR_RATE_LIMIT_EXCEEDED")
    client = await connect(sim, TASKS, uuid=sim.credentials["uuid"])
    sim.push_error("ERR_INVALID_UUID", sim.connections[-1])
    assert await client.json() == error("ERR_INVALID_UUID")
    assert await client.end() == 1000


async def test_a_one_time_uuid_is_good_for_one_connect(simulate, connect, http):
    """Each from the authentication endpoint, a UUID v4; the fixed one is not taken in this mode."""
    sim = await simulate("catalyst", mode="one_time", interval=None)
    url, headers = (
        sim.http_url + sim.credentials["auth_path"],
        {"Authorization": f"Bearer {sim.credentials['api_key']}"},
    )
    async with http.get(url, headers=headers) as answer:
        issued = (await answer.json())["uuid"]
    assert uuid.UUID(issued).version == 4
    good = await connect(sim, TASKS, uuid=issued)
    for used in (issued, sim.credentials["uuid"]):
        bad = await connect(sim, TASKS, uuid=used)
        assert await bad.json() == error("ERR_INVALID_UUID")
    sim.push_event(1, "task_created")
    sim.deliver()
    assert len(await good.json()) == 1
    async with http.get(url) as answer:
        assert answer.status == 401


async def test_unused_uuids_are_bounded(simulate, connect, http):
    """The oldest of very many is forgotten."""
    sim = await simulate("catalyst", mode="one_time")
    url, headers = (
        sim.http_url + sim.credentials["auth_path"],
        {"Authorization": f"Bearer {sim.credentials['api_key']}"},
    )
    async with http.get(url, headers=headers) as answer:
        first = (await answer.json())["uuid"]
    for _ in range(1_000):
        async with http.get(url, headers=headers):
            pass
    client = await connect(sim, TASKS, uuid=first)
    assert await client.json() == error("ERR_INVALID_UUID")


async def test_an_ordinary_request_elsewhere_is_not_found(simulate, http):
    """Only an upgrade is told ERR_INCORRECT_URL."""
    sim = await simulate("catalyst")
    async with http.get(f"{sim.http_url}/nothing/") as answer:
        assert answer.status == 404


async def test_lives_use_all_eight_events_and_unsorted_timestamps(simulate, connect, clock):
    """A population produces every documented event, created first and deleted last, with timestamps out of order."""
    sim = await simulate("catalyst", clock=clock, rate=5.0)
    client = await connect(sim, TASKS, uuid=sim.credentials["uuid"])
    items: list[dict[str, object]] = []
    unsorted_frames = 0
    for _ in range(40):
        await clock.advance(5.0)
        frame = await client.json()
        assert 0 < len(frame) <= 1_000
        stamps = [item["timestamp"] for item in frame]
        unsorted_frames += stamps != sorted(stamps)
        items += frame
    assert {item["event"] for item in items} == set(EVENTS)
    assert unsorted_frames > 0
    first: dict[object, object] = {}
    last: dict[object, object] = {}
    for item in items:
        first.setdefault(item["task_id"], item["event"])
        assert last.get(item["task_id"]) != "task_deleted"
        last[item["task_id"]] = item["event"]
    assert set(first.values()) == {"task_created"}
