"""Views: what a holder of a scope sees of an event, and the one place where fields are taken away.

A view turns the full stored body into the body that is sent. It is a function of the body alone, so it is applied once per
event and shared by live traffic, replay, snapshots, SSE and the read API. Must not know connections or tokens.

The progress view lists what passes, so a field that a later version adds is hidden until somebody decides otherwise
(contract, section 3: `input`, `result`, `error`, `native`, `task.attempt`, and `detail` of everything but
`task.progressed`; `task.cost_credits` too, because it comes from the task's creation response).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

View = Callable[[bytes], bytes]

#: Names that `changed` must not mention in the progress view; `detail` joins them where it is hidden.
HIDDEN: Final = frozenset({"input", "result", "error", "native", "attempt", "cost_credits"})

_PROGRESSED: Final = "task.progressed"
_NULL: Final = Raw(b"null")


class _Body(msgspec.Struct, gc=False):
    """A CloudEvent of a task; the order of the fields is the order of the keys."""

    type: str
    data: Raw
    specversion: Raw | UnsetType = UNSET
    sequence: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET
    source: Raw | UnsetType = UNSET
    subject: Raw | UnsetType = UNSET
    time: Raw | UnsetType = UNSET
    datacontenttype: Raw | UnsetType = UNSET
    dataschema: Raw | UnsetType = UNSET
    partitionkey: Raw | UnsetType = UNSET


class _Sent(msgspec.Struct, gc=False):
    """The same on its way out, keys in the order of the log."""

    specversion: Raw | UnsetType
    sequence: Raw | UnsetType
    id: Raw | UnsetType
    source: Raw | UnsetType
    type: str
    subject: Raw | UnsetType
    time: Raw | UnsetType
    datacontenttype: Raw | UnsetType
    dataschema: Raw | UnsetType
    partitionkey: Raw | UnsetType
    data: Raw


class _Task(msgspec.Struct, gc=False):
    key: Raw
    id: Raw
    source: Raw
    adapter: Raw
    kind: Raw = _NULL
    name: Raw = _NULL
    status: Raw = _NULL
    native_status: Raw = _NULL
    progress: Raw = _NULL
    attempt: Raw = _NULL
    created_at: Raw = _NULL
    started_at: Raw = _NULL
    completed_at: Raw = _NULL
    queue: Raw = _NULL
    priority: Raw = _NULL
    cost_credits: Raw = _NULL


class _Data(msgspec.Struct, gc=False):
    task: _Task
    changed: list[str] = []
    detail: Raw = _NULL
    input: Raw = _NULL
    result: Raw = _NULL
    error: Raw = _NULL
    origin: Raw = _NULL
    redacted: bool = False
    received_at: Raw = _NULL
    native: Raw = _NULL


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_data = msgspec.json.Decoder(_Data).decode
_encode = msgspec.json.Encoder().encode


def full(body: bytes) -> bytes:
    """The view of `events:read`: everything."""
    return body


def redact(body: bytes) -> bytes:
    """The view of `events:read:progress` on the body of a `task.*` event.

    Raises:
        msgspec.DecodeError: the body is not an event of a task.
    """
    event = _decode_body(body)
    return _encode(
        _Sent(
            event.specversion, event.sequence, event.id, event.source, event.type, event.subject, event.time,
            event.datacontenttype, event.dataschema, event.partitionkey,
            Raw(redact_data(event.data, detail=event.type == _PROGRESSED)),
        )
    )  # fmt: skip


def redact_data(data: bytes | Raw, *, detail: bool = False) -> bytes:
    """The view of `events:read:progress` on the `data` of a task's event; `detail` says whether that field may stay.

    Raises:
        msgspec.DecodeError: it is not such data.
    """
    seen = _decode_data(data)
    seen.task.attempt = seen.task.cost_credits = _NULL
    seen.input = seen.result = seen.error = seen.native = _NULL
    if detail:
        seen.changed = [name for name in seen.changed if name not in HIDDEN]
    else:
        seen.detail = _NULL
        seen.changed = [name for name in seen.changed if name not in HIDDEN and name != "detail"]
    seen.redacted = True
    return _encode(seen)
