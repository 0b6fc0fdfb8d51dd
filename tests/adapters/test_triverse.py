"""Triverse, by its documents: every documented message, both shapes, the end of a watch, `since`, internal fields."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.api import Finished, Observation, Rejected, Resume
from adapters.triverse import wire
from tests.adapters.kit import FIRST, NOW, Gateway, session, sse, triverse, types

TASK = "92483a80-236c-4889-9a95-4c90bb64dfd8"
INPUT = {"image_url": "https://.../input.png", "model_version": "v2"}
#: triverse-websockets.txt, "Data Structure"
RUNNING = {
    "task_uuid": TASK, "flow_name": "image-to-model", "status": "RUNNING", "progress": 40,
    "created_at": "2026-05-27T00:00:00Z", "started_at": "2026-05-27T00:00:12Z", "completed_at": None,
    "input": INPUT, "output": None, "error": None,
    "queue": {"is_queued": False, "position": None, "estimated_wait_seconds": None},
}  # fmt: skip
#: triverse-task-status.txt, "Example Response"
OUTPUT = {
    "geometry_model_url": ["https://.../geometry.glb"],
    "textured_model_url": ["https://.../textured.glb"],
    "preview_url": "https://.../preview.png",
}
SUCCESS = {
    "task_uuid": TASK, "flow_name": "image-to-model", "status": "SUCCESS", "progress": 100,
    "created_at": "2026-05-27T00:00:00Z", "started_at": "2026-05-27T00:00:12Z", "completed_at": "2026-05-27T00:08:44Z",
    "input": {**INPUT, "polygon_limit": 1000000, "texture_size": 1024}, "output": OUTPUT, "error": None, "queue": None,
}  # fmt: skip
#: triverse-common-structures.txt, "Task Creation Response Payload"
CREATION = {
    "code": 0, "message": "success",
    "data": {
        "task_uuid": TASK, "name": "image-to-model-92483a80", "created_at": "2025-08-05T12:39:48.228522Z",
        "is_public": True, "task_priority": 0, "status": "PENDING", "flow_name": "image-to-model",
        "input": {"image_url": "https://.../input.png", "model_version": "v2", "polygon_limit": 1000000, "texture_size": 1024},
        "costCredits": 120,
    },
}  # fmt: skip
#: triverse-common-structures.txt, "Flow Status Payload"
FLOW = {
    "code": 0, "message": "success",
    "data": {
        "flowName": "image-to-model", "taskId": TASK, "status": "RUNNING", "input": INPUT,
        "output": {
            "geometry_job_status": "COMPLETED", "texture_job_status": "IN_PROGRESS",
            "preprocessed_image_url": ["https://.../preprocessed_input_image_0.png"],
            "geometry_model_url": ["https://.../textureless_model_0.glb"], "textured_model_url": None,
        },
        "createTime": "2025-08-05T12:39:48.228522Z",
    },
}  # fmt: skip


def state(status: str, **fields: Any) -> dict[str, Any]:
    return {"task_uuid": TASK, "flow_name": "f", "status": status, "created_at": "2026-05-27T00:00:00Z", **fields}


def whole(kind: str, time: str, task: dict[str, Any], **data: Any) -> dict[str, Any]:
    """A canonical event but for its id."""
    known = {
        "key": f"studio/{TASK}", "id": TASK, "source": "studio", "adapter": "triverse", "kind": "image-to-model",
        "name": None, "native_status": None, "progress": None, "attempt": None, "created_at": None, "started_at": None,
        "completed_at": None, "queue": None, "priority": None, "cost_credits": None,
    }  # fmt: skip
    return {
        "specversion": "1.0", "sequence": "0" * 20, "source": "/triverse/studio", "type": kind, "subject": TASK,
        "time": time, "datacontenttype": "application/json", "dataschema": "urn:mainstem:schema:task-event:1",
        "partitionkey": f"studio/{TASK}",
        "data": {
            "task": {**known, **task}, "changed": [], "detail": None, "input": None, "result": None, "error": None,
            "origin": "live", "redacted": False, "received_at": NOW, **data,
        },
    }  # fmt: skip


def without_id(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "id"}


def test_the_documented_conversation_gives_whole_events() -> None:
    """Creation answer, running frame, `update` with SUCCESS, `finalized`: three events, each as documented in full."""
    adapter = triverse(watch=[TASK])
    gateway, connection = Gateway(adapter), session(adapter)
    (created,) = adapter.created(json.dumps(CREATION).encode())
    assert isinstance(created, Observation)
    first = gateway.observe(created)
    events = gateway.frames(connection, sse(RUNNING), sse(SUCCESS), sse(SUCCESS, "finalized"))
    assert first is not None
    assert without_id(first) == whole(
        "task.created",
        "2025-08-05T12:39:48.228522Z",
        {
            "status": "pending", "native_status": "PENDING", "name": "image-to-model-92483a80", "priority": 0,
            "cost_credits": 120, "created_at": "2025-08-05T12:39:48.228522Z",
        },
        changed=["status", "native_status", "kind", "name", "created_at", "priority", "cost_credits", "input"],
        input=CREATION["data"]["input"],  # type: ignore[index]
        native={"type": "created", "payload": CREATION["data"]},
    )  # fmt: skip
    about = {"name": "image-to-model-92483a80", "priority": 0, "cost_credits": 120}
    times = {"created_at": "2026-05-27T00:00:00Z", "started_at": "2026-05-27T00:00:12Z"}
    assert [without_id(event) for event in events] == [
        whole(
            "task.started",
            "2026-05-27T00:00:12Z",
            {
                **about, **times, "status": "running", "native_status": "RUNNING", "progress": 40,
                "queue": {"position": None, "estimated_wait_seconds": None},
            },
            changed=["status", "native_status", "progress", "created_at", "started_at", "queue", "input"],
            input=INPUT,
            native={"type": "update", "payload": RUNNING},
        ),
        whole(
            "task.succeeded",
            "2026-05-27T00:08:44Z",
            {
                **about, **times, "status": "succeeded", "native_status": "SUCCESS", "progress": 100,
                "completed_at": "2026-05-27T00:08:44Z",
            },
            changed=["status", "native_status", "progress", "completed_at", "queue", "input", "result"],
            input=SUCCESS["input"],
            result=OUTPUT,
            native={"type": "update", "payload": SUCCESS},
        ),
    ]  # fmt: skip
    assert gateway.others == [Finished()]


def test_the_older_shape_is_the_same_task() -> None:
    """FlowStatusPayload, enveloped: what it does not mention (progress, times) stays known."""
    gateway, connection = Gateway(triverse()), session(triverse())
    first, second = gateway.frames(connection, sse(RUNNING), sse(FLOW))
    assert second["type"] == "task.updated"
    assert second["data"]["task"]["progress"] == 40
    assert second["data"]["task"]["started_at"] == "2026-05-27T00:00:12Z"
    assert second["data"]["result"] == FLOW["data"]["output"]  # type: ignore[index]
    assert second["data"]["changed"] == ["created_at", "result"]
    assert first["data"]["result"] is None


def test_the_same_state_in_other_words_is_the_same_state() -> None:
    """Spaces, line breaks, order of keys and the envelope are no news."""
    gateway, connection = Gateway(triverse()), session(triverse())
    reordered = dict(reversed(list(SUCCESS.items())))
    lines = (
        "event: update\n" + "\n".join(f"data: {line}" for line in json.dumps(SUCCESS, indent=2).splitlines()) + "\n\n"
    )
    enveloped = sse({"code": 0, "message": "success", "data": SUCCESS})
    events = gateway.frames(connection, sse(SUCCESS), lines, sse(reordered), enveloped)
    assert types(events) == ["task.succeeded"]
    assert len(gateway.verdicts) == 3


def test_types_are_derived_from_states() -> None:
    """contract section 1, column Triverse, every row."""
    gateway, connection = Gateway(triverse()), session(triverse())
    queue = {"is_queued": True, "position": 3, "estimated_wait_seconds": 12.5}
    frames = [
        state("PENDING"), state("QUEUED", queue=queue), state("QUEUED", queue={**queue, "position": 2}),
        state("RUNNING", progress=0), state("RUNNING", progress=10), state("RUNNING", progress=10, output={"a": 1}),
        state("QUEUED"), state("RUNNING", progress=10), state("RUNNING", progress=20), state("PENDING"),
        state("RUNNING", progress=20), state("FAILED", error={"code": 5003, "message": "boom", "suggestion": "retry"}),
        state("RUNNING", progress=30),
    ]  # fmt: skip
    events = gateway.frames(connection, *map(sse, frames))
    assert types(events) == [
        "task.created", "task.queued", "task.updated", "task.started", "task.progressed", "task.updated",
        "task.requeued", "task.started", "task.progressed", "task.requeued", "task.started", "task.failed",
    ]  # fmt: skip
    assert events[-1]["data"]["error"] == {"code": 5003, "message": "boom", "suggestion": "retry"}
    assert events[1]["data"]["task"]["queue"] == {"position": 3, "estimated_wait_seconds": 12.5}
    assert [verdict.value for verdict in gateway.verdicts] == ["stale"]
    assert len({event["id"] for event in events}) == len(events)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("PENDING", "task.created"), ("QUEUED", "task.queued"), ("RUNNING", "task.started"), ("SUCCESS", "task.succeeded"),
        ("FAILED", "task.failed"), ("CANCELLED", "task.cancelled"), ("PAUSED", "task.updated"),
    ],
)  # fmt: skip
def test_the_first_sight_is_published_as_the_type_of_its_status(status: str, kind: str) -> None:
    """Also for a status of tomorrow: `task.updated`, status unknown, the native word kept."""
    (event,) = Gateway(triverse()).frames(session(triverse()), sse(state(status)))
    assert event["type"] == kind
    assert event["data"]["task"]["native_status"] == status


def test_internal_fields_never_leave_at_any_depth() -> None:
    """Documented as not public, snake or camel, top level or nested, in known or unknown containers, escaped or not."""
    secret = {
        "user_id": "S3CRET", "flow_run_id": "S3CRET", "is_terminal": "S3CRET", "changed": ["S3CRET"], "userId": "S3CRET",
        "flowRunId": "S3CRET", "rawPrefectState": "S3CRET", "raw_prefect_state": "S3CRET", "statusDetail": "S3CRET",
        "workQueueName": "S3CRET", "work_queue_name": "S3CRET", "deploymentId": "S3CRET", "deployment_id": "S3CRET",
        "pricingSnapshot": "S3CRET", "pricing_snapshot": {"x": "S3CRET"}, "analytics": "S3CRET", "analytics_context": "S3CRET",
        "scheduler_state": "S3CRET", "isTerminal": "S3CRET", "worker_queue_name": "S3CRET", "analyticsContext": ["S3CRET"],
        "deployment_ids": ["S3CRET"], "DeploymentIds": "S3CRET", "flowRunIds": "S3CRET", "user_ids": "S3CRET", "flow-run-name": "S3CRET",
    }  # fmt: skip
    payload = {
        **secret, **SUCCESS, "output": {"deep": [{"er": secret}], **secret}, "input": secret, "queue": secret,
        "error": {"message": "m", **secret}, "tomorrow": {"nested": [secret], "kept": 1},
    }  # fmt: skip
    escaped = sse({**SUCCESS, "task_uuid": "other"}).replace('"output": {', '"output": {"user\\u005fid": "S3CRET", ')
    gateway = Gateway(triverse())
    events = gateway.frames(session(triverse()), sse(payload), escaped)
    assert len(events) == 2
    assert "S3CRET" not in json.dumps(events)
    assert events[0]["data"]["native"]["payload"]["tomorrow"] == {"nested": [{}], "kept": 1}
    assert events[0]["data"]["result"] == {"deep": [{"er": {}}]}
    answer = wire.public_object(
        json.dumps({"code": 0, "message": "ok", "data": {"download_url": "u", **secret}}).encode()
    )
    assert bytes(answer) == b'{"download_url":"u"}'  # type: ignore[arg-type]


def test_a_change_of_an_unknown_public_field_is_a_change() -> None:
    """Fields of tomorrow break nothing and are not lost: `task.updated` with `native`."""
    frames = [sse({**RUNNING, "tomorrow": value}) for value in (1, 1, 2)]
    events = Gateway(triverse()).frames(session(triverse()), *frames)
    assert types(events) == ["task.started", "task.updated"]
    assert events[1]["data"]["changed"] == []
    assert events[1]["data"]["native"]["payload"]["tomorrow"] == 2


def test_wrong_types_are_nulls_not_losses() -> None:
    """Only the id and the status are needed to know what happened."""
    odd = state(
        "RUNNING", progress="40", started_at=5, queue=[1], error="text", input=None, flow_name=7, task_priority="x"
    )
    (event,) = Gateway(triverse()).frames(session(triverse()), sse(odd))
    task = event["data"]["task"]
    assert (task["progress"], task["started_at"], task["queue"], task["kind"]) == (None, None, None, None)
    assert event["data"]["error"] == {"code": None, "message": "text", "suggestion": None}


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("event: update\ndata: {", "malformed"),
        ("event: update\ndata: [1]", "malformed"),
        ("not an event stream", "malformed"),
        (b"\xff", "malformed"),
        (sse({"status": "RUNNING"}), "no_task_id"),
        (sse({"task_uuid": 5, "status": "RUNNING"}), "no_task_id"),
        (sse({"task_uuid": "x", "status": None}), "no_status"),
        (sse({"code": 1005, "message": "not found"}), "upstream_error"),
        (sse({"code": 2000, "message": "limit", "data": None}), "upstream_error"),
        ("event: update\ndata: " + "[" * 100_000, "malformed"),
        (sse({"task_uuid": "x", "status": "\ud800"}).replace("ud800", "ud80"), "malformed"),
    ],
)
def test_what_cannot_be_understood_is_rejected_and_named(frame: str | bytes, reason: str) -> None:
    """One bad frame costs itself alone: the next one is read as if nothing had been."""
    connection = session(triverse())
    (item,) = connection.on_frame(frame)
    assert isinstance(item, Rejected)
    assert item.reason == reason
    assert item.problem
    assert isinstance(connection.on_frame(sse(RUNNING))[0], Observation)


def test_comments_are_heartbeats() -> None:
    """A frame of comments says nothing, and is nothing to complain about."""
    assert session(triverse()).on_frame(": ping\n\n") == []
    assert session(triverse()).on_frame("") == []


@given(st.one_of(st.text(), st.binary()))
def test_no_input_raises(frame: str | bytes) -> None:
    """Whatever comes, a session answers with items."""
    for item in session(triverse()).on_frame(frame):
        assert isinstance(item, Rejected | Observation | Finished)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_no_json_raises(value: Any) -> None:
    """The same for JSON of any shape in every documented field."""
    for name in RUNNING:
        for frame in (sse({**RUNNING, name: value}), sse({"code": value, "data": {**RUNNING, name: value}})):
            assert session(triverse()).on_frame(frame)


# --- connections -----------------------------------------------------------------------------------------------------


def test_the_first_connect_asks_for_nothing_unless_told() -> None:
    """`catch_up` says how far back the very first connect asks."""
    assert session(triverse()).request().url == "ws://up/api/v1/tasks/watch/all?token=k3y"
    url = session(triverse(catch_up="1h")).request().url
    assert url.endswith("since=2026-05-31T23%3A00%3A00.000000Z")


@pytest.mark.parametrize(
    ("resume", "since"),
    [
        (
            {"oldest_unfinished": "2026-05-01T10:00:00Z", "newest": "2026-05-30T00:00:00Z"},
            "2026-05-01T09:59:00.000000Z",
        ),
        ({"newest": "2026-05-30T00:00:00Z"}, "2026-05-29T23:59:00.000000Z"),
        ({"connected_at": "2026-05-20T00:00:00Z"}, "2026-05-19T23:59:00.000000Z"),
        # A task created "in 2099" once hid everything that was created during an outage.
        ({"newest": "2099-01-01T00:00:00Z", "alive_at": "2026-05-31T00:00:00Z"}, "2026-05-30T23:59:00.000000Z"),
        ({"newest": "2026-05-30T00:00:00Z", "alive_at": "2026-05-31T00:00:00Z"}, "2026-05-29T23:59:00.000000Z"),
    ],
)
def test_a_reconnect_reaches_back_before_the_oldest_unfinished_task(resume: dict[str, str], since: str) -> None:
    """triverse-websockets.txt, "Catch-up Mechanism": it filters on creation time, so the last frame's time would lose tasks."""
    url = session(triverse(), resume=Resume(first=False, now=NOW, **resume)).request().url  # type: ignore[arg-type]
    assert url.partition("since=")[2].replace("%3A", ":") == since


def test_what_comes_on_connect_is_catchup_and_then_live() -> None:
    """The first word on a task after a reconnect is the upstream's catch-up; a task newer than the connect is live."""
    resume = Resume(first=False, now=NOW, newest="2026-05-30T00:00:00Z")
    connection = session(triverse(), resume=resume)
    newborn = {**state("PENDING"), "task_uuid": "new", "created_at": "2026-06-01T00:00:01Z"}
    items = [connection.on_frame(sse(payload))[0] for payload in (RUNNING, {**RUNNING, "progress": 41}, newborn)]
    connection.on_settled()
    items += connection.on_frame(sse({**RUNNING, "task_uuid": "z"}))
    assert [item.origin for item in items if isinstance(item, Observation)] == ["catchup", "live", "live", "live"]


def test_a_watch_ends_with_finalized_and_only_then() -> None:
    """Closing after `finalized` is the end; a close before is worth another try."""
    adapter = triverse(watch=[TASK])
    connection = session(adapter)
    assert connection.request().url == f"ws://up/api/v1/tasks/watch/{TASK}?token=k3y"
    connection.on_frame(sse(RUNNING))
    assert connection.on_close(1000, "") == "retry"
    assert Finished() not in connection.on_frame(sse(SUCCESS))
    assert connection.on_close(1000, "") == "finished"
    assert connection.on_frame(sse(SUCCESS, "finalized"))[-1] == Finished()


def test_a_finalized_task_does_not_end_watch_all() -> None:
    """`finalized` ends a single-task watch alone."""
    assert len(session(triverse()).on_frame(sse(SUCCESS, "finalized"))) == 1
    assert session(triverse()).on_close(1000, "") == "retry"


def test_rest_is_asked_with_a_bearer_token() -> None:
    """triverse-task-status.txt, "Endpoint"; triverse-common-structures.txt, "Download Response"."""
    adapter = triverse(url="wss://api.triverse.ai")
    request = adapter.lookup(TASK)
    assert request.url == f"https://api.triverse.ai/api/v1/tasks/{TASK}"
    assert request.headers["Authorization"] == "Bearer k3y"
    assert adapter.download(TASK).endpoint == f"/api/v1/tasks/url/{TASK}"
    assert "k3y" not in repr(request)
    (item,) = adapter.on_lookup(TASK, json.dumps({"code": 0, "message": "success", "data": SUCCESS}).encode())
    assert isinstance(item, Observation)
    assert item.origin == "reconcile"
    assert triverse(rest_url="http://rest/base/").lookup("a/b").url == "http://rest/base/api/v1/tasks/a%2Fb"


@pytest.mark.parametrize("answer", [b"x", b"[]", b'{"code":1005,"message":"gone"}', b'{"code":1005,"data":null}'])
def test_a_download_answer_without_data_is_rejected(answer: bytes) -> None:
    """The upstream's own words are kept for the caller."""
    assert isinstance(triverse().on_download(answer), Rejected)


@pytest.mark.parametrize("task_id", ["", "all", "..", "x" * 201, "a\nb"])
def test_ids_that_would_be_another_endpoint_are_refused(task_id: str) -> None:
    """A watch on `all` would be another stream altogether."""
    with pytest.raises(ValueError, match="not a task id"):
        triverse().watch(task_id)
    with pytest.raises(ValidationError):
        triverse(watch=[task_id])


def test_streams_follow_the_configuration() -> None:
    """`watch: all`, a list (each once), or nothing."""
    assert [stream.key for stream in triverse().streams()] == ["all"]
    assert [stream.key for stream in triverse(watch=["a", "b", "a"]).streams()] == ["task:a", "task:b"]
    assert triverse(watch=[]).streams() == []
    assert triverse().secrets() == ["k3y"]
    assert FIRST.first
