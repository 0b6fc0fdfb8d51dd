"""What can be said of an endpoint, for people and programs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What can be said of an endpoint now. Times in seconds since 1970, UTC.

    Attributes:
        state: in a word: `disabled`, `replaying`, `paused` (nothing new is sent), `failing`, or `delivering`.
        disabled: why nothing is sent; None: it is enabled.
        failing_since: of the first failed attempt after the last success; None: the last attempt succeeded.
        breaker: `open`: nothing new is sent but probes, because everything failed lately; else `closed`.
        pending: deliveries that wait or are in flight; what has not been read from the log yet is not counted.
        in_flight: of these, those in flight.
        dead: dead letters.
        position: everything up to there is settled or has a row.
        lag: events that the log has behind the last one that was looked at.
        last_error: of the latest failed attempt.
        paused_until: nothing new is sent before.
        replay_upto: events up to there are delivered again; None: no replay is under way.
    """

    name: str
    state: str
    disabled: str | None
    failing_since: float | None
    breaker: str
    pending: int
    in_flight: int
    dead: int
    position: int
    lag: int
    last_error: str | None
    last_error_at: float | None
    last_delivered_at: float | None
    paused_until: float | None
    replay_upto: int | None
