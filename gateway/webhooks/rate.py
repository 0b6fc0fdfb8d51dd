"""A token bucket: at most so many requests a second. Pure; the time is passed in."""

from __future__ import annotations


class Bucket:
    """Lets `rate` requests a second pass, evenly: at most a tenth of a second's worth (at least one) at once.

    Args:
        rate: requests a second; None: no limit.
        now: seconds on a clock that never goes back.
    """

    __slots__ = ("_filled", "_rate", "_room", "_tokens")

    def __init__(self, rate: float | None, now: float) -> None:
        self._rate = rate
        self._room = max(1.0, (rate or 0.0) / 10)
        self._tokens = self._room
        self._filled = now

    def wait(self, now: float) -> float:
        """Seconds until the next request may pass; 0: now."""
        if self._rate is None:
            return 0.0
        self._tokens = min(self._room, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        # The margin absorbs rounding: a timer set for exactly the missing time must find the token there.
        return 0.0 if self._tokens >= 1 - 1e-6 else (1 - self._tokens) / self._rate

    def take(self) -> None:
        """One request passes; `wait` said that it may."""
        self._tokens -= 1
