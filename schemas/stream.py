"""What a stream connection says beside the events of the log: client commands, notices, close codes.

Owns their shapes and the verdict that each close carries. Must not know connections, subscriptions or tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from schemas.event import GATEWAY_SOURCE, STREAM_SCHEMA, Model, Sequence
from schemas.filter import Filter, asked

#: The WebSocket subprotocol of CloudEvents in JSON, one event a text message (CloudEvents WebSockets binding, section 2).
SUBPROTOCOL = "cloudevents.json"
#: Greatest client message, in bytes; a longer one closes the connection with 1009.
MAX_COMMAND = 64 * 1024
#: Name of the subscription that the URL asks for.
DEFAULT_SUBSCRIPTION = "default"


# --- close codes -----------------------------------------------------------------------------------------------------


class Verdict(StrEnum):
    """Whether a client should come back after a close."""

    NEVER = "never"
    """Not unchanged: the same request would be refused again."""
    LATER = "later"
    """After `data.reconnect_after_ms` of `stream.closing`."""
    BACKOFF = "backoff"
    """With growing waits."""
    AT_ONCE = "at_once"
    """Now, with `after`."""


@dataclass(frozen=True, slots=True)
class Close:
    """Why a connection ends: WebSocket close code, constant reason, and whether to come back."""

    code: int
    reason: str
    verdict: Verdict


SHUTTING_DOWN = Close(1001, "shutting_down", Verdict.LATER)
ORIGIN_REFUSED = Close(1008, "origin_refused", Verdict.NEVER)
TOO_BIG = Close(1009, "message_too_big", Verdict.NEVER)
FAILURE = Close(1011, "internal_error", Verdict.BACKOFF)
MALFORMED = Close(4000, "malformed_commands", Verdict.NEVER)
UNAUTHENTICATED = Close(4001, "unauthenticated", Verdict.NEVER)
NOT_ALLOWED = Close(4003, "not_allowed", Verdict.NEVER)
EXPIRED = Close(4009, "token_expired", Verdict.NEVER)
TOO_MANY = Close(4129, "too_many", Verdict.BACKOFF)
TOO_SLOW = Close(4208, "too_slow", Verdict.AT_ONCE)

#: Every close that the gateway begins, by code.
CLOSES = {
    close.code: close
    for close in (
        SHUTTING_DOWN, ORIGIN_REFUSED, TOO_BIG, FAILURE, MALFORMED, UNAUTHENTICATED, NOT_ALLOWED, EXPIRED, TOO_MANY, TOO_SLOW,
    )
}  # fmt: skip


# --- commands --------------------------------------------------------------------------------------------------------


class _Command(BaseModel):
    """An unknown key is an error, because a misspelt `filter` would otherwise show everything."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Subscribe(_Command):
    """Adds a subscription. With both `after` and `snapshot`, what can be replayed is replayed, else the snapshot comes."""

    op: Literal["subscribe"]
    id: Annotated[StrictStr, Field(min_length=1, max_length=128, description="unique on the connection")]
    filter: Annotated[Filter, AfterValidator(asked)] = Filter()
    after: StrictStr | Annotated[StrictInt, Field(ge=0)] | None = Field(
        default=None, description="`<sequence>` or `<epoch>:<sequence>`"
    )
    snapshot: StrictBool = False


class Unsubscribe(_Command):
    """Ends a subscription."""

    op: Literal["unsubscribe"]
    id: Annotated[StrictStr, Field(min_length=1, max_length=128)]


class Authenticate(_Command):
    """Presents a token: as the first message of a connection without one, or to renew it before it expires."""

    op: Literal["authenticate"]
    token: Annotated[StrictStr, Field(min_length=1, repr=False)]


class Ping(_Command):
    """Asks for `stream.pong`, which has the same `id`."""

    op: Literal["ping"]
    id: Annotated[StrictStr, Field(max_length=128)] | None = None


Command = Subscribe | Unsubscribe | Authenticate | Ping

COMMANDS: dict[str, type[Command]] = {
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "authenticate": Authenticate,
    "ping": Ping,
}


# --- notices ---------------------------------------------------------------------------------------------------------


class Opened(Model):
    """`data` of `stream.opened`, the first message of every connection."""

    session: str = Field(min_length=1, description="name of the connection, in the gateway's logs too")
    sequence: Sequence = Field(description="current end of the log")
    epoch: str = Field(min_length=1, description="name of the log")
    scope: str = Field(description="space-separated; empty before authentication")


class Subscribed(Model):
    """`data` of `stream.subscribed`. A later one of the same id replaces what the earlier one said."""

    id: str
    resume: Literal["live", "replayed", "snapshot", "reset"]
    sequence: Sequence = Field(description="what follows starts after this position")


class Synced(Model):
    """`data` of `stream.synced`: everything up to `sequence` has been sent."""

    id: str
    sequence: Sequence


class Unsubscribed(Model):
    """`data` of `stream.unsubscribed`."""

    id: str


class Error(Model):
    """`data` of `stream.error`; the connection stays open. `unknown_parameter` is about the URL, the others about commands."""

    code: str
    message: str
    field: str | None = Field(description="which part of the command, dotted, or parameter of the URL is meant")
    id: str | None = Field(description="id of the subscription that the command named")


class Conflated(Model):
    """`data` of `stream.conflated`, sent before the next event of the task."""

    task: str
    skipped: Annotated[int, Field(ge=1)] = Field(description="how many of its progress events were folded away")


class Pong(Model):
    """`data` of `stream.pong`."""

    id: str | None = None


class Closing(Model):
    """`data` of `stream.closing`, the last message of a connection that the gateway ends."""

    reason: str
    reconnect_after_ms: Annotated[int, Field(ge=0)] | None = Field(description="null: do not come back unchanged")
    code: int = Field(description="the WebSocket close code that follows; SSE has no other way to tell it")


#: Type of a notice → model of its `data`.
NOTICES: dict[str, type[Model]] = {
    "stream.opened": Opened,
    "stream.subscribed": Subscribed,
    "stream.synced": Synced,
    "stream.unsubscribed": Unsubscribed,
    "stream.error": Error,
    "stream.conflated": Conflated,
    "stream.pong": Pong,
    "stream.closing": Closing,
}


class _Notice(msgspec.Struct, frozen=True, gc=False):
    """A notice on its way out; the order of the fields is the order of the keys."""

    specversion: str
    sequence: str
    id: str
    source: str
    type: str
    time: str
    datacontenttype: str
    dataschema: str
    data: dict[str, Any]


_encode = msgspec.json.Encoder().encode


def notice(kind: str, data: dict[str, Any], *, id: str, sequence: int, time: str) -> bytes:
    """A notice as one CloudEvent.

    Args:
        kind: `type` of the event, a key of `NOTICES`.
        data: fields of the model of that type.
        id: unique on the connection.
        sequence: position of the log at which the notice is valid.
        time: RFC 3339 UTC.
    """
    return _encode(
        _Notice("1.0", position(sequence), id, GATEWAY_SOURCE, kind, time, "application/json", STREAM_SCHEMA, data)
    )


def position(sequence: int) -> str:
    """A position of the log as events write it: 20 digits."""
    return f"{sequence:020d}"
