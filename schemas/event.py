"""The canonical event: the schema of record.

Every message that a consumer gets is one CloudEvents 1.0 event in structured JSON (CloudEvents spec 1.0.2, JSON event
format). The gateway encodes its own events without these models, because validating what we wrote ourselves would cost
more than the whole rest of the way; the tests validate every event they see against them, and the JSON Schemas are made
from them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

#: `dataschema` of the events, and `$id` of the JSON Schemas served under `/schemas/`.
TASK_SCHEMA = "urn:mainstem:schema:task-event:1"
SOURCE_SCHEMA = "urn:mainstem:schema:source-event:1"
STREAM_SCHEMA = "urn:mainstem:schema:stream-event:1"
WEBHOOK_SCHEMA = "urn:mainstem:schema:webhook-event:1"

#: `source` of the gateway's own notices.
GATEWAY_SOURCE = "/mainstem"


class Status(StrEnum):
    """Canonical status of a task, in order of progress."""

    PENDING = "pending"
    QUEUED = "queued"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETED = "deleted"
    UNKNOWN = "unknown"


#: A task with one of these will not move again, unless its upstream really runs it once more.
FINISHED = frozenset({"succeeded", "failed", "cancelled", "deleted"})

#: How far a status is along the way; equal for all finished ones, lowest where the upstream does not say.
RANK = {
    "unknown": -1, "pending": 0, "queued": 1, "dispatched": 2, "running": 3,
    "succeeded": 4, "failed": 4, "cancelled": 4, "deleted": 4,
}  # fmt: skip

#: The type under which the first sight of a state, or the arrival at a status, is published.
TYPE_OF_STATUS = {
    "pending": "task.created",
    "queued": "task.queued",
    "dispatched": "task.dispatched",
    "running": "task.started",
    "succeeded": "task.succeeded",
    "failed": "task.failed",
    "cancelled": "task.cancelled",
    "deleted": "task.deleted",
    "unknown": "task.updated",
}

TASK_TYPES = (
    "task.created", "task.queued", "task.dispatched", "task.started", "task.progressed", "task.checkpointed",
    "task.retried", "task.requeued", "task.succeeded", "task.failed", "task.cancelled", "task.updated",
    "task.status_changed", "task.owner_added", "task.owner_removed", "task.assignee_added", "task.assignee_removed",
    "task.deleted", "task.snapshot",
)  # fmt: skip
WEBHOOK_TYPES = (
    "webhook.created", "webhook.updated", "webhook.deleted", "webhook.enabled", "webhook.disabled",
    "webhook.secret_rotated", "webhook.replayed", "webhook.retried", "webhook.test",
)  # fmt: skip
SOURCE_TYPES = ("source.connected", "source.disconnected", "source.gap", "source.failed", "source.finished")

Text = Annotated[str, Field(min_length=1)]
Timestamp = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")]
Sequence = Annotated[str, Field(pattern=r"^\d{20}$")]


class Model(BaseModel):
    """Consumers ignore unknown keys, so do these models; what is known is checked strictly."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


class Queue(Model):
    """Where a waiting task stands."""

    position: float | None
    estimated_wait_seconds: float | None


class Task(Model):
    """A task's state after the event. Keys are always present, null where unknown."""

    key: Text = Field(description='"<source name>/<task id>"')
    id: Text
    source: Text = Field(description="name of the source in the configuration")
    adapter: Text
    kind: str | None = Field(description='Triverse flow name, emit job name, Catalyst "object-class:<id>"')
    name: str | None
    status: Status = Field(strict=False)
    native_status: str | None = Field(description="the upstream's own word")
    progress: Annotated[float, Field(ge=0, le=100)] | None
    attempt: int | None = Field(description="as the upstream numbers it")
    created_at: Timestamp | None
    started_at: Timestamp | None
    completed_at: Timestamp | None
    queue: Queue | None
    priority: int | None = Field(description="scheduling priority, known from a task creation response")
    cost_credits: float | None = Field(description="credits frozen for the task, known from a task creation response")


class TaskError(Model):
    """Why a task failed."""

    code: str | int | None
    message: str | None
    suggestion: str | None


class Native(Model):
    """The upstream's own event type and its public payload; documented-internal fields never."""

    type: str
    payload: JsonValue


class TaskData(Model):
    """`data` of a `task.*` event."""

    task: Task
    changed: list[str] = Field(description="fields that differ from the state before the event; empty on a snapshot")
    detail: JsonValue = Field(description="what belongs to this occurrence only: progress or checkpoint payload")
    input: JsonValue
    result: JsonValue
    error: TaskError | None
    origin: Literal["live", "catchup", "reconcile", "snapshot"]
    redacted: bool = Field(description="a scope, ours or the upstream token's, removed fields")
    received_at: Timestamp
    native: Native | None


class Event(Model):
    """A CloudEvents 1.0 event as this gateway sends it."""

    specversion: Literal["1.0"]
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    source: Text
    type: Annotated[str, Field(pattern=r"^(task|source|stream|webhook)\.[a-z_]+$")]
    subject: Text | None = None
    time: Timestamp
    datacontenttype: Literal["application/json"]
    dataschema: Text
    sequence: Sequence
    data: dict[str, Any]


class TaskEvent(Event):
    """An event of a task."""

    type: Annotated[str, Field(pattern=r"^task\.[a-z_]+$")]
    source: Annotated[str, Field(pattern=r"^/[^/]+/[^/]+$", description='"/<adapter>/<source name>"')]
    subject: Text = Field(description="the upstream's task id")
    partitionkey: Text = Field(description='"<source name>/<task id>"')
    data: TaskData  # type: ignore[assignment]  # narrower than the parent's on purpose


class SourceData(Model):
    """`data` of a `source.*` notice."""

    source: Text
    adapter: Text
    endpoint: str | None = Field(default=None, description="path of the upstream connection, never its query")
    error: str | None = Field(default=None, description="in words: why it disconnected or failed")
    code: str | None = Field(default=None, description="close code, HTTP status or the upstream's own error code")
    from_: Timestamp | None = Field(default=None, alias="from")
    to: Timestamp | None = None
    recovered: bool | None = Field(default=None, description="the state of every known task was repaired")
    unverified: list[str] | None = Field(default=None, description="task ids whose state could not be repaired")


class SourceEvent(Event):
    """A notice of the gateway about one of its sources."""

    type: Annotated[str, Field(pattern=r"^source\.[a-z_]+$")]
    source: Literal["/mainstem"]
    subject: Text = Field(description="the source's name")
    data: SourceData  # type: ignore[assignment]  # narrower than the parent's on purpose


class WebhookData(Model):
    """`data` of a `webhook.*` event. Never holds a secret or the value of a header."""

    endpoint: Text = Field(description="name of the endpoint")
    by: str | None = Field(default=None, description="who asked for it; mainstem: nobody")
    changed: list[str] | None = Field(default=None, description="webhook.updated: the settings that differ now")
    pending: int | None = Field(
        default=None, description="webhook.deleted, by the configuration: deliveries that were pending"
    )
    dead: int | None = Field(default=None, description="webhook.deleted, by the configuration: dead letters")
    reason: str | None = Field(default=None, description="webhook.disabled: why")
    failing_since: Timestamp | None = Field(default=None, description="webhook.disabled: since when everything failed")
    last_error: str | None = Field(default=None, description="webhook.disabled: of the latest failed attempt")
    overlap: float | None = Field(
        default=None, description="webhook.secret_rotated: seconds for which the old secret signs as well"
    )
    after: Sequence | None = Field(default=None, description="webhook.replayed: events after this position come again")
    upto: Sequence | None = Field(default=None, description="webhook.replayed: and up to this one")
    requested: Sequence | None = Field(
        default=None, description="webhook.replayed: position that was asked for; the log may not reach back to it"
    )
    delivery: str | None = Field(default=None, description="webhook.retried: the delivery, where it is one")
    deliveries: int | None = Field(default=None, description="webhook.retried: how many dead letters, where it is all")


class WebhookEvent(Event):
    """An event of the gateway about one of its webhook endpoints."""

    type: Annotated[str, Field(pattern=r"^webhook\.[a-z_]+$")]
    source: Literal["/mainstem"]
    subject: Text = Field(description="the endpoint's name")
    data: WebhookData  # type: ignore[assignment]  # narrower than the parent's on purpose


class StreamEvent(Event):
    """A notice of the stream to one connection; never in the log."""

    type: Annotated[str, Field(pattern=r"^stream\.[a-z_]+$")]
    source: Literal["/mainstem"]


def validate(event: dict[str, Any]) -> Event:
    """Checks an event against the model of its type.

    Raises:
        pydantic.ValidationError: it is not what the contract promises.
    """
    kind = str(event.get("type", "")).partition(".")[0]
    models: dict[str, type[Event]] = {
        "task": TaskEvent,
        "source": SourceEvent,
        "webhook": WebhookEvent,
        "stream": StreamEvent,
    }
    return models.get(kind, Event).model_validate(event)
