"""The attempts of a delivery: as they are kept, in few bytes, and as they are listed (contract, section 5). Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas import rfc3339

NONE = b"[]"
#: Attempts that a delivery keeps, the newest: one that is replayed again and again must not grow without end.
KEPT = 100


class Attempt(msgspec.Struct, gc=False, omit_defaults=True):
    """An attempt as it is kept. An entry without a duration was none: see `end`.

    `at` is in seconds since 1970 (UTC); in rows of logs of schema 1 it may be the RFC 3339 text that is listed.
    """

    at: float | str
    status: int | None = None
    duration_ms: float | None = None
    error: str | None = None
    response: str | None = None


def attempt(at: float, status: int | None, duration: float, error: str | None, response: str | None) -> Attempt:
    """An attempt.

    Args:
        at: when it began, seconds since 1970, UTC.
        duration: seconds.
    """
    return Attempt(at, status, round(duration * 1000, 3), error, response)


def end(at: float, why: str) -> Attempt:
    """An entry for an end that no attempt brought about. It has no duration, which is what it is known by."""
    return Attempt(at, error=why)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Attempt]).decode


def append(attempts: bytes, entry: Attempt) -> bytes:
    """The attempts with one more."""
    if attempts == NONE:
        return _encode([entry])
    return _encode([*_decode(attempts), entry][-KEPT:])


def listed(attempts: bytes) -> list[dict[str, Any]]:
    """The attempts, oldest first, each with all its members and its time as RFC 3339."""
    return [
        msgspec.structs.asdict(one) | {"at": one.at if isinstance(one.at, str) else rfc3339.render(one.at)}
        for one in _decode(attempts)
    ]
