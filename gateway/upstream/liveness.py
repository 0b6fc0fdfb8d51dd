"""Whether a connection is alive. Pure: a state machine that is told what was heard, and says what to do next.

Two clocks. *Transport age*: how long ago anything at all arrived; when it reaches the ping interval a ping is due, and if
then nothing arrives the connection is dead. *Data age*: how long ago a data frame arrived; silence is not failure, so it
counts only where an idle timeout is set. Both stand still while the gateway itself is not reading (its log is behind): what
waits in a socket that nobody reads says nothing about the peer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping is due."""


@dataclass(frozen=True, slots=True)
class Dead:
    """The connection is of no use any more; `reason` says why, in words."""

    reason: str


Action = Wait | Ping | Dead


class Liveness:
    """Of one connection. Times are monotonic, in seconds.

    Attributes:
        heard_at: when anything was last received.
        data_at: when a data frame was last received, or the connection was made.
    """

    __slots__ = (
        "_idle_since",
        "_idle_timeout",
        "_ping_interval",
        "_pinged_at",
        "_quiet_since",
        "_reading",
        "data_at",
        "heard_at",
    )

    def __init__(self, now: float, ping_interval: float, idle_timeout: float | None = None) -> None:
        self._ping_interval = ping_interval
        self._idle_timeout = idle_timeout
        self._pinged_at: float | None = None
        self._reading = False
        self.heard_at = self.data_at = self._quiet_since = self._idle_since = now

    @property
    def pong_wait(self) -> float:
        """How long an answer to a ping may take."""
        return max(self._ping_interval / 2, 1.0)

    def reading(self, now: float) -> None:
        """The gateway waits for the next frame."""
        if not self._reading:
            self._reading = True
            self._quiet_since = self._idle_since = now

    def heard(self, now: float) -> None:
        """A control frame has arrived: the transport works."""
        self.heard_at = self._quiet_since = now
        self._pinged_at = None

    def data(self, now: float) -> None:
        """A data frame has arrived; the gateway is busy with it until it is `reading` again."""
        self.heard(now)
        self.data_at = now
        self._reading = False

    def next(self, now: float) -> Action:
        """What is due. A `Ping` counts as sent."""
        if not self._reading:
            return Wait(self.pong_wait)
        idle_left = float("inf") if self._idle_timeout is None else self._idle_since + self._idle_timeout - now
        if idle_left <= 0:
            return Dead(f"no data frame for {self._idle_timeout:g} s")
        if self._pinged_at is not None:
            left = self._pinged_at + self.pong_wait - now
            if left <= 0:
                return Dead("a ping was not answered")
        else:
            left = self._quiet_since + self._ping_interval - now
            if left <= 0:
                self._pinged_at = now
                return Ping()
        return Wait(min(left, idle_left))
