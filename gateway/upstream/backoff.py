"""When to try again. Pure: chance and time are passed in.

Every reconnect waits here, one after a clean close included: an upstream that accepts and then closes must not be hammered.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Literal

#: No wait is shorter, whatever chance says.
FLOOR = 0.05
#: No upstream can ask for a longer wait than this.
LONGEST_REQUEST = 3600.0
#: Seconds that a connection must have been up beside having been of use: one frame and a close, over and over, is no health.
STEADY = 5.0
#: A wait that was asked for is stretched by up to this share, so that many gateways do not come back in one moment.
STRETCH = 0.25


class Backoff:
    """Full jitter: the n-th wait is random between 0 and min(maximum, initial * 2^n) seconds."""

    def __init__(self, initial: float, maximum: float) -> None:
        self._initial = initial
        self._maximum = maximum
        self._attempt = 0

    @property
    def attempt(self) -> int:
        """How many waits there were since the last reset."""
        return self._attempt

    @property
    def minimum_uptime(self) -> float:
        """How long a connection must have been up to count as a success without having said anything.

        At least as long as the longest wait, so that a peer that always hangs up is not reached more often than one that
        never answers; within 30 s and 5 min.
        """
        return min(max(self._maximum, 30.0), 300.0)

    def was_well(self, uptime: float, *, useful: bool) -> bool:
        """Whether a connection that was up for so many seconds, and was of use or not, was a success."""
        return uptime >= self.minimum_uptime or (useful and uptime >= min(self._maximum, STEADY))

    def reset(self) -> None:
        """The connection has been of use: the next wait is a short one."""
        self._attempt = 0

    def next_delay(
        self, verdict: Literal["retry", "slow_down"], chance: float, retry_after: float | None = None
    ) -> float:
        """The next wait in seconds.

        Args:
            verdict: `slow_down` waits the whole maximum, and up to a quarter more.
            chance: random number from 0 to 1.
            retry_after: what the upstream asked for, a lower bound (RFC 9110, section 10.2.3).
        """
        ceiling = min(self._maximum, self._initial * 2.0 ** min(self._attempt, 500))
        self._attempt += 1
        asked = min(retry_after or 0.0, LONGEST_REQUEST)
        if verdict == "slow_down":
            asked = max(asked, self._maximum)
        return max(min(FLOOR, ceiling), ceiling * chance, asked * (1 + STRETCH * chance))


def retry_after(header: str | None, now: float) -> float | None:
    """A `Retry-After` in seconds, from a number or an HTTP date (RFC 9110, section 10.2.3); None where it is neither."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return None
