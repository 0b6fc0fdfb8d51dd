"""How one endpoint is doing: what failed last, since when everything does, and whether it is better left alone.

Owns the lines in the log about that, one for each turn and not one for each delivery. Must not know what is sent.
"""

from __future__ import annotations

import structlog

from gateway.clock import Clock
from gateway.webhooks.books import Books
from gateway.webhooks.breaker import LONGEST_HOLD, Breaker
from gateway.webhooks.sender import Answer

_log = structlog.get_logger("mainstem.webhooks")

#: Seconds between two lines in the log that say how many dead letters there were meanwhile.
DEAD_LINES = 60.0


class Health:
    """The health of one endpoint.

    Args:
        name: its name.
        books: keep since when it fails, which outlives the process.
        clock: as everywhere.

    Attributes:
        breaker: when something may be sent.
        error, error_at: of the latest failed attempt, in seconds since 1970, UTC.
        delivered_at: of the latest success.
    """

    def __init__(self, name: str, books: Books, clock: Clock) -> None:
        self._name, self._books, self._clock = name, books, clock
        self.breaker = Breaker()
        self.breaker.held = clock.monotonic() + min(books.record.held_until - clock.now(), LONGEST_HOLD)
        if books.record.paused:
            self.breaker.reopen(clock.monotonic())
        self.error: str | None = None
        self.error_at: float | None = None
        self.delivered_at: float | None = None
        self._dead = 0
        self._dead_told_at: float | None = None

    def reset(self) -> None:
        """Somebody says that it is well."""
        self.breaker = Breaker()
        self._books.record.failing_since = None
        self._books.record.held_until = 0.0
        self._books.record.paused = False

    def observe(self, lane: str, answer: Answer) -> None:
        """Takes note of an attempt."""
        kept = self._books.record
        if answer.error is None:
            self.delivered_at = answer.at
            self.breaker.succeeded()
            if kept.failing_since is not None:
                kept.failing_since, kept.paused = None, False
                self._books.touch()
                _log.info("webhook_endpoint_recovered", endpoint=self._name)
            return
        self.error, self.error_at = answer.error, answer.at
        if kept.failing_since is None:
            kept.failing_since = answer.at
            self._books.touch()
            _log.warning("webhook_endpoint_failing", endpoint=self._name, error=answer.error)
        now, held = self._clock.monotonic(), self.breaker.held
        opened = self.breaker.failed(now, lane, answer.status, answer.retry_after)
        if self.breaker.held > held:  # what the receiver asked for holds after a restart, too
            kept.held_until = self._clock.now() + self.breaker.held - now
            self._books.touch()
        if opened:
            kept.paused = True
            self._books.touch()
            _log.warning("webhook_endpoint_paused", endpoint=self._name, error=answer.error)

    def fails_for(self) -> float:
        """Seconds since the first failed attempt after the last success; 0: the last one succeeded."""
        since = self._books.record.failing_since
        return 0.0 if since is None else max(0.0, self._clock.now() - since)

    def buried(self, delivery: str, error: str | None) -> None:
        """A delivery has become a dead letter: says so, the first one at once and then how many there were."""
        self._dead += 1
        now = self._clock.monotonic()
        if self._dead_told_at is None or now - self._dead_told_at >= DEAD_LINES:
            _log.warning("webhook_deliveries_dead", endpoint=self._name, count=self._dead, latest=delivery, error=error)
            self._dead, self._dead_told_at = 0, now

    def close(self) -> None:
        """Says what was not said yet."""
        if self._dead:
            _log.warning("webhook_deliveries_dead", endpoint=self._name, count=self._dead)
            self._dead = 0
