"""RFC 3339 timestamps in UTC, the only form of time that leaves the gateway.

Owns the conversion in both directions. Must not know where a time comes from: callers pass it in.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

_LIKELY = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?\s?([Zz]|[+-]\d\d:?\d\d|)", re.ASCII
)  # RFC 3339 section 5.6, and its near relatives without an offset


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def render(epoch: float) -> str:
    """A time in seconds since 1970 (UTC) as `2025-01-16T11:07:57.954470Z`, microseconds always shown."""
    second, micros = divmod(round(epoch * 1_000_000), 1_000_000)
    return f"{_second(second)}.{micros:06d}Z"


@lru_cache(maxsize=4096)
def _normalize(text: str) -> str | None:
    match = _LIKELY.fullmatch(text)
    if match is None:
        return None
    day, clock, fraction, offset = match.groups()
    try:
        plain = f"{day}T{clock}{fraction or ''}Z"
        if offset in ("", "Z", "z", "+00:00", "-00:00", "+0000", "-0000"):
            datetime.fromisoformat(f"{day}T{clock}")
            return plain
        return render(datetime.fromisoformat(f"{day}T{clock}{(fraction or '')[:7]}{offset}").timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def normalize(value: object) -> str | None:
    """An upstream's timestamp as RFC 3339 with `Z`, its digits kept where it is UTC already; None where it is none.

    A timestamp without an offset is UTC: every upstream document says that its times are.
    """
    if not isinstance(value, str) or len(value) > 64:
        return None
    body = value[:-1] if value[-1:] == "Z" else value[:-6] if value[-6:] == "+00:00" else ""
    # The usual form, at a tenth of the cost: a look at the separators, and the digits left to the standard library.
    separators = body[4:20:3]
    if (separators == "--T::." and body[20:].isdigit() and body.isascii()) or (
        separators == "--T::" and len(body) == 19
    ):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return None
        return body + "Z"
    return _normalize(value)


def parse(text: str) -> float:
    """Seconds since 1970 (UTC) of an RFC 3339 timestamp.

    Raises:
        ValueError: `text` is not a timestamp.
    """
    normal = normalize(text)
    if normal is None:
        raise ValueError(f"{text[:64]!r} is not a timestamp")
    return datetime.fromisoformat(normal[:26].rstrip("Z") + "+00:00").timestamp()
