"""Catalyst, by its document: every event value, lists in order, the four errors, the uuid."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.api import Fault, Observation, Rejected
from tests.adapters.kit import NOW, Gateway, catalyst, session, types

#: catalyst-task-events.txt, "Example payload"
SAMPLE = [
    {"task_id": 1, "object_class_id": 1, "event": "task_created", "timestamp": "2025-01-16T11:07:57.954470+00:00"},
    {
        "task_id": 1,
        "object_class_id": 1,
        "event": "task_status_changed",
        "timestamp": "2025-01-16T11:07:57.934931+00:00",
    },
    {"task_id": 1, "object_class_id": 1, "event": "task_deleted", "timestamp": "2025-01-16T11:08:07.444085+00:00"},
]


def item(event: str = "task_value_changed", task: Any = 1, second: int = 0) -> dict[str, Any]:
    return {"task_id": task, "object_class_id": 1, "event": event, "timestamp": f"2025-01-16T11:07:{second:02}+00:00"}


def run(*lists: Any) -> tuple[list[dict[str, Any]], Gateway]:
    gateway = Gateway(catalyst())
    return gateway.frames(session(catalyst()), *map(json.dumps, lists)), gateway


def test_the_documented_list_gives_whole_events() -> None:
    """In the order delivered, though the timestamps of the example are not sorted."""
    events, _ = run(SAMPLE)

    def whole(index: int, kind: str, changed: list[str], **task: Any) -> dict[str, Any]:
        known = {
            "key": "ops/1", "id": "1", "source": "ops", "adapter": "catalyst", "kind": "object-class:1", "name": None,
            "status": "unknown", "native_status": None, "progress": None, "attempt": None,
            "created_at": "2025-01-16T11:07:57.954470Z", "started_at": None, "completed_at": None, "queue": None,
            "priority": None, "cost_credits": None, **task,
        }  # fmt: skip
        return {
            "specversion": "1.0", "sequence": "0" * 20, "source": "/catalyst/ops", "type": kind, "subject": "1",
            "time": SAMPLE[index]["timestamp"].replace("+00:00", "Z"),  # type: ignore[attr-defined]
            "datacontenttype": "application/json", "dataschema": "urn:mainstem:schema:task-event:1", "partitionkey": "ops/1",
            "data": {
                "task": known, "changed": changed, "detail": None, "input": None, "result": None, "error": None,
                "origin": "live", "redacted": False, "received_at": NOW,
                "native": {"type": SAMPLE[index]["event"], "payload": SAMPLE[index]},
            },
        }  # fmt: skip

    assert [{key: value for key, value in event.items() if key != "id"} for event in events] == [
        whole(0, "task.created", ["kind", "created_at"]),
        whole(1, "task.status_changed", []),
        whole(2, "task.deleted", ["status"], status="deleted"),
    ]


@pytest.mark.parametrize(
    ("native", "kind"),
    [
        ("task_created", "task.created"), ("task_value_changed", "task.updated"), ("task_status_changed", "task.status_changed"),
        ("task_owner_added", "task.owner_added"), ("task_owner_removed", "task.owner_removed"),
        ("task_assignee_added", "task.assignee_added"), ("task_assignee_removed", "task.assignee_removed"),
        ("task_deleted", "task.deleted"), ("task_teleported", "task.updated"),
    ],
)  # fmt: skip
def test_every_event_value(native: str, kind: str) -> None:
    """catalyst-task-events.txt, "Available events", and one of tomorrow."""
    (event,), _ = run([item(native)])
    assert event["type"] == kind
    assert event["data"]["task"]["status"] == ("deleted" if native == "task_deleted" else "unknown")
    assert event["data"]["native"]["type"] == native


def test_events_are_never_stale_and_a_deleted_task_stays_deleted() -> None:
    """They are occurrences: each is published, in order, also after the end."""
    events, gateway = run([item("task_deleted", second=9), item(second=3), item("task_owner_added", second=10)])
    assert types(events) == ["task.deleted", "task.updated", "task.owner_added"]
    assert {event["data"]["task"]["status"] for event in events} == {"deleted"}
    assert gateway.verdicts == []


def test_a_deletion_counts_whatever_its_timestamp() -> None:
    """Timestamps inside a frame need not be sorted."""
    events, _ = run([item(second=9), item("task_deleted", second=3)])
    assert events[-1]["data"]["task"]["status"] == "deleted"


def test_one_bad_item_costs_itself_alone() -> None:
    """999 of 1,000 are published, in order; the bad one is named by its place."""
    bad: list[Any] = [
        {"task_id": None},
        7,
        {**item(), "timestamp": "yesterday"},
        {**item(), "task_id": ""},
        {"task_id": 1},
        {**item(), "timestamp": 5},
    ]
    for position, broken in enumerate(bad):
        items: list[Any] = [item(task=number) for number in range(1000)]
        items[position] = broken
        events, gateway = run(items)
        assert [event["subject"] for event in events] == [str(number) for number in range(1000) if number != position]
        (rejected,) = gateway.others
        assert isinstance(rejected, Rejected)
        assert rejected.reason == "malformed_item"


def test_what_may_be_missing() -> None:
    """No object class is no kind; a text id is an id."""
    events, _ = run([{"task_id": "T-1", "event": "task_created", "timestamp": "2025-01-16T11:07:57"}])
    assert events[0]["subject"] == "T-1"
    assert events[0]["time"] == "2025-01-16T11:07:57Z"
    assert events[0]["data"]["task"]["kind"] is None


def test_an_item_without_a_timestamp_is_no_loss() -> None:
    """It happened when it was received (contract, section 1, `time`), and each one is its own occurrence."""
    timeless = {"task_id": 1, "object_class_id": 1, "event": "task_created"}
    events, _ = run([timeless, {**timeless, "timestamp": None}], [timeless])
    assert [event["time"] for event in events] == [NOW] * 3
    assert len({event["id"] for event in events}) == 3
    assert events[0]["data"]["task"]["created_at"] is None


@pytest.mark.parametrize(
    ("code", "fixed", "fresh"),
    [
        ("ERR_INVALID_UUID", "refused", "retry"), ("ERR_INCORRECT_URL", "refused", "refused"),
        ("ERR_RATE_LIMIT_EXCEEDED", "slow_down", "slow_down"), ("RECEIVE_NOT_SUPPORTED", "retry", "retry"),
        ("ERR_TOMORROW", "retry", "retry"),
    ],
)  # fmt: skip
def test_the_error_objects(code: str, fixed: str, fresh: str) -> None:
    """catalyst-task-events.txt, "Errors": what each means for the next connect; with one-time uuids the next one is new."""
    frame = json.dumps({"type": "error", "error_code": code, "detail": "A detail."}, indent=1)
    renewing = catalyst(auth_url="http://up/auth", api_key="a")
    for adapter, verdict, ticket in ((catalyst(), fixed, None), (renewing, fresh, b'{"uuid":"x"}')):
        connection = session(adapter, ticket=ticket)
        assert connection.on_frame(frame) == [Fault(code, "A detail.", verdict)]  # type: ignore[arg-type]
        assert connection.on_close(1000, "Normal Closure") == "retry"


@pytest.mark.parametrize("frame", ["", "7", "{}", '{"type":"error"}', "[", b"\xff", "[" * 100_000, '{"error_code":5}'])
def test_what_cannot_be_understood_is_rejected(frame: str | bytes) -> None:
    """The connection stays."""
    (rejected,) = session(catalyst()).on_frame(frame)
    assert isinstance(rejected, Rejected)


def test_an_empty_list_says_nothing() -> None:
    """A quiet five seconds."""
    assert session(catalyst()).on_frame("[]") == []


@given(st.one_of(st.text(), st.binary()))
def test_no_input_raises(frame: str | bytes) -> None:
    """Whatever comes, a session answers with items."""
    assert isinstance(session(catalyst()).on_frame(frame), list)


@given(st.lists(st.dictionaries(st.sampled_from([*SAMPLE[0]]), st.none() | st.integers() | st.text() | st.floats())))
def test_no_json_raises(items: list[Any]) -> None:
    """An item a list entry: each is understood or rejected."""
    answer = session(catalyst()).on_frame(json.dumps(items))
    assert len(answer) == len(items) or isinstance(answer[0], Rejected)
    assert all(isinstance(entry, Observation | Rejected) for entry in answer)


# --- the uuid --------------------------------------------------------------------------------------------------------


def test_a_fixed_uuid() -> None:
    """The query parameter of the documented path."""
    adapter = catalyst()
    assert adapter.authorize(adapter.streams()[0]) is None
    assert session(adapter).request().url == "ws://up/ws/events/tasks/?uuid=u-u-i-d"
    assert adapter.secrets() == ["u-u-i-d"]


def test_a_fresh_uuid_for_each_connect() -> None:
    """`auth_url` is asked with the credentials; its answer goes into the handshake."""
    assert catalyst(auth_url=None, uuid="u").secrets() == ["u"]
    only_headers = catalyst(auth_url="https://up/api/users/ws-auth/", auth_headers={"X-Key": "k"})
    asked = only_headers.authorize(only_headers.streams()[0])
    assert asked is not None
    assert asked.headers == {"Accept": "application/json", "X-Key": "k"}
    adapter = catalyst(auth_url="https://up/api/users/ws-auth/", api_key="k", auth_headers={"X-Tenant": "t"})
    request = adapter.authorize(adapter.streams()[0])
    assert request is not None
    assert request.url == "https://up/api/users/ws-auth/"
    assert request.headers["Authorization"] == "Bearer k"
    assert request.headers["X-Tenant"] == "t"
    opened = session(adapter, ticket=b'{"uuid":"fresh"}')
    assert opened.request().url.endswith("?uuid=fresh")
    assert opened.secrets() == ["fresh"]  # upstreams have echoed it in error objects
    assert adapter.secrets() == ["k", "t"]
    for ticket in (None, b"{}", b"x", b'{"uuid":5}'):
        with pytest.raises(ValueError, match="has no uuid"):
            session(adapter, ticket=ticket)


@pytest.mark.parametrize(
    "options",
    [
        {"uuid": None}, {"uuid": "u", "auth_url": "http://x/"}, {"uuid": "u", "api_key": "k"}, {"auth_url": "ftp://x/"},
        {"auth_url": "http://user:pw@x/"}, {"uuid": ""}, {"uuid": "u", "auth_url": None, "auth_headers": {"a": "b"}},
    ],
)  # fmt: skip
def test_there_is_one_way_in(options: dict[str, Any]) -> None:
    """Either a uuid, or where to get one."""
    with pytest.raises(ValidationError):
        catalyst(**options)
