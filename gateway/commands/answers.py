"""What commands read of a gateway's answers: the members without which they cannot go on. Pure.

Others are passed through as they are, so that a newer gateway is understood. Must not know what is done with an answer.
"""

from __future__ import annotations

from typing import TypedDict


class Health(TypedDict):
    """How an endpoint is doing."""

    state: str
    pending: int
    dead: int
    last_delivered_at: str | None
    last_error: str | None


class Endpoint(TypedDict):
    """An endpoint."""

    name: str
    url: str
    health: Health


class Created(Endpoint, total=False):
    """A new endpoint; the secret where it was generated."""

    secret: str


class Endpoints(TypedDict):
    """All endpoints."""

    items: list[Endpoint]


class Attempt(TypedDict):
    """One try to deliver."""

    status: int | None
    duration_ms: float | None
    error: str | None


class Delivery(TypedDict):
    """One event on its way to one endpoint."""

    id: str
    state: str
    attempts: list[Attempt]
    next_attempt_at: str | None
    type: str
    task: str | None


class Deliveries(TypedDict):
    """A page of deliveries."""

    items: list[Delivery]
    next: str | None


class Retried(TypedDict):
    """How many dead letters are tried again."""

    retried: int


class Replayed(TypedDict):
    """From where an endpoint is sent everything again."""

    after: str
    complete: bool


class Secret(TypedDict):
    """A secret, shown once."""

    secret: str


class Received(TypedDict, total=False):
    """When an event came."""

    received_at: str | None


class Event(TypedDict):
    """An event of the log."""

    sequence: str
    time: str
    data: Received


class Events(TypedDict):
    """A page of the log."""

    items: list[Event]
