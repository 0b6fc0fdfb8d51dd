"""emit.run, by its document: every documented message, the stripping table, resume, repair."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.api import Continuity, Finished, Observation, Rejected, Resume
from gateway.pipeline.tasks import Verdict
from tests.adapters.kit import NOW, Gateway, emit, session, types

JOB = "01JLQX..."


def message(kind: str, status: str, time: str, **rest: Any) -> dict[str, Any]:
    return {"jobId": JOB, "jobName": "process-video", "type": kind, "status": status, **rest, "timestamp": time}


#: emit-websockets.txt, "Message samples", and the types of which it has none.
INIT = message("init", "running", "2025-02-24T10:31:05.000Z")
PROGRESS = message(
    "progress", "running", "2025-02-24T10:32:00.000Z", data={"percent": 65, "step": "encoding", "fps": 30}
)
COMPLETED = message(
    "completed",
    "completed",
    "2025-02-24T10:34:20.000Z",
    data={"output_url": "s3://bucket/output.mp4", "duration_ms": 12340},
)
DEAD = message("dead", "dead", "2025-02-24T10:42:00.000Z", data={"error": "FFmpeg exited with code 1: out of memory"})
RETRIED = message(
    "retried", "pending", "2025-02-24T10:33:10.000Z", data={"error": "Connection timeout", "attemptNumber": 1}
)
DELIVERED = message("delivered", "delivered", "2025-02-24T10:30:00.000Z")
ACKED = message("acked", "running", "2025-02-24T10:31:00.000Z")
CHECKPOINT = message("checkpoint", "running", "2025-02-24T10:33:00.000Z", data={"frame": 7})
TIMEOUT = message("delivery_timeout", "pending", "2025-02-24T10:30:30.000Z")


def space() -> Any:
    return session(emit(spaces=["01JL"]))


def run(*messages: dict[str, Any], connection: Any = None) -> tuple[list[dict[str, Any]], Gateway]:
    gateway = Gateway(emit())
    return gateway.frames(connection or space(), *map(json.dumps, messages)), gateway


def whole(kind: str, native: dict[str, Any], task: dict[str, Any], **data: Any) -> dict[str, Any]:
    """A canonical event but for its id."""
    known = {
        "key": f"jobs/{JOB}", "id": JOB, "source": "jobs", "adapter": "emit", "kind": "process-video",
        "name": "process-video", "progress": None, "attempt": None, "created_at": None, "started_at": None,
        "completed_at": None, "queue": None, "priority": None, "cost_credits": None, "native_status": native["status"],
    }  # fmt: skip
    return {
        "specversion": "1.0", "sequence": "0" * 20, "source": "/emit/jobs", "type": kind, "subject": JOB,
        "time": native["timestamp"], "datacontenttype": "application/json",
        "dataschema": "urn:mainstem:schema:task-event:1", "partitionkey": f"jobs/{JOB}",
        "data": {
            "task": {**known, **task}, "changed": ["status", "native_status", "kind", "name"], "detail": None, "input": None,
            "result": None, "error": None, "origin": "live", "redacted": False, "received_at": NOW,
            "native": {"type": native["type"], "payload": native}, **data,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("native", "kind", "task", "data"),
    [
        (INIT, "task.started", {"status": "running"}, {"origin": "catchup"}),
        (DELIVERED, "task.dispatched", {"status": "dispatched"}, {}),
        (
            ACKED,
            "task.started",
            {"status": "running", "started_at": ACKED["timestamp"]},
            {"changed": ["status", "native_status", "kind", "name", "started_at"]},
        ),
        (
            PROGRESS,
            "task.progressed",
            {"status": "running", "progress": 65},
            {"detail": PROGRESS["data"], "changed": ["status", "native_status", "kind", "name", "progress", "detail"]},
        ),
        (
            CHECKPOINT,
            "task.checkpointed",
            {"status": "running"},
            {"detail": {"frame": 7}, "changed": ["status", "native_status", "kind", "name", "detail"]},
        ),
        (
            COMPLETED,
            "task.succeeded",
            {"status": "succeeded", "completed_at": COMPLETED["timestamp"]},
            {
                "result": COMPLETED["data"],
                "changed": ["status", "native_status", "kind", "name", "completed_at", "result"],
            },
        ),
        (
            RETRIED,
            "task.retried",
            {"status": "queued", "attempt": 1},
            {
                "error": {"code": None, "message": "Connection timeout", "suggestion": None},
                "changed": ["status", "native_status", "kind", "name", "attempt", "error"],
            },
        ),
        (
            DEAD,
            "task.failed",
            {"status": "failed", "completed_at": DEAD["timestamp"]},
            {
                "error": {"code": None, "message": "FFmpeg exited with code 1: out of memory", "suggestion": None},
                "changed": ["status", "native_status", "kind", "name", "completed_at", "error"],
            },
        ),
        (TIMEOUT, "task.requeued", {"status": "queued"}, {}),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) and "type" in value else None,
)
def test_each_documented_message_gives_a_whole_event(
    native: dict[str, Any], kind: str, task: dict[str, Any], data: dict[str, Any]
) -> None:
    """emit-websockets.txt, "Message samples", at first sight: an occurrence keeps its own type."""
    (event,), _ = run(native)
    assert {key: value for key, value in event.items() if key != "id"} == whole(kind, native, task, **data)


def test_a_life_with_retry_and_death() -> None:
    """All nine types in one life; what a retry undoes is undone."""
    later = {**COMPLETED, "timestamp": "2025-02-24T10:50:00.000Z"}
    events, gateway = run(
        message("init", "pending", "2025-02-24T10:29:00.000Z"), DELIVERED, TIMEOUT,
        {**DELIVERED, "timestamp": "2025-02-24T10:30:40.000Z"}, ACKED, PROGRESS, CHECKPOINT, RETRIED,
        {**ACKED, "timestamp": "2025-02-24T10:40:00.000Z"}, DEAD, PROGRESS, later,
    )  # fmt: skip
    assert types(events) == [
        "task.queued", "task.dispatched", "task.requeued", "task.dispatched", "task.started", "task.progressed",
        "task.checkpointed", "task.retried", "task.started", "task.failed", "task.succeeded",
    ]  # fmt: skip
    assert gateway.verdicts == [Verdict.STALE]
    retried = events[7]["data"]["task"]
    assert (retried["status"], retried["progress"], retried["started_at"]) == ("queued", None, None)
    assert events[8]["data"]["error"] is None
    assert events[10]["data"]["task"]["status"] == "succeeded"
    assert len({event["id"] for event in events}) == len(events)


@pytest.mark.parametrize("again", [RETRIED, DELIVERED, ACKED])
@pytest.mark.parametrize("end", [DEAD, message("killed", "killed", "2025-02-24T10:42:00.000Z")])
def test_a_real_rerun_is_not_stale(end: dict[str, Any], again: dict[str, Any]) -> None:
    """contract, section 1: `retried`, `delivered` or `acked` after `dead` or `killed`; and its end is a new occurrence."""
    again = {**again, "timestamp": "2025-02-24T10:43:00.000Z"}
    events, _ = run(end, again, {**end, "timestamp": "2025-02-24T10:44:00.000Z"})
    assert len(events) == 3
    assert events[1]["data"]["task"]["completed_at"] is None
    assert len({event["id"] for event in events}) == 3


@pytest.mark.parametrize("late", [PROGRESS, CHECKPOINT, TIMEOUT, RETRIED, ACKED, DELIVERED, INIT])
def test_nothing_moves_a_completed_job_back(late: dict[str, Any]) -> None:
    """Stale: counted, not published."""
    events, gateway = run(COMPLETED, {**late, "timestamp": "2025-02-24T11:00:00.000Z"})
    assert types(events) == ["task.succeeded"]
    assert gateway.verdicts == [Verdict.STALE]


@pytest.mark.parametrize(
    ("native", "redacted"),
    [
        (COMPLETED, True),
        (DEAD, True),
        (RETRIED, True),
        (CHECKPOINT, True),
        (DELIVERED, False),
        (ACKED, False),
        (TIMEOUT, False),
    ],
)
@pytest.mark.parametrize("missing", [True, False])
def test_stripped_data_is_marked(native: dict[str, Any], redacted: bool, missing: bool) -> None:
    """emit-websockets.txt, "Scope-Based Data Filtering": data is missing or null; type and status still say what happened."""
    stripped = {key: value for key, value in native.items() if key != "data"} | ({} if missing else {"data": None})
    (event,), _ = run(stripped, connection=session(emit(jobs=[JOB])))
    assert event["data"]["redacted"] is redacted
    assert event["data"]["task"]["attempt"] is None
    assert event["data"]["error"] is None
    assert event["id"] == run(native)[0][0]["id"] or native is CHECKPOINT
    (full,), _ = run(stripped)
    assert full["data"]["redacted"] is False  # a space stream needs jobs:read: nothing can have been removed


def test_the_same_occurrence_has_one_id_and_different_ones_never_share_one() -> None:
    """Two progress events of one millisecond differ by their data."""
    twin = {**PROGRESS, "data": {"percent": 66}}
    ids = [run(native)[0][0]["id"] for native in (PROGRESS, PROGRESS, twin, {**PROGRESS, "jobId": "other"})]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    events, gateway = run(PROGRESS, PROGRESS)
    assert len(events) == 1
    assert gateway.verdicts == [Verdict.DUPLICATE]


def test_init_that_shows_a_missed_step_publishes_it_once() -> None:
    """The ordinary type with origin `catchup`; the occurrence behind it adds what a state does not carry, once."""
    done = message("init", "completed", "2025-02-24T10:35:00.000Z")
    events, gateway = run(PROGRESS, done, done, COMPLETED, COMPLETED)
    assert types(events) == ["task.progressed", "task.succeeded", "task.updated"]
    assert events[1]["data"]["origin"] == "catchup"
    assert events[2]["data"]["changed"] == ["completed_at", "result"]
    assert gateway.verdicts == [Verdict.DUPLICATE, Verdict.DUPLICATE]


def test_late_news_takes_nothing_back() -> None:
    """Out of order: each occurrence is published, the state stays where the newest one put it."""
    early = {**PROGRESS, "data": {"percent": 10}, "timestamp": "2025-02-24T10:31:30.000Z"}
    events, gateway = run(PROGRESS, early, ACKED, COMPLETED)
    assert types(events) == ["task.progressed", "task.progressed", "task.started", "task.succeeded"]
    assert [event["data"]["task"]["progress"] for event in events] == [65, 65, 65, 65]
    assert events[2]["data"]["task"]["started_at"] == ACKED["timestamp"]
    assert gateway.states[JOB].task.status == "succeeded"


def test_the_end_counts_even_when_it_is_overtaken() -> None:
    """A progress event that was stamped after `completed` but came before it does not hide the end."""
    events, _ = run({**PROGRESS, "timestamp": "2025-02-24T10:35:00.000Z"}, COMPLETED)
    assert events[-1]["data"]["task"]["status"] == "succeeded"


@pytest.mark.parametrize(
    "data", [None, 7, "half way", [1], {"percent": "65"}, {"percent": True}, {"percent": 250}, {"a": {"b": 1}}]
)
def test_progress_data_is_whatever_the_worker_sent(data: Any) -> None:
    """Only a number under `percent` is progress, clamped; the rest is detail."""
    (event,), _ = run({**PROGRESS, "data": data})
    assert event["data"]["detail"] == data
    assert event["data"]["task"]["progress"] == (100 if data == {"percent": 250} else None)


def test_words_of_tomorrow() -> None:
    """Newer types and statuses: killed, custom events, `scheduled`; unknown ones become `task.updated` with `native`."""
    events, _ = run(
        message("init", "scheduled", "2025-02-24T10:00:00.000Z"),
        message("created", "pending", "2025-02-24T10:00:01.000Z", data={"reportId": 42}),
        message("thumbnail-ready", "running", "2025-02-24T10:00:02.000Z", data={"url": "u"}),
        message("levitated", "floating", "2025-02-24T10:00:03.000Z"),
        message("killed", "killed", "2025-02-24T10:00:04.000Z"),
        {**message("init", "floating", "2025-02-24T10:00:05.000Z"), "jobId": "other"},
    )
    assert types(events) == [
        "task.created",
        "task.created",
        "task.updated",
        "task.updated",
        "task.cancelled",
        "task.updated",
    ]
    assert events[1]["data"]["input"] == {"reportId": 42}
    assert events[2]["data"]["detail"] == {"url": "u"}
    assert events[3]["data"]["task"]["native_status"] == "floating"
    assert events[5]["data"]["task"]["status"] == "unknown"


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("{", "malformed"), ("[]", "malformed"), ("7", "malformed"), (b"\xff", "malformed"), ("{}", "no_type"),
        ('{"type":5}', "no_type"), ('{"type":"progress"}', "no_job_id"), ('{"type":"progress","jobId":1}', "no_job_id"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_rejected_and_named(frame: str | bytes, reason: str) -> None:
    """One bad frame costs itself alone."""
    (item,) = space().on_frame(frame)
    assert isinstance(item, Rejected)
    assert item.reason == reason


@given(st.one_of(st.text(), st.binary()))
def test_no_input_raises(frame: str | bytes) -> None:
    """Whatever comes, a session answers with items."""
    assert isinstance(space().on_frame(frame), list)


@given(
    st.dictionaries(
        st.sampled_from([*PROGRESS, "seq", "missed", "streamInstanceId"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
        ),
    ),
    st.sampled_from(["init", "progress", "retried", "dead", "completed", "connected", "?"]),
)
def test_no_json_raises(fields: dict[str, Any], kind: str) -> None:
    """The same for JSON of any shape in every documented field."""
    assert space().on_frame(json.dumps({**PROGRESS, "type": kind, **fields}))


# --- connections -----------------------------------------------------------------------------------------------------


def test_streams_follow_the_configuration() -> None:
    """Space and job streams by their documented paths, the token as a query parameter."""
    adapter = emit(spaces=["s/1"], jobs=[JOB], url="wss://emit.run")
    assert [stream.path for stream in adapter.streams()] == [
        "/api/v1/realtime/spaces/s%2F1",
        "/api/v1/realtime/01JLQX...",
    ]
    assert session(adapter, 1).request().url == "wss://emit.run/api/v1/realtime/01JLQX...?token=k3y"
    assert adapter.lookup(JOB).url == "https://emit.run/api/v1/jobs/01JLQX..."
    assert adapter.lookup(JOB).headers["x-api-key"] == "k3y"
    listing = adapter.listing(adapter.streams()[0], 2)
    assert listing is not None
    assert listing.url == "https://emit.run/api/v1/spaces/s%2F1/jobs?limit=100&offset=200"
    assert adapter.listing(adapter.streams()[1], 0) is None
    assert emit(api_key="other").lookup(JOB).headers["x-api-key"] == "other"
    assert emit(api_key="other").secrets() == ["k3y", "other"]
    assert adapter.probe(JOB).key == f"job:{JOB}"


@pytest.mark.parametrize("options", [{"jobs": ["spaces"]}, {"spaces": [""]}, {"jobs": [".."]}])
def test_ids_that_would_be_another_endpoint_are_refused(options: dict[str, Any]) -> None:
    """`/api/v1/realtime/spaces` is no job."""
    with pytest.raises(ValidationError):
        emit(**options)


def test_a_newer_space_stream_resumes_by_sequence() -> None:
    """`connected` tells what was missed; position and instance come back on the next connect."""
    connection = space()
    assert connection.cursor is None
    items = connection.on_frame(
        json.dumps({"type": "connected", "seq": 41, "streamInstanceId": "i1", "missed": 0, "counts": {}})
    )
    assert items == [Continuity(0)]
    for missed, number in ((False, 0), (True, None), (3, 3)):
        assert connection.on_frame(json.dumps({"type": "connected", "missed": missed})) == [Continuity(number)]
    connection.on_frame(json.dumps({**PROGRESS, "seq": 42}))
    assert connection.cursor == {"seq": 42, "instance": "i1"}
    resumed = session(emit(spaces=["01JL"]), resume=Resume(first=False, now=NOW, cursor=connection.cursor))
    assert resumed.request().url.endswith("?token=k3y&since=42&streamInstanceId=i1")
    assert resumed.on_frame(json.dumps({"type": "connected"})) == [Continuity(None)]


@pytest.mark.parametrize("last", [COMPLETED, DEAD, message("init", "dead", "2025-02-24T10:31:05.000Z")])
def test_a_job_stream_ends_with_its_job(last: dict[str, Any]) -> None:
    """The client closes after `completed` or `dead` (emit-websockets.txt, "Job Stream")."""
    connection = session(emit(jobs=[JOB]))
    assert connection.on_close(1000, "") == "retry"
    assert connection.on_frame(json.dumps(last))[-1] == Finished()
    assert connection.on_close(1006, "") == "finished"
    custom = message("note", "completed", "2025-02-24T10:31:05.000Z")
    assert Finished() not in session(emit(jobs=[JOB])).on_frame(json.dumps(custom))


def test_rest_answers_are_states() -> None:
    """One job, bare or wrapped; a list, bare or wrapped; a bad item costs itself alone."""
    job = {
        "id": JOB, "spaceId": "s", "name": "process-video", "payload": {"a": 1}, "status": "completed", "maxRetries": 3,
        "attemptNumber": 2, "startedAt": "2025-02-24T10:31:00.000Z", "completedAt": "2025-02-24T10:34:20.000Z",
        "result": {"output_url": "u"}, "createdAt": "2025-02-24T10:29:00.000Z",
    }  # fmt: skip
    adapter = emit()
    for body in (job, {"job": job, "events": []}, {"data": job}):
        (item,) = adapter.on_lookup(JOB, json.dumps(body, indent=1).encode())
        assert isinstance(item, Observation)
        event = Gateway(adapter).observe(item)
        assert event is not None
        assert event["type"] == "task.succeeded"
        assert event["data"]["origin"] == "reconcile"
        assert event["id"] == run(COMPLETED)[0][0]["id"]  # the same occurrence as the live one
        assert event["data"]["input"] == {"a": 1}
        assert event["data"]["task"]["attempt"] == 2
    for listing in ([job, {"id": 5}], {"jobs": [job, 7]}):
        items = adapter.on_listing(json.dumps(listing).encode())
        assert [type(item) for item in items] == [Observation, Rejected]
    assert adapter.on_listing(b"{}") == []
    assert isinstance(adapter.on_listing(b"x")[0], Rejected)
    assert isinstance(adapter.on_lookup(JOB, b"x")[0], Rejected)
    failed = {**job, "status": "dead", "result": {"error": "boom"}}
    (item,) = adapter.on_lookup(JOB, json.dumps(failed).encode())
    assert isinstance(item, Observation)
    assert item.error is not None
    assert item.error.message == "boom"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"error": "boom"}, "boom"),
        ({"error": {"code": 1}}, '{"code":1}'),
        ({"error": None}, None),
        ({}, None),
        ("boom", None),
        (None, None),
    ],
)
def test_errors_are_messages(data: Any, message: str | None) -> None:
    """`data.error` as message; an error that is no text is shown as it is written."""
    (event,), _ = run({**DEAD, "data": data})
    assert event["data"]["error"] == (
        None if message is None else {"code": None, "message": message, "suggestion": None}
    )
    (killed,), _ = run({**DEAD, "type": "killed", "data": data})
    assert killed["data"]["detail"] == (data if message is None else None)


def test_a_job_without_news_of_its_details_is_a_state_all_the_same() -> None:
    """The least that REST may answer; a failed one whose result names no error; an unknown wrapper."""
    adapter = emit()
    for fields in ({}, {"result": {"x": 1}}, {"result": 5}):
        (item,) = adapter.on_lookup(JOB, json.dumps({"id": JOB, "status": "dead", **fields}).encode())
        assert isinstance(item, Observation)
        assert item.status == "failed"
        assert not item.error
    assert isinstance(adapter.on_lookup(JOB, b'{"other":{}}')[0], Rejected)
    (created,), _ = run(message("created", "pending", "2025-02-24T10:00:00Z"))
    assert created["data"]["input"] is None


def test_what_breaks_inside_a_message_is_rejected() -> None:
    """A frame that is JSON on the outside and not on the inside."""
    frame = json.dumps({**PROGRESS, "data": None}).replace('"data": null', '"data": {"percent": 1e999}')
    (item,) = space().on_frame(frame)
    assert isinstance(item, Rejected | Observation)
    deep = json.dumps({**DEAD, "data": None}).replace('"data": null', '"data": {"error": "\\ud80"}')
    (rejected,) = space().on_frame(deep)
    assert isinstance(rejected, Rejected)
