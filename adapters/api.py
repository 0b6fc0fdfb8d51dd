"""The interface that an adapter author implements.

An adapter is sans-IO: bytes in, observations out. It never sees a socket, a clock, a task, a logger or a database; the
gateway owns every connection, timer and retry. The same code serves live traffic, the replay of a capture, and tests.

    Adapter    one per configured source: which connections to keep, how to reach them, how to look a task up
    Session    one per connection: frames in, items out
    Item       what a frame says: Observation, Rejected, Fault, Finished, Continuity
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.name import RULE, Name

UNSET = msgspec.UNSET
UnsetType = msgspec.UnsetType

Origin = Literal["live", "catchup", "reconcile"]


# --- configuration ---------------------------------------------------------------------------------------------------


class Reconnect(BaseModel):
    """Full-jitter backoff: the n-th wait is random between 0 and min(max, initial * 2^n) seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    initial: Annotated[float, Field(gt=0, le=3600, description="seconds; bound of the first wait")] = 0.5
    max: Annotated[float, Field(gt=0, le=86400, description="seconds; the bound doubles up to this")] = 60.0


class SourceConfig(BaseModel):
    """What every source has; an adapter's own model adds to it. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[Name, Field(description=f"unique; part of task keys; {RULE}")]
    adapter: Annotated[str, Field(description="which upstream it is")]
    url: Annotated[str, Field(description="ws:// or wss:// base; documented paths are appended to it")]
    enabled: Annotated[bool, Field(description="false: it is not connected to")] = True
    reconnect: Annotated[Reconnect, Field(description="waits between attempts, random up to a bound")] = Reconnect()
    ping_interval: Annotated[float, Field(gt=0, description="seconds; an unanswered ping is a dead connection")] = 20.0
    idle_timeout: Annotated[
        float | None, Field(gt=0, description="seconds without any data frame before reconnecting; off by default")
    ] = None
    rest_url: Annotated[
        str | None, Field(description="http(s) base of the REST API; derived from url where absent")
    ] = None

    @field_validator("url")
    @classmethod
    def _websocket(cls, value: str) -> str:
        return check_url(value, ("ws", "wss"))

    @field_validator("rest_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        return None if value is None else check_url(value, ("http", "https"))

    def ws(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """The URL of a documented WebSocket path below `url`."""
        return self.url.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")

    def rest(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """The URL of a documented REST path below `rest_url`, or below `url` with http for ws."""
        base = self.rest_url or "http" + self.url.removeprefix("ws")
        return base.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")


def check_url(value: str, schemes: Sequence[str]) -> str:
    """A base URL: one of the schemes, a host, no query or fragment.

    Raises:
        ValueError: it is not one.
    """
    parts = urlsplit(value)
    if parts.scheme not in schemes:
        raise ValueError(f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if not parts.hostname:
        raise ValueError("has no host")
    _ = parts.port  # raises ValueError where it is not a number
    if parts.query or parts.fragment:
        raise ValueError("must be a base URL without query or fragment")
    return value


def check_http_url(value: str) -> str:
    """A full http or https URL with a host; a query is welcome, user and password are not.

    Raises:
        ValueError: it is not one.
    """
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a full http:// or https:// URL")
    if parts.username or parts.password:
        raise ValueError("must not have a user or password in it: use headers")
    return value


# --- what to connect to and what to ask for --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP GET or a WebSocket handshake that the gateway makes for an adapter. Its repr shows no secret."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def endpoint(self) -> str:
        """The path alone: what may be shown in logs and events."""
        return urlsplit(self.url).path

    @property
    def origin(self) -> str:
        """Scheme, host and port alone."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One upstream connection that the gateway keeps.

    Attributes:
        key: unique within the source; names the durable cursor of this connection.
        path: path of the endpoint, never its query.
        task_id: set on a single-task watch, which ends when its task does.
        whole_source: every task of the source is in reach of this stream, however it became known.
        gap: when `source.gap` is due after a reconnect: `never`; `unverified`, where the state of a known unfinished task
            could be repaired by no means; `always`, where the upstream replays nothing, unless it says that nothing was missed.
        settle: seconds of quiet after which the states that the upstream sends on connect are taken to be complete. Known
            unfinished tasks that were not among them are then looked up. None: the upstream sends no states on connect
            and nothing can be looked up.
    """

    key: str
    path: str
    task_id: str | None = None
    whole_source: bool = False
    gap: Literal["never", "unverified", "always"] = "unverified"
    settle: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """What the gateway knows when it opens a connection.

    Attributes:
        first: this stream never was connected before, by this process or an earlier one.
        connected_at: when it was first connected, RFC 3339; None on the first connect.
        alive_at: until when the connection before this one was known to be up, RFC 3339; None on the first connect.
        now: the time of this connect, RFC 3339.
        cursor: what `Session.cursor` said when the last frame was stored, or None.
        oldest_unfinished: `created_at` of the oldest known unfinished task in reach of the stream.
        newest: greatest known `created_at` of a task of the source.
    """

    first: bool
    now: str
    connected_at: str | None = None
    alive_at: str | None = None
    cursor: dict[str, Any] | None = None
    oldest_unfinished: str | None = None
    newest: str | None = None


# --- what a frame says -----------------------------------------------------------------------------------------------


class Queue(msgspec.Struct, frozen=True):
    """Where a waiting task stands."""

    position: float | None = None
    estimated_wait_seconds: float | None = None


class TaskError(msgspec.Struct, frozen=True):
    """Why a task failed."""

    code: str | int | None = None
    message: str | None = None
    suggestion: str | None = None


class Observation(msgspec.Struct, kw_only=True, gc=False):
    """One thing that an upstream says about one task.

    A *state* (`type` is None) says what is: the gateway compares it with what it knows, and publishes the difference. An
    *occurrence* (`type` is a canonical type) says what happened, and is published as such, once.

    A field left UNSET is one that the upstream does not mention: what is known stays. None means that there is nothing.
    Times are RFC 3339 UTC with `Z`. JSON values are `msgspec.Raw`, compact (without line breaks) and already public.
    """

    task_id: str
    native_type: str
    payload: msgspec.Raw
    type: str | None = None
    #: occurrence: what tells it from every other one of the source, hashed into the event's id. On a state: the identity of
    #: the terminal occurrence where the upstream gives enough to know it.
    identity: str | None = None
    #: when it happened according to the upstream
    time: str | None = None
    origin: Origin = "live"
    #: it is a status the task has from now on (canonical), and the upstream's own word for it
    status: str | UnsetType = UNSET
    native_status: str | UnsetType | None = UNSET
    progress: float | UnsetType | None = UNSET
    kind: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    attempt: int | UnsetType | None = UNSET
    created_at: str | UnsetType | None = UNSET
    started_at: str | UnsetType | None = UNSET
    completed_at: str | UnsetType | None = UNSET
    queue: Queue | UnsetType | None = UNSET
    priority: int | UnsetType | None = UNSET
    cost_credits: float | UnsetType | None = UNSET
    input: msgspec.Raw | UnsetType | None = UNSET
    result: msgspec.Raw | UnsetType | None = UNSET
    error: TaskError | UnsetType | None = UNSET
    #: public fields of a state that no other field holds, as one JSON object: a change of them is a change
    extra: msgspec.Raw | UnsetType | None = UNSET
    #: what belongs to this occurrence only
    detail: msgspec.Raw | None = None
    #: the upstream's token made it leave fields out
    redacted: bool = False
    #: occurrence: may bring a failed or cancelled task back (a real re-run)
    revives: bool = False
    #: the upstream's word was not known to this version of the adapter
    unfamiliar: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A frame, or one item of a list, that cannot be understood. Counted and quarantined; everything else goes on.

    `reason` is a short constant (a metric label); `problem` says what is wrong and where; `excerpt` is the start of it.
    """

    reason: str
    problem: str
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """The upstream says that this connection is not going to work.

    `verdict`: `refused` will not get better by trying again; `retry` may; `slow_down` asks for a longer wait.
    """

    code: str
    message: str
    verdict: Literal["refused", "retry", "slow_down"]


@dataclass(frozen=True, slots=True)
class Finished:
    """The single-task watch is over: close the connection and do not come back."""


@dataclass(frozen=True, slots=True)
class Continuity:
    """The upstream's own word on what this connection missed since the last one; None: it does not know."""

    missed: int | None


Item = Observation | Rejected | Fault | Finished | Continuity
Verdict = Literal["retry", "slow_down", "refused", "finished"]


class Session(abc.ABC):
    """One connection. Made afresh for every connect; all that outlives a connection is in `cursor` and in the log."""

    @abc.abstractmethod
    def request(self) -> Request:
        """The WebSocket handshake."""

    @abc.abstractmethod
    def on_frame(self, frame: str | bytes) -> list[Item]:
        """What one data frame says, in order. Never raises on any input: what it cannot understand is `Rejected`."""

    def secrets(self) -> list[str]:
        """Credentials of this connection alone, such as a one-time ticket: scrubbed like those of `Adapter.secrets`."""
        return []

    def on_settled(self) -> None:  # noqa: B027  # optional: most upstreams send no states on connect
        """The states sent on connect are complete; what follows is live."""

    @property
    def cursor(self) -> dict[str, Any] | None:
        """The resume position after the frames so far; stored in the same transaction as what they said."""
        return None

    def on_close(self, code: int | None, reason: str) -> Verdict:
        """What a close by the upstream means. A clean close is no success: by default it is worth another try."""
        return "retry"


ConfigT = TypeVar("ConfigT", bound=SourceConfig)


class Adapter(abc.ABC, Generic[ConfigT]):
    """One configured source.

    Attributes:
        Config: the model that the source's section of the configuration file is validated with.
    """

    Config: ClassVar[type[SourceConfig]]

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    @abc.abstractmethod
    def streams(self) -> list[Stream]:
        """The connections that the configuration asks for."""

    @abc.abstractmethod
    def open(self, stream: Stream, resume: Resume, ticket: bytes | None) -> Session:
        """A session for a new connection. `ticket` is the answer to `authorize`, where that asked for one.

        Raises:
            ValueError: the ticket is not one.
        """

    def secrets(self) -> list[str]:
        """Values that must never be seen outside: they are scrubbed from every log line."""
        return []

    def authorize(self, stream: Stream) -> Request | None:
        """A request to make before each connect, whose answer `open` gets."""
        return None

    def refusal(self, status: int) -> Verdict:
        """What it means that a handshake, or `authorize`, was answered with this HTTP status instead of 101 or 200."""
        if status in (400, 401, 403, 404, 405, 410, 451):
            return "refused"
        return "slow_down" if status == 429 else "retry"

    def watch(self, task_id: str) -> Stream | None:
        """The single-task watch for a task, or None where the upstream has none.

        Raises:
            ValueError: the upstream can have no task with such an id.
        """
        return None

    def created(self, payload: bytes) -> list[Item]:
        """What a task creation response of the upstream (JSON) says; its first item is an Observation if it is one."""
        return [Rejected("unsupported", f"{self.config.adapter} has no task creation response")]

    def lookup(self, task_id: str) -> Request | None:
        """A request that answers with one task's current state."""
        return None

    def on_lookup(self, task_id: str, body: bytes) -> list[Item]:
        """What a 200 answer to `lookup` says; its observations have origin `reconcile`."""
        return []

    def listing(self, stream: Stream, page: int) -> Request | None:
        """A request that lists the tasks in reach of a stream, newest first; None where there is no such page."""
        return None

    def on_listing(self, body: bytes) -> list[Item]:
        """What a 200 answer to `listing` says; an empty list ends the listing."""
        return []

    def probe(self, task_id: str) -> Stream | None:
        """A stream that shows one task's state right after connect, to be closed again at once."""
        return None

    def download(self, task_id: str) -> Request | None:
        """A request for where a finished task's asset can be downloaded."""
        return None

    def on_download(self, body: bytes) -> msgspec.Raw | Rejected:
        """The public part of a 200 answer to `download`, as a JSON object."""
        return Rejected("unsupported", f"{self.config.adapter} has no downloads")
