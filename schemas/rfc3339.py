"""RFC 3339 timestamps in UTC, the only form of time that leaves the gateway.

Owns the conversion in both directions. Must not know where a time comes from: callers pass it in.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

_PLAIN = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)?", re.ASCII)


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def render(epoch: float) -> str:
    """A time in seconds since 1970 (UTC) as `2025-01-16T11:07:57.954470Z`, microseconds always shown."""
    micros = round(epoch * 1_000_000)
    return f"{_second(micros // 1_000_000)}.{micros % 1_000_000:06d}Z"


def normalize(text: object) -> str | None:
    """An upstream's timestamp as RFC 3339 with `Z`; its digits are kept. None where it is not a timestamp.

    A timestamp without an offset is UTC: every upstream document says that its times are.
    """
    if not isinstance(text, str) or not _PLAIN.fullmatch(text):
        return None
    body, suffix = text[:19], text[19:]
    try:
        if suffix[-1:] in ("Z", "z", "") or suffix[-6:] in ("+00:00", "-00:00") or suffix[-5:] in ("+0000", "-0000"):
            datetime.fromisoformat(body)
            fraction = re.match(r"(?:\.\d+)?", suffix)
            return f"{body[:10]}T{body[11:]}{fraction.group() if fraction else ''}Z"
        if suffix.lstrip(".0123456789") == "":
            datetime.fromisoformat(body)
            return f"{body[:10]}T{body[11:]}{suffix}Z"
        return render(parse(text))
    except (ValueError, OverflowError):
        return None


def parse(text: str) -> float:
    """Seconds since 1970 (UTC) of an RFC 3339 or ISO 8601 timestamp; without an offset it is read as UTC.

    Raises:
        ValueError: `text` is not a timestamp.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
