"""Snapshot events: a task's current state as the CloudEvent that a subscriber gets. Pure."""

from __future__ import annotations

import msgspec

from schemas.event import TASK_SCHEMA
from schemas.stream import position


class _Task(msgspec.Struct, gc=False):
    adapter: str


class _Data(msgspec.Struct, gc=False):
    task: _Task


class _Event(msgspec.Struct, frozen=True, gc=False):
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
    data: msgspec.Raw


_decode = msgspec.json.Decoder(_Data).decode
_encode = msgspec.json.Encoder().encode


def event(source: str, task_id: str, data: bytes, *, id: str, time: str, sequence: int) -> bytes:
    """The `task.snapshot` event around the `data` of a state.

    Args:
        source: name of the source.
        task_id: the upstream's task id.
        data: JSON of `data`, already as its receiver may see it.
        id: unique on the connection.
        time: RFC 3339 UTC.
        sequence: position of the log at which the state is valid.
    """
    adapter = _decode(data).task.adapter
    return _encode(
        _Event(
            "1.0", position(sequence), id, f"/{adapter}/{source}", "task.snapshot", task_id, time,
            "application/json", TASK_SCHEMA, f"{source}/{task_id}", msgspec.Raw(data),
        )
    )  # fmt: skip
