"""The attempts of a delivery as they are kept and listed (contract, section 5). Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas import rfc3339

NONE = b"[]"
#: Attempts that a delivery keeps, the newest: one that is replayed again and again must not grow without end.
KEPT = 100


class Attempt(msgspec.Struct, gc=False):
    """An attempt as it is listed (contract, section 5). An entry without a duration was none: see `end`."""

    at: str
    status: int | None
    duration_ms: float | None
    error: str | None
    response: str | None


def attempt(at: float, status: int | None, duration: float, error: str | None, response: str | None) -> Attempt:
    """An attempt.

    Args:
        at: when it began, seconds since 1970, UTC.
        duration: seconds.
    """
    return Attempt(rfc3339.render(at), status, round(duration * 1000, 3), error, response)


def end(at: float, why: str) -> Attempt:
    """An entry for an end that no attempt brought about. It has no duration, which is what it is known by."""
    return Attempt(rfc3339.render(at), None, None, why, None)


_encode = msgspec.json.Encoder().encode


def append(attempts: bytes, entry: Attempt) -> bytes:
    """The attempts with one more."""
    if attempts == NONE:
        return _encode([entry])
    return _encode([*msgspec.json.decode(attempts), entry][-KEPT:])


def listed(attempts: bytes) -> list[dict[str, Any]]:
    """The attempts, oldest first."""
    decoded: list[dict[str, Any]] = msgspec.json.decode(attempts)
    return decoded
