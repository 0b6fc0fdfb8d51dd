"""What an attempt's outcome means and when the next attempt is due. Pure.

Owns the verdict on an answer, the retry delays and `Retry-After`. Must not know how an answer was got, nor what else goes
to the same endpoint.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum

#: Seconds after each failed attempt: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h (Standard Webhooks, "Retries").
DEFAULT_DELAYS = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
#: A delay is lengthened by up to this share of itself, never shortened: what failed together must not return together.
JITTER = 0.2
#: No receiver can put a delivery off for longer than the longest delay of the default schedule, in seconds.
MAX_RETRY_AFTER = 86400.0

#: Whole ones in the standard; fractions are sent nevertheless.
_SECONDS = re.compile(r"\d+(?:\.\d*)?", re.ASCII)


class Fate(Enum):
    """What becomes of a delivery after an attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A delivery's fate, and for `RETRY` the seconds until the next attempt."""

    fate: Fate
    delay: float = 0.0


DELIVERED = Verdict(Fate.DELIVERED)


def judge(status: int | None, tries: int, delays: Sequence[float], retry_after: float | None, chance: float) -> Verdict:
    """What an attempt means for its delivery (Standard Webhooks, "Deliverability and reliability").

    Args:
        status: HTTP status of the answer; None where there was none.
        tries: attempts made, this one included.
        delays: seconds after each failed attempt; one more attempt is made than there are delays.
        retry_after: seconds that the receiver asked for: a lower bound.
        chance: random, at least 0 and less than 1.
    """
    if status is not None and 200 <= status < 300:
        return DELIVERED
    if status == 410:
        return Verdict(Fate.DISABLE)
    if tries > len(delays):
        return Verdict(Fate.DEAD)
    delay = delays[tries - 1] * (1 + JITTER * chance)
    return Verdict(Fate.RETRY, max(delay, retry_after or 0.0))


def parse_retry_after(values: Iterable[str], now: float) -> float | None:
    """Seconds that `Retry-After` headers ask for (RFC 9110, 10.2.3), at most `MAX_RETRY_AFTER`; None: nothing readable.

    Args:
        values: the headers. There should be one, but proxies add theirs; each is a lower bound, so the longest wait holds.
        now: seconds since 1970, UTC.
    """
    return max((wait for value in values if (wait := _wait(value.strip(), now)) is not None), default=None)


def _wait(text: str, now: float) -> float | None:
    """Seconds until what a header says: a number of seconds, or an HTTP date."""
    if _SECONDS.fullmatch(text):
        return float(math.ceil(min(float(text), MAX_RETRY_AFTER)))
    try:
        moment = parsedate_to_datetime(text)
        # A date without a zone is UTC like every HTTP date (RFC 9110, 5.6.7), never this machine's local time.
        wait = moment.timestamp() - now if moment.tzinfo else moment.replace(tzinfo=UTC).timestamp() - now
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return min(max(wait, 0.0), MAX_RETRY_AFTER)
