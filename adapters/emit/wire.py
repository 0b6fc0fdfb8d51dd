"""What emit.run sends, as documented, and how it becomes an observation.

Source: emit-websockets.txt ("Event reference", "Scope-Based Data Filtering", "Message samples"); the newer editions as
described in the upstreams' README. Pure: text in, items out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from adapters import native
from adapters.api import Continuity, Item, Observation, Rejected, TaskError, UnsetType
from schemas import rfc3339
from schemas.event import FINISHED

#: emit's statuses; `scheduled` and `killed` are of the newer editions. A `pending` job is waiting in a queue.
STATUS = {
    "scheduled": "pending",
    "pending": "queued",
    "delivered": "dispatched",
    "running": "running",
    "completed": "succeeded",
    "dead": "failed",
    "killed": "cancelled",
}


class _Meaning(NamedTuple):
    """What a documented type means: the canonical type, and the status that the job has from then on.

    `implied` holds only where the event's own `status` says nothing that is known.
    """

    type: str
    status: str | None
    implied: str | None = None
    #: may bring a dead or killed job back: a real re-run
    revives: bool = False
    #: under a full scope this type always carries data: without, the token's scope removed it
    carries_data: bool = False


#: emit-websockets.txt, "Event reference"; `created` and `killed` are of the newer editions.
OCCURRENCES = {
    "created": _Meaning("task.created", None, implied="queued"),
    "delivered": _Meaning("task.dispatched", "dispatched", revives=True),
    "acked": _Meaning("task.started", "running", revives=True),
    "progress": _Meaning("task.progressed", None, implied="running"),
    "checkpoint": _Meaning("task.checkpointed", None, implied="running", carries_data=True),
    "completed": _Meaning("task.succeeded", "succeeded", carries_data=True),
    "retried": _Meaning("task.retried", "queued", revives=True, carries_data=True),
    "dead": _Meaning("task.failed", "failed", carries_data=True),
    "delivery_timeout": _Meaning("task.requeued", "queued"),
    "killed": _Meaning("task.cancelled", "cancelled"),
}


class _Event(msgspec.Struct, gc=False):
    """One WebSocket message. What is not read here stays in the native payload."""

    jobId: object = UNSET  # noqa: N815  # the wire's name
    jobName: object = UNSET  # noqa: N815
    type: object = UNSET
    status: object = UNSET
    timestamp: object = UNSET
    data: Raw | UnsetType = UNSET
    seq: object = UNSET
    streamInstanceId: object = UNSET  # noqa: N815
    missed: object = UNSET


class _ProgressData(msgspec.Struct, gc=False):
    percent: object = UNSET


class _ErrorData(msgspec.Struct, gc=False):
    error: object = UNSET
    attemptNumber: object = UNSET  # noqa: N815


_decode = msgspec.json.Decoder(_Event).decode
_decode_progress = msgspec.json.Decoder(_ProgressData).decode
_decode_error = msgspec.json.Decoder(_ErrorData).decode
_NULL = Raw(b"null")


class Position(NamedTuple):
    """Where a newer space stream stands: `?since=<seq>&streamInstanceId=<instance>` resumes after it."""

    seq: int | None
    instance: str | None


def read(text: str, *, may_be_stripped: bool) -> tuple[list[Item], Position | None]:
    """What one message says, and the stream position it carries, if any. Never raises.

    Args:
        text: the frame.
        may_be_stripped: the connection may have a progress-only token, so that absent data may have been removed.
    """
    try:
        return native.decoded(text, lambda text: _read(text, may_be_stripped))
    except native.DECODE_ERRORS as error:
        return [Rejected("malformed", f"the frame is not a JSON object: {error}", native.excerpt(text))], None


def _read(text: str, may_be_stripped: bool) -> tuple[list[Item], Position | None]:
    event = _decode(text)
    position = None
    if event.seq is not UNSET or event.streamInstanceId is not UNSET:
        position = Position(native.integer(event.seq), native.text(event.streamInstanceId))
    kind, job_id = event.type, event.jobId
    if not isinstance(kind, str) or not kind:
        return [Rejected("no_type", "type is not a text", native.excerpt(text))], position
    if kind == "connected" and job_id is UNSET:
        return [Continuity(_missed(event.missed))], position
    if not isinstance(job_id, str) or not job_id:
        return [Rejected("no_job_id", f"{kind[:64]}: jobId is not a text", native.excerpt(text))], position
    try:
        return [_observe(text, event, kind, job_id, may_be_stripped)], position
    except native.DECODE_ERRORS as error:
        return [Rejected("malformed", f"{kind[:64]} of job {job_id[:64]}: {error}", native.excerpt(text))], position


def _missed(value: object) -> int | None:
    """`missed` tells how many events were lost, or in some editions only whether any were."""
    return 0 if value is False else native.integer(value)


def _observe(text: str, event: _Event, kind: str, job_id: str, may_be_stripped: bool) -> Observation:
    word = event.status if isinstance(event.status, str) else None
    status = STATUS.get(word) if word else None
    name = native.text(event.jobName)
    time = rfc3339.normalize(event.timestamp)
    item = Observation(
        task_id=job_id,
        native_type=kind,
        payload=Raw(text.encode()),
        time=time,
        kind=name if name is not None else UNSET,
        name=name if name is not None else UNSET,
        native_status=word if word is not None else UNSET,
        unfamiliar=word is not None and status is None,
    )
    if kind == "init":
        item.origin = "catchup"
        item.status = status or "unknown"
        return item

    data = None if event.data is UNSET or event.data == _NULL else event.data
    meaning = OCCURRENCES.get(kind)
    if meaning is None:
        item.type, item.unfamiliar, item.detail = "task.updated", True, data
        if status is not None:
            item.status = status
    else:
        item.type, item.revives = meaning.type, meaning.revives
        item.status = meaning.status or status or meaning.implied or UNSET
        item.redacted = data is None and may_be_stripped and meaning.carries_data
        _data(item, kind, data, time)
    # Progress and what is not known may come twice in one millisecond with different data; no other type does.
    stamp = event.timestamp if isinstance(event.timestamp, str) else ""
    item.identity = f"{job_id}\0{kind}\0{time or stamp}"
    if data is not None and (time is None or kind not in _TOLD_BY_TIME):
        item.identity += "\0" + bytes(data).decode()
    return item


#: Types of which a job has one at a time: their time tells them apart, whether or not a token may see their data.
_TOLD_BY_TIME = frozenset(
    {"created", "delivered", "acked", "completed", "retried", "dead", "delivery_timeout", "killed"}
)


def _data(item: Observation, kind: str, data: Raw | None, time: str | None) -> None:
    """emit-websockets.txt, "Event reference", column `data field`."""
    if kind == "progress":
        item.detail = data
        if (
            data is not None
            and (percent := native.percent(_object(data, _decode_progress, _ProgressData).percent)) is not None
        ):
            item.progress = percent
    elif kind == "checkpoint":
        item.detail = data
    elif kind == "completed":
        item.completed_at, item.error = time, None
        if data is not None:
            item.result = data
    elif kind in ("dead", "killed", "retried"):
        failure = _object(data, _decode_error, _ErrorData) if data is not None else _ErrorData()
        if kind == "retried":
            # The job starts over: what it had reached is gone.
            item.progress, item.started_at, item.completed_at = None, None, None
            if (attempt := native.integer(failure.attemptNumber)) is not None:
                item.attempt = attempt
        else:
            item.completed_at = time
        message = native.text(failure.error)
        if message is None and failure.error not in (UNSET, None):
            message = msgspec.json.encode(failure.error).decode()
        item.error = TaskError(message=message) if message is not None else None
        if kind == "killed" and message is None:
            item.detail = data
    elif kind == "acked":
        item.started_at, item.completed_at, item.error = time, None, None
    elif kind == "delivered":
        item.completed_at, item.error = None, None
    elif kind == "delivery_timeout":
        item.started_at = None
    else:  # created
        item.created_at = time
        if data is not None:
            item.input = data


def _object(data: Raw, decode: Any, default: Any) -> Any:
    """The fields of a JSON object; nothing where the data is of another kind (it is whatever the worker sent)."""
    return decode(data) if bytes(data).startswith(b"{") else default()


class _Job(msgspec.Struct, gc=False):
    """A job as the newer editions' REST API shows it."""

    id: str
    status: str
    name: object = UNSET
    payload: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    attemptNumber: object = UNSET  # noqa: N815
    startedAt: object = UNSET  # noqa: N815
    completedAt: object = UNSET  # noqa: N815
    createdAt: object = UNSET  # noqa: N815


_decode_job = msgspec.json.Decoder(_Job).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode


def read_job(body: bytes) -> list[Item]:
    """The state in the answer to `GET /api/v1/jobs/{jobId}`: the job itself, or under `job` or `data`."""
    try:
        return [native.decoded(body, _wrapped_job)]
    except native.DECODE_ERRORS as error:
        return [Rejected("malformed", f"the answer is not a job: {error}", native.excerpt(body))]


def _wrapped_job(text: str) -> Observation:
    fields = _decode_fields(text)
    for wrapper in ("job", "data"):
        if "status" not in fields and wrapper in fields:
            text = bytes(fields[wrapper]).decode()
            fields = _decode_fields(text)
    return _job(text)


def read_jobs(body: bytes) -> list[Item]:
    """The states in the answer to `GET /api/v1/spaces/{spaceId}/jobs`: a list, or an object with one under `jobs` or `data`."""
    try:
        jobs = native.decoded(body, _listed)
    except native.DECODE_ERRORS as error:
        return [Rejected("malformed", f"the answer is not a list of jobs: {error}", native.excerpt(body))]
    items: list[Item] = []
    for job in jobs:
        try:
            items.append(_job(bytes(job).decode()))
        except native.DECODE_ERRORS as error:
            items.append(
                Rejected("malformed", f"an item of the list is not a job: {error}", native.excerpt(bytes(job)))
            )
    return items


def _listed(text: str) -> list[Raw]:
    if text.lstrip()[:1] == "{":
        fields = _decode_fields(text)
        listed = next((fields[key] for key in ("jobs", "data", "items") if key in fields), Raw(b"[]"))
        text = bytes(listed).decode()
    return _decode_list(text)


def _job(text: str) -> Observation:
    job = _decode_job(text)
    status = STATUS.get(job.status)
    name = native.text(job.name)
    completed = rfc3339.normalize(job.completedAt)
    result = None if job.result is UNSET or job.result == _NULL else job.result
    failed = status == "failed" and result is not None
    item = Observation(
        task_id=job.id,
        native_type="job",
        payload=Raw(text.encode()),
        origin="reconcile",
        status=status or "unknown",
        native_status=job.status,
        kind=name if name is not None else UNSET,
        name=name if name is not None else UNSET,
        created_at=rfc3339.normalize(job.createdAt) or UNSET,
        started_at=rfc3339.normalize(job.startedAt) or UNSET,
        completed_at=completed or UNSET,
        unfamiliar=status is None,
    )
    if job.payload is not UNSET:
        item.input = None if job.payload == _NULL else job.payload
    if (attempt := native.integer(job.attemptNumber)) is not None:
        item.attempt = attempt
    if result is not None and not failed:
        item.result = result
    if failed and result is not None:
        message = native.text(_object(result, _decode_error, _ErrorData).error)
        if message is not None:
            item.error = TaskError(message=message)
    if status in FINISHED and completed is not None:
        item.time = completed
        item.identity = f"{job.id}\0{job.status}\0{completed}"
    return item
