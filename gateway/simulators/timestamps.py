"""How the upstreams write an instant. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def micros(at: float) -> str:
    """`2026-05-27T00:00:00Z`, with microseconds where there are any (Triverse)."""
    return _utc(at).isoformat().replace("+00:00", "Z")


def millis(at: float) -> str:
    """`2025-02-24T10:32:00.000Z` (emit.run)."""
    return _utc(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def offset(at: float) -> str:
    """`2025-01-16T11:07:57.954470+00:00` (Catalyst)."""
    return _utc(at).isoformat(timespec="microseconds")


def parse(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 instant; one without an offset is UTC.

    Raises:
        ValueError: it is none.
    """
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def whole(at: float) -> int:
    """Microseconds since 1970: what two instants are compared by, since that is what the texts can tell apart."""
    return round(at * 1_000_000)


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(whole(at) / 1_000_000, UTC)
