"""What the HTTP API answers beside events and problems: sources, watches, webhook endpoints, deliveries, health, lists.

The gateway encodes its answers without these models, as it does with events; OpenAPI is made from them, and the tests hold
every answer against it. Must not know routes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from schemas.event import Event, Model, Sequence, SourceEvent, TaskData, TaskEvent, Text, Timestamp, WebhookEvent

Cursor = Annotated[
    str | None, Field(description="to be passed as `cursor` for the next page; null where there is none")
]


class TaskState(TaskData):
    """A task now: `data` of its snapshot event, and the position of its last event."""

    sequence: Sequence = Field(description="a stream opened with it as `after` misses nothing of this task")


class TaskList(Model):
    """Tasks, ordered by key."""

    items: list[TaskState]
    next: Cursor
    sequence: Sequence = Field(description="position of the log that the page is valid at")


class EventList(Model):
    """Events of the log, oldest first, as the stream sends them."""

    items: list[TaskEvent | SourceEvent | WebhookEvent | Event]
    next: Cursor
    position: Text = Field(description="where the answer reaches to, `<epoch>:<sequence>`; poll with it as `after`")


class SourceStream(Model):
    """One upstream connection."""

    endpoint: Text = Field(description="path, never the query")
    state: Text = Field(description="`connecting`, `live`, `retrying`, `finished` or `failed`")
    since: Timestamp = Field(description="when it came to this state")
    last_frame_at: Timestamp | None
    reconnects: int
    error: str | None = Field(description="why it is not live, in words")


class Source(Model):
    """A configured source and how its connections are doing."""

    name: Text
    adapter: Text
    enabled: bool
    state: Text = Field(
        description="`connecting`, `live`, `retrying`, `finished`, `failed` (stopped for good) or `disabled`"
    )
    streams: list[SourceStream]
    last_frame_at: Timestamp | None
    reconnects: int
    gaps: int = Field(description="how often events may have been missed since the start")
    error: str | None


class SourceList(Model):
    """All sources within the token's bounds."""

    items: list[Source]
    next: Cursor


class Watch(Model):
    """The watch of a single task."""

    source: Text
    task_id: Text
    endpoint: Text = Field(description="path of the upstream connection, never its query")
    configured: bool = Field(description="it is in the configuration file")
    state: Text = Field(description="`connecting`, `live`, `retrying`, `finished` or `failed`")
    since: Timestamp
    error: str | None


class WatchList(Model):
    """All watches within the token's bounds."""

    items: list[Watch]
    next: Cursor


class WatchRequest(Model):
    """Which task to watch: by its id, by the upstream's answer to its creation, or both where they agree."""

    source: str = Field(description="name of the source")
    task_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    created: dict[str, JsonValue] = Field(
        default_factory=dict, description="a task creation response, as the upstream gave it (Triverse)"
    )


class EndpointSecrets(Model):
    """What may be known of an endpoint's secrets."""

    active: int = Field(description="how many sign at present")
    overlap_until: Timestamp | None = Field(description="when the last one that was replaced stops signing")
    public_key: str | None = Field(description="whpk_ and base64, where signatures are asymmetric")


class EndpointHealth(Model):
    """How a webhook endpoint is doing."""

    state: Text = Field(description="`disabled`, `replaying`, `paused`, `failing` or `delivering`")
    disabled: str | None = Field(description="why nothing is sent; null: it is enabled")
    failing_since: Timestamp | None = Field(description="null: the last attempt succeeded")
    breaker: Text = Field(description="`open`: nothing is sent but probes; `closed`")
    pending: int = Field(description="deliveries that wait or are in flight")
    in_flight: int
    dead: int = Field(description="dead letters")
    position: Sequence = Field(description="everything up to there is settled, or has a delivery")
    lag: int = Field(description="events that the log has behind the last one that was looked at")
    last_error: str | None
    last_error_at: Timestamp | None
    last_delivered_at: Timestamp | None
    paused_until: Timestamp | None
    replay_upto: Sequence | None = Field(description="events up to there are sent again; null: no replay is under way")


class EndpointAbout(Model):
    """What stands beside the settings of an endpoint in answers."""

    origin: Literal["file", "api"] = Field(description="where it was defined")
    secrets: EndpointSecrets
    health: EndpointHealth


class Secret(Model):
    """A webhook secret, shown once."""

    secret: str = Field(description="whsec_ and base64")


class RotateRequest(Model):
    """Which secret comes next, and for how long the old one signs as well."""

    secret: str | None = Field(default=None, description="whsec_ and 24 to 64 bytes in base64; generated where absent")
    overlap: Annotated[float, Field(ge=0, le=604800)] = Field(default=86400, description="seconds in which both sign")


class ReplayRequest(Model):
    """From where to send again: exactly one of the two."""

    after: str | Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="position: `<sequence>` or `<epoch>:<sequence>`"
    )
    since: str | None = Field(default=None, description="RFC 3339, or a length of time such as 24h")


class Replayed(Model):
    """From where an endpoint is sent everything again."""

    endpoint: Text
    after: Sequence = Field(description="events after this position")
    complete: bool = Field(description="false: the log does not reach back as far as was asked for")


class Retried(Model):
    """How many dead letters of an endpoint are tried again."""

    endpoint: Text
    retried: int


class Attempt(Model):
    """One try to deliver."""

    at: Timestamp
    status: int | None = Field(description="HTTP status; null where there was no answer")
    duration_ms: float | None = Field(description="null where nothing was sent: the entry says why the delivery ended")
    error: str | None = Field(description="in words; null where it was delivered")
    response: str | None = Field(description="the beginning of the answer's body")


class Delivery(Model):
    """One event on its way to one endpoint."""

    id: Text = Field(description="`<endpoint>.<sequence>`")
    event_id: Text = Field(description="`id` of the event, sent as `webhook-id`")
    endpoint: Text
    state: Literal["pending", "delivered", "dead", "skipped"]
    attempts: list[Attempt]
    next_attempt_at: Timestamp | None
    sequence: Sequence = Field(description="position of the event in the log")
    type: Text = Field(description="of the event")
    task: str | None = Field(description="key of the task; deliveries of one are in order")


class DeliveryList(Model):
    """Deliveries of an endpoint, newest first."""

    items: list[Delivery]
    next: Cursor


class SchemaEntry(Model):
    """Where a JSON Schema is."""

    name: Text
    id: Text = Field(description="its `$id`, which events give as `dataschema`")
    title: Text
    url: Text


class SchemaList(Model):
    """All JSON Schemas."""

    items: list[SchemaEntry]
    next: Cursor


class Alive(Model):
    """The process answers."""

    status: Literal["ok"]
    version: Text


class Check(Model):
    """One thing that readiness depends on; what failed is named beside it."""

    ok: bool


class Checks(Model):
    """All that readiness depends on."""

    log: Check = Field(description="the log can be written")
    draining: Check = Field(description="the process is not shutting down")
    sources: Check = Field(description="no enabled source has stopped for good; `failed` names those that have")
    tasks: Check = Field(description="no background task has died; `fallen` names those that have")


class ReadySource(Model):
    """What an open page says of a source."""

    name: Text
    adapter: Text
    enabled: bool
    state: Text


class Ready(Model):
    """Whether the gateway takes in and passes on, and what that depends on."""

    status: Literal["ready", "unready"]
    checks: Checks
    sources: list[ReadySource]
    webhooks: list[dict[str, JsonValue]] | None = Field(default=None, description="for information; never turns it red")
