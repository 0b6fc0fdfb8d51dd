"""When an endpoint that fails is left alone. Pure; the time is passed in.

One rule: when nothing has succeeded since a run of failures began, nothing *new* is sent. Retries go on as they are scheduled
and show whether the endpoint is back; where none is due, one new delivery is sent as a probe now and then. The first success
ends it. So the schedule of a single delivery is never touched, and a dead endpoint costs it one attempt a minute instead of
one of every delivery there is. A receiver that names a time (`Retry-After`) gets nothing at all before.
"""

from __future__ import annotations

#: A run of failures is the endpoint's and not of what is sent: so many attempts, of so many lanes, over so many seconds.
ATTEMPTS, LANES, SECONDS = 20, 2, 10.0
#: Answers that ask for less: too many requests, and gateways and servers that are overwhelmed. Fewer of them are enough, and
#: no time: they say so themselves (Standard Webhooks, "Deliverability and reliability").
THROTTLING = frozenset({429, 502, 503, 504})
THROTTLED = 4
#: Seconds before the first probe; doubled with every failed one, up to the longest.
FIRST_PROBE, LONGEST_PROBE = 5.0, 60.0
#: The longest time that `Retry-After` can hold up all of an endpoint, in seconds; single deliveries wait longer.
LONGEST_HOLD = 3600.0


class Breaker:
    """Whether something may be sent to one endpoint. All times in seconds of the monotonic clock.

    Attributes:
        held: nothing at all is sent before.
    """

    __slots__ = ("_failures", "_lanes", "_pause", "_probing", "_since", "_throttled", "_until", "held")

    def __init__(self) -> None:
        self.held = 0.0
        self._reset()

    def _reset(self) -> None:
        self._failures = self._throttled = 0
        self._lanes: set[str] = set()
        self._since = 0.0
        self._pause = 0.0
        self._until = 0.0
        self._probing = False

    def reopen(self, now: float) -> None:
        """It was open before a restart: the first new delivery is a probe."""
        self._pause = FIRST_PROBE
        self._until = now

    @property
    def is_open(self) -> bool:
        """Whether nothing new is sent but probes."""
        return self._pause > 0

    def opens_at(self, *, new: bool) -> float:
        """When the next delivery may be sent: one that is new, or one that was tried or asked for."""
        return max(self.held, self._until) if new else self.held

    def sent(self, now: float, *, new: bool) -> None:
        """A delivery is being sent; where the breaker is open and the delivery new, it is a probe."""
        if self._pause and new:
            self._probing = True
            self._until = now + self._pause

    def succeeded(self) -> None:
        """An attempt succeeded. What the receiver asked for still holds."""
        if self._failures or self._pause:
            self._reset()

    def failed(self, now: float, lane: str, status: int | None, retry_after: float | None) -> bool:
        """An attempt failed. Returns whether the breaker opened with it.

        Args:
            lane: of the delivery.
            status: of the answer; None: there was none.
            retry_after: seconds that the receiver asked for.
        """
        if not self._failures:
            self._since = now
        self._failures += 1
        if len(self._lanes) < LANES:
            self._lanes.add(lane)
        if status in THROTTLING:
            self._throttled += 1
            if retry_after is not None:
                self.held = max(self.held, now + min(retry_after, LONGEST_HOLD))
        if self._pause:
            if self._probing:
                self._pause = min(self._pause * 2, LONGEST_PROBE)
                self._probing = False
            self._until = now + self._pause  # this attempt was as good as a probe
            return False
        lasting = self._failures >= ATTEMPTS and now - self._since >= SECONDS
        if len(self._lanes) == LANES and (lasting or self._throttled >= THROTTLED):
            self._pause = FIRST_PROBE
            self._until = now + self._pause
            return True
        return False
