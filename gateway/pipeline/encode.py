"""The canonical event as bytes, written once.

Owns the shape on the wire (contract, section 1). The pydantic models in `schemas.event` are the schema of record; the
structs here only write what they describe. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from adapters.api import TaskError
from gateway.pipeline.tasks import Change, State, Task
from gateway.store.api import NO_SEQUENCE, TaskRow
from schemas.event import FINISHED, GATEWAY_SOURCE, SOURCE_SCHEMA, TASK_SCHEMA, WEBHOOK_SCHEMA


class _Native(msgspec.Struct, gc=False):
    type: str
    payload: Raw


class _Data(msgspec.Struct, gc=False):
    task: Task
    changed: list[str]
    detail: Raw | None
    input: Raw
    result: Raw
    error: TaskError | None
    origin: str
    redacted: bool
    received_at: str
    native: _Native


class _TaskEvent(msgspec.Struct, gc=False):
    specversion: str
    sequence: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    dataschema: str
    partitionkey: str
    data: _Data


class _NoticeEvent(msgspec.Struct, gc=False):
    specversion: str
    sequence: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    dataschema: str
    data: Mapping[str, object]


_encode = msgspec.json.Encoder().encode
_decode_state = msgspec.json.Decoder(State).decode


def task_event(state: State, change: Change, received_at: str) -> bytes:
    """The body of a `task.*` event, its sequence still to be written by the log."""
    task = state.task
    return _encode(
        _TaskEvent(
            "1.0",
            NO_SEQUENCE,
            change.id,
            f"/{task.adapter}/{task.source}",
            change.type,
            task.id,
            change.time,
            "application/json",
            TASK_SCHEMA,
            task.key,
            _Data(
                task,
                change.changed,
                change.detail,
                state.input,
                state.result,
                state.error,
                change.origin,
                change.redacted,
                received_at,
                _Native(change.native_type, change.payload),
            ),
        )
    )


def source_event(event_id: str, kind: str, source: str, time: str, data: Mapping[str, object]) -> bytes:
    """The body of a `source.*` notice, its sequence still to be written by the log."""
    return _encode(
        _NoticeEvent(
            "1.0", NO_SEQUENCE, event_id, GATEWAY_SOURCE, kind, source, time, "application/json", SOURCE_SCHEMA, data
        )
    )


def webhook_event(event_id: str, kind: str, endpoint: str, time: str, data: Mapping[str, object]) -> bytes:
    """The body of a `webhook.*` notice, its sequence still to be written by the log."""
    return _encode(
        _NoticeEvent(
            "1.0", NO_SEQUENCE, event_id, GATEWAY_SOURCE, kind, endpoint, time, "application/json", WEBHOOK_SCHEMA, data
        )
    )


def snapshot_data(row: TaskRow) -> bytes:
    """`data` of the `task.snapshot` event of a stored state."""
    state = _decode_state(row.state)
    return _encode(
        _Data(
            state.task,
            [],
            None,
            state.input,
            state.result,
            state.error,
            "snapshot",
            state.redacted,
            state.received_at,
            _Native(state.native_type, state.payload),
        )
    )


def task_row(state: State, updated: float) -> TaskRow:
    """A state as the store keeps it."""
    task = state.task
    return TaskRow(
        source=task.source,
        id=task.id,
        kind=task.kind,
        status=task.status,
        finished=task.status in FINISHED,
        created_at=task.created_at,
        stream=state.stream,
        updated=updated,
        state=_encode(state),
    )


def stored_state(row: TaskRow) -> State:
    """The state in a row."""
    return _decode_state(row.state)
