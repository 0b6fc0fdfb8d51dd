"""What Triverse sends, as documented, and how it becomes an observation.

Two shapes of one payload: the public task status (triverse-task-status.txt, "Response Structure"; also the WebSocket
payload by triverse-websockets.txt, "Data Structure") and FlowStatusPayload (triverse-common-structures.txt), either bare or
inside the `{code, message, data}` envelope; and the task creation payload. Pure: text in, items out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from adapters import native
from adapters.api import Item, Observation, Origin, Queue, Rejected, TaskError, UnsetType
from schemas import rfc3339

#: triverse-task-status.txt, "Task Lifecycle".
STATUS = {
    "PENDING": "pending",
    "QUEUED": "queued",
    "RUNNING": "running",
    "SUCCESS": "succeeded",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
}

#: Not part of the public API (triverse-task-status.txt, last paragraph of "Response Structure"; triverse-websockets.txt,
#: "Data Structure"), compared without underscores, hyphens and case, so that the camelCase twins are the same names.
_INTERNAL = frozenset(
    {
        "user",
        "userid",
        "userids",
        "isterminal",
        "changed",
        "worker",
        "workerid",
        "workername",
        "queuename",
        "queuenames",
    }
)
_INTERNAL_PREFIXES = (
    "flowrun", "rawprefect", "prefect", "statusdetail", "scheduler", "workqueue", "workerqueue", "deployment", "pricing",
    "analytics", "tracking",
)  # fmt: skip
_SEPARATORS = re.compile(r"[_\-\s]")


def is_internal(key: str) -> bool:
    """Whether a key is documented as internal."""
    name = _SEPARATORS.sub("", key).lower()
    return name in _INTERNAL or name.startswith(_INTERNAL_PREFIXES)


class _Payload(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Every public field of every documented payload, and of the envelope around it.

    Decoding fails on a field that this version does not know and on a wrong type: such a payload takes the careful way.
    """

    task_uuid: str | UnsetType = UNSET
    flow_name: str | UnsetType | None = UNSET
    status: str | UnsetType = UNSET
    progress: int | float | UnsetType | None = UNSET
    created_at: str | UnsetType | None = UNSET
    started_at: str | UnsetType | None = UNSET
    completed_at: str | UnsetType | None = UNSET
    input: Raw | UnsetType = UNSET
    output: Raw | UnsetType = UNSET
    error: _Error | UnsetType | None = UNSET
    queue: _Queue | UnsetType | None = UNSET
    # FlowStatusPayload
    taskId: str | UnsetType = UNSET  # noqa: N815  # the wire's name
    flowName: str | UnsetType | None = UNSET  # noqa: N815
    createTime: str | UnsetType | None = UNSET  # noqa: N815
    # task creation
    name: str | UnsetType | None = UNSET
    is_public: bool | UnsetType | None = UNSET
    task_priority: int | UnsetType | None = UNSET
    costCredits: int | float | UnsetType | None = UNSET  # noqa: N815
    cost_credits: int | float | UnsetType | None = UNSET
    # envelope
    code: int | UnsetType = UNSET
    message: str | UnsetType | None = UNSET
    data: Raw | UnsetType = UNSET


class _Queue(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """`is_queued` says no more than the status does."""

    is_queued: bool | None = None
    position: int | float | None = None
    estimated_wait_seconds: int | float | None = None


class _Error(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    code: str | int | None = None
    message: str | None = None
    suggestion: str | None = None


_decode = msgspec.json.Decoder(_Payload).decode
_NULL = Raw(b"null")


def _is_clean(value: Raw | UnsetType) -> bool:
    """Whether a nested value has no internal field. Inputs repeat in every frame of a task, outputs nearly so."""
    if value is UNSET:
        return True
    content = bytes(value)
    return _is_clean_small(content) if len(content) < 4096 else not _has_internal(msgspec.json.decode(content))


@lru_cache(maxsize=1024)
def _is_clean_small(content: bytes) -> bool:
    return not _has_internal(msgspec.json.decode(content))


def _has_internal(value: Any) -> bool:
    if isinstance(value, dict):
        return any(is_internal(key) or _has_internal(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_has_internal, value))


def read(text: str, native_type: str, origin: Origin = "live") -> Item:
    """The observation in one payload, bare or enveloped; `Rejected` says what is wrong with it. Never raises."""
    try:
        return native.decoded(text, lambda text: _read(text, native_type, origin))
    except native.DECODE_ERRORS as error:
        return Rejected("malformed", f"payload is not a JSON object: {error}", native.excerpt(text))


def _read(text: str, native_type: str, origin: Origin) -> Item:
    extra: Raw | UnsetType | None = UNSET
    try:
        payload = _decode(text)
        careful = not (_is_clean(payload.input) and _is_clean(payload.output))
    except msgspec.ValidationError:
        careful = True
    if careful:
        payload, extra, text = _carefully(text)

    task_id = payload.task_uuid or payload.taskId
    if task_id is UNSET and payload.data is not UNSET and payload.data != _NULL:
        return _read(bytes(payload.data).decode(), native_type, origin)
    if not task_id:
        if payload.code is not UNSET:
            problem = f"the upstream answered code {payload.code}: {payload.message or ''}"
            return Rejected("upstream_error", problem, native.excerpt(text))
        return Rejected("no_task_id", "neither task_uuid nor taskId is a text", native.excerpt(text))
    word = payload.status
    if not word:
        return Rejected("no_status", f"task {task_id[:64]}: status is not a text", native.excerpt(text))

    status = STATUS.get(word)
    error, queue = payload.error, payload.queue
    return Observation(
        task_id=task_id,
        native_type=native_type,
        payload=Raw(text.encode()),
        origin=origin,
        status=status or "unknown",
        native_status=word,
        progress=native.percent(payload.progress) if payload.progress is not UNSET else UNSET,
        kind=payload.flow_name if payload.flow_name is not UNSET else payload.flowName,
        name=payload.name,
        created_at=_time(payload.created_at if payload.created_at is not UNSET else payload.createTime),
        started_at=_time(payload.started_at),
        completed_at=_time(payload.completed_at),
        queue=Queue(queue.position, queue.estimated_wait_seconds) if isinstance(queue, _Queue) else queue,
        priority=payload.task_priority,
        cost_credits=payload.cost_credits if payload.cost_credits is not UNSET else payload.costCredits,
        input=None if payload.input == _NULL else payload.input,
        result=None if payload.output == _NULL else payload.output,
        error=TaskError(error.code, error.message, error.suggestion) if isinstance(error, _Error) else error,
        extra=extra,
        unfamiliar=status is None or extra is not UNSET,
    )


#: A task's times are the same in all of its frames.
_normalize = lru_cache(maxsize=4096)(rfc3339.normalize)


def _time(value: str | UnsetType | None) -> str | UnsetType | None:
    if isinstance(value, str):
        return _normalize(value) if len(value) <= 64 else None
    return value


#: What a known field is taken for when it has not the documented type.
_COERCE: dict[str, Callable[[object], object]] = {
    **dict.fromkeys(("task_uuid", "taskId", "status"), lambda value: native.text(value) or UNSET),
    **dict.fromkeys(("flow_name", "flowName", "name", "message", "created_at", "createTime"), native.text),
    **dict.fromkeys(("started_at", "completed_at"), native.text),
    **dict.fromkeys(("progress", "costCredits", "cost_credits"), native.number),
    "task_priority": native.integer,
    "code": lambda value: UNSET if (number := native.integer(value)) is None else number,
    "is_public": lambda value: value if isinstance(value, bool) else None,
    "queue": lambda value: _queue(value),
    "error": lambda value: _error(value),
}


def _carefully(text: str) -> tuple[_Payload, Raw | UnsetType, str]:
    """The same payload without internal fields, wrong types as null, unknown public fields apart.

    Raises:
        msgspec.DecodeError: it is not a JSON object.
    """
    value = msgspec.json.decode(text)
    if not isinstance(value, dict):
        raise msgspec.DecodeError(f"expected an object, got {type(value).__name__}")
    value = native.without(value, is_internal)
    payload = _Payload()
    for name in _Payload.__struct_fields__:
        if name in value:
            if name in ("input", "output", "data"):
                setattr(payload, name, Raw(msgspec.json.encode(value[name])))
            else:
                setattr(payload, name, _COERCE[name](value[name]))
    unknown = {key: item for key, item in value.items() if key not in _Payload.__struct_fields__}
    extra = Raw(msgspec.json.encode(unknown, order="deterministic")) if unknown else UNSET
    return payload, extra, msgspec.json.encode(value).decode()


def _queue(value: object) -> _Queue | None:
    if not isinstance(value, dict):
        return None
    return _Queue(None, native.number(value.get("position")), native.number(value.get("estimated_wait_seconds")))


def _error(value: object) -> _Error | None:
    """triverse-task-status.txt, `error`: code, message and optional suggestion; a bare text is a message."""
    if isinstance(value, str):
        return _Error(message=value)
    if not isinstance(value, dict):
        return None
    code = native.integer(value.get("code"))
    return _Error(
        native.text(value.get("code")) if code is None else code,
        native.text(value.get("message")),
        native.text(value.get("suggestion")),
    )


def public_object(body: bytes) -> Raw | Rejected:
    """The `data` of an enveloped answer, internal fields removed; for answers that are not about a task's state."""
    try:
        answer = native.decoded(body, msgspec.json.decode)
    except native.DECODE_ERRORS as error:
        return Rejected("malformed", f"the answer is not JSON: {error}", native.excerpt(body))
    if not isinstance(answer, dict):
        return Rejected("malformed", "the answer is not a JSON object", native.excerpt(body))
    data = answer.get("data") if "code" in answer else answer
    if not isinstance(data, dict):
        problem = f"the upstream answered code {answer.get('code')}: {answer.get('message')}"
        return Rejected("upstream_error", problem, native.excerpt(body))
    return Raw(msgspec.json.encode(native.without(data, is_internal)))
