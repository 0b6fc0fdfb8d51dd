"""What Catalyst sends, as documented, and how it becomes observations.

Source: catalyst-task-events.txt ("Response", "Available events", "Errors"). Pure: text in, items out.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
from msgspec import UNSET, Raw

from adapters import native
from adapters.api import Fault, Item, Observation, Rejected
from schemas import rfc3339

#: catalyst-task-events.txt, "Available events".
TYPES = {
    "task_created": "task.created",
    "task_value_changed": "task.updated",
    "task_status_changed": "task.status_changed",
    "task_owner_added": "task.owner_added",
    "task_owner_removed": "task.owner_removed",
    "task_assignee_added": "task.assignee_added",
    "task_assignee_removed": "task.assignee_removed",
    "task_deleted": "task.deleted",
}


class _Item(msgspec.Struct, gc=False):
    task_id: int | str
    event: str
    timestamp: str | None = None
    object_class_id: int | str | None = None


class _Error(msgspec.Struct, gc=False):
    type: object = UNSET
    error_code: object = UNSET
    detail: object = UNSET


_decode_items = msgspec.json.Decoder(list[_Item]).decode
_decode_item = msgspec.json.Decoder(_Item).decode
_decode_raws = msgspec.json.Decoder(list[Raw]).decode
_decode_error = msgspec.json.Decoder(_Error).decode


def read(text: str, *, fixed_uuid: bool, arrival: str) -> list[Item]:
    """What one frame says: a list of occurrences in order, or an error object. Never raises.

    A list is read as a whole; only where that fails it is read item by item, so that one bad item costs itself alone.

    Args:
        text: the frame.
        fixed_uuid: the next connect would present the same uuid again.
        arrival: names this frame among all of the source, for items that have no timestamp to tell them apart.
    """
    try:
        return native.decoded(text, lambda text: _read(text, fixed_uuid, arrival))
    except native.DECODE_ERRORS as error:
        return [
            Rejected("malformed", f"the frame is neither a list nor an error object: {error}", native.excerpt(text))
        ]


def _read(text: str, fixed_uuid: bool, arrival: str) -> list[Item]:
    if text.lstrip()[:1] == "{":
        return [_fault(_decode_error(text), text, fixed_uuid)]
    raws = _decode_raws(text)
    try:
        decoded = _decode_items(text)
        return [
            _observe(item, raw, arrival, index) for index, (item, raw) in enumerate(zip(decoded, raws, strict=True))
        ]
    except native.DECODE_ERRORS:
        items: list[Item] = []
        for index, raw in enumerate(raws):
            try:
                items.append(_observe(_decode_item(raw), raw, arrival, index))
            except native.DECODE_ERRORS as error:
                items.append(
                    Rejected("malformed_item", f"item {index} of {len(raws)}: {error}", native.excerpt(bytes(raw)))
                )
        return items


@lru_cache(maxsize=1024)
def _kind(object_class: int) -> str:
    return f"object-class:{object_class}"


def _observe(item: _Item, raw: Raw, arrival: str, index: int) -> Item:
    time = rfc3339.normalize(item.timestamp)
    task_id = str(item.task_id)
    if not task_id or (time is None and item.timestamp is not None):
        what = f"timestamp {item.timestamp[:64]!r} is not a time" if item.timestamp and not time else "task_id is empty"
        return Rejected("malformed_item", f"task {task_id[:64]}: {what}", native.excerpt(bytes(raw)))
    kind = TYPES.get(item.event)
    object_class = item.object_class_id
    observation = Observation(
        task_id=task_id,
        native_type=item.event,
        payload=raw,
        type=kind or "task.updated",
        identity=f"{task_id}\0{object_class}\0{item.event}\0{time or f'{arrival}/{index}'}",
        time=time,
        unfamiliar=kind is None,
    )
    if object_class is not None:
        observation.kind = _kind(object_class) if isinstance(object_class, int) else f"object-class:{object_class}"
    if kind == "task.deleted":
        observation.status = "deleted"
    elif kind == "task.created" and time is not None:
        observation.created_at = time
    return observation


def _fault(error: _Error, text: str, fixed_uuid: bool) -> Item:
    """catalyst-task-events.txt, "Errors": what each one means for the next connect."""
    code = native.text(error.error_code)
    if code is None:
        return Rejected("malformed", "an object without error_code", native.excerpt(text))
    message = (native.text(error.detail) or code)[:500]
    match code:
        case "ERR_INVALID_UUID":
            # The same uuid will not get better; a one-time uuid that came too late may.
            return Fault(code, message, "refused" if fixed_uuid else "retry")
        case "ERR_INCORRECT_URL":
            return Fault(code, message, "refused")
        case "ERR_RATE_LIMIT_EXCEEDED":
            return Fault(code, message, "slow_down")
        case _:
            return Fault(code[:100], message, "retry")
