"""The attempts of a delivery as they are kept and listed (contract, section 5). Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas import rfc3339

NONE = b"[]"
#: Attempts that a delivery keeps, the newest: one that is replayed again and again must not grow without end.
KEPT = 100


def attempt(at: float, status: int | None, duration: float, error: str | None, response: str | None) -> dict[str, Any]:
    """An attempt.

    Args:
        at: when it began, seconds since 1970, UTC.
        duration: seconds.
    """
    return {
        "at": rfc3339.render(at),
        "status": status,
        "duration_ms": round(duration * 1000, 3),
        "error": error,
        "response": response,
    }


def end(at: float, why: str) -> dict[str, Any]:
    """An entry for an end that no attempt brought about."""
    return attempt(at, None, 0, why, None)


def append(attempts: bytes, entry: dict[str, Any]) -> bytes:
    """The attempts with one more."""
    if attempts == NONE:
        return msgspec.json.encode([entry])
    return msgspec.json.encode([*msgspec.json.decode(attempts), entry][-KEPT:])


def listed(attempts: bytes) -> list[dict[str, Any]]:
    """The attempts, oldest first."""
    decoded: list[dict[str, Any]] = msgspec.json.decode(attempts)
    return decoded
