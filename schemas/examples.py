"""One event, told from beginning to end: the example in every document that describes the interface."""

from __future__ import annotations

from typing import Any, Final

from schemas.event import GATEWAY_SOURCE, SOURCE_SCHEMA, STREAM_SCHEMA, TASK_SCHEMA, WEBHOOK_SCHEMA

TASK_ID: Final = "92483a80-236c-4889-9a95-4c90bb64dfd8"
SEQUENCE: Final = "00000000000000000042"
EPOCH: Final = "5f0c9a7be3d1"

TASK_DATA: Final[dict[str, Any]] = {
    "task": {
        "key": f"studio/{TASK_ID}",
        "id": TASK_ID,
        "source": "studio",
        "adapter": "triverse",
        "kind": "image-to-model",
        "name": None,
        "status": "succeeded",
        "native_status": "SUCCESS",
        "progress": 100,
        "attempt": None,
        "created_at": "2026-05-27T00:07:44Z",
        "started_at": "2026-05-27T00:07:51Z",
        "completed_at": "2026-05-27T00:08:44Z",
        "queue": None,
        "priority": None,
        "cost_credits": None,
    },
    "changed": ["status", "progress", "completed_at", "result"],
    "detail": None,
    "input": {"image_url": "https://assets.example.com/fox.png"},
    "result": {"textured_model_url": ["https://assets.example.com/fox.glb"]},
    "error": None,
    "origin": "live",
    "redacted": False,
    "received_at": "2026-05-27T00:08:44.318Z",
    "native": {"type": "update", "payload": {"status": "SUCCESS", "progress": 100}},
}

TASK_EVENT: Final[dict[str, Any]] = {
    "specversion": "1.0",
    "sequence": SEQUENCE,
    "id": "evt_41f5e4a0fc29c090dd00e8fae3325fd9",
    "source": "/triverse/studio",
    "type": "task.succeeded",
    "subject": TASK_ID,
    "time": "2026-05-27T00:08:44Z",
    "datacontenttype": "application/json",
    "dataschema": TASK_SCHEMA,
    "partitionkey": f"studio/{TASK_ID}",
    "data": TASK_DATA,
}

TASK_STATE: Final[dict[str, Any]] = {**TASK_DATA, "changed": [], "origin": "snapshot", "sequence": SEQUENCE}

SOURCE_EVENT: Final[dict[str, Any]] = {
    "specversion": "1.0",
    "sequence": "00000000000000000001",
    "id": "evt_0d3a80830a6734f8cacd94b2c67e5f01",
    "source": GATEWAY_SOURCE,
    "type": "source.connected",
    "subject": "studio",
    "time": "2026-05-27T00:00:00.012Z",
    "datacontenttype": "application/json",
    "dataschema": SOURCE_SCHEMA,
    "data": {"source": "studio", "adapter": "triverse", "endpoint": "/ws/tasks/all"},
}

WEBHOOK_EVENT: Final[dict[str, Any]] = {
    "specversion": "1.0",
    "sequence": "00000000000000000043",
    "id": "evt_7d1c0f4be2aa46c1b0c7b53f6c1d9e20",
    "source": GATEWAY_SOURCE,
    "type": "webhook.disabled",
    "subject": "billing",
    "time": "2026-05-27T00:09:02.118Z",
    "datacontenttype": "application/json",
    "dataschema": WEBHOOK_SCHEMA,
    "data": {"endpoint": "billing", "by": "mainstem", "reason": "it answered 410"},
}

#: Type of a notice → its `data`.
NOTICES: Final[dict[str, dict[str, Any]]] = {
    "stream.opened": {"session": "s1a2b3c4", "sequence": SEQUENCE, "epoch": EPOCH, "scope": "events:read"},
    "stream.subscribed": {"id": "default", "resume": "replayed", "sequence": "00000000000000000017"},
    "stream.synced": {"id": "default", "sequence": SEQUENCE},
    "stream.unsubscribed": {"id": "a"},
    "stream.error": {"code": "invalid_command", "message": "must be a list", "field": "filter.task", "id": "a"},
    "stream.conflated": {"task": f"studio/{TASK_ID}", "skipped": 12},
    "stream.pong": {"id": "p1"},
    "stream.closing": {"reason": "shutting_down", "reconnect_after_ms": 1240, "code": 1001},
}

COMMANDS: Final[dict[str, dict[str, Any]]] = {
    "subscribe": {"op": "subscribe", "id": "a", "filter": {"task": [f"studio/{TASK_ID}"]}, "snapshot": True},
    "unsubscribe": {"op": "unsubscribe", "id": "a"},
    "authenticate": {"op": "authenticate", "token": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"},
    "ping": {"op": "ping", "id": "p1"},
}


def notice(kind: str) -> dict[str, Any]:
    """A whole notice of the stream."""
    return {
        "specversion": "1.0",
        "sequence": SEQUENCE,
        "id": "s1a2b3c4-1",
        "source": GATEWAY_SOURCE,
        "type": kind,
        "time": "2026-05-27T00:08:44.320Z",
        "datacontenttype": "application/json",
        "dataschema": STREAM_SCHEMA,
        "data": NOTICES[kind],
    }
