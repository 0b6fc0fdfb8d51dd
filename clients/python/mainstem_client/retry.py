"""Whether to come back after a connection has ended, and when. Pure: chance is passed in.

The gateway's close codes say it by their class: 40xx do not retry unchanged, 41xx retry with backoff, 42xx retry at once;
1001 retry when told to. Everything that is not the gateway's own word (a cut, a proxy's 502) is worth a retry with backoff.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

Verdict = Literal["at_once", "backoff", "renew", "refused"]

#: Codes that a new token may mend: missing or bad, expired.
_TOKEN = frozenset({4001, 4009})
_REFUSED = frozenset({1008, 1009})
#: HTTP statuses that the same request would get again.
_REFUSED_STATUS = frozenset({400, 403, 404, 405, 406, 410, 414, 426, 431, 451})
#: No gateway can ask for a longer wait than this, in seconds.
LONGEST_REQUEST = 300.0


def after_close(code: int | None) -> Verdict:
    """What a WebSocket close code asks for; None: the connection broke off."""
    if code in _TOKEN:
        return "renew"
    if code is None or not (4000 <= code < 4300 or code in _REFUSED):
        return "backoff"
    if code in _REFUSED or code < 4100:
        return "refused"
    return "backoff" if code < 4200 else "at_once"


def after_status(status: int) -> Verdict:
    """What an HTTP status instead of the upgrade asks for."""
    if status == 401:
        return "renew"
    return "refused" if status in _REFUSED_STATUS else "backoff"


def retry_after(header: str | None, now: float) -> float | None:
    """A `Retry-After` in seconds, from a number or an HTTP date (RFC 9110, 10.2.3); None where it is neither."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """Full jitter: the n-th wait is random between 0 and min(max, initial * 2^n) seconds.

    Attributes:
        initial: ceiling of the first wait.
        max: ceiling of every later one.
        give_up: attempts in a row without an event after which to raise; None: go on for ever.
    """

    initial: float = 0.5
    max: float = 20.0
    give_up: int | None = None

    def delay(self, attempt: int, chance: float, asked: float | None = None) -> float:
        """Seconds before the attempt of this number, from 0; `asked` by the gateway is a lower bound, itself bounded."""
        ceiling = min(self.max, self.initial * 2.0 ** min(attempt, 64))
        return max(ceiling * chance, min(asked or 0.0, LONGEST_REQUEST))
