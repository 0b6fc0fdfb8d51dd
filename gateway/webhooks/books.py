"""What is to be stored of one endpoint: rows, the position, the record, and how many dead letters there are.

Owns that these go together: whoever changes them does so in one step of the event loop, and what is collected after is
stored as a whole or not at all. Must not know why a delivery ended as it did, nor who writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from gateway.clock import Clock
from gateway.store.api import Deliveries, DeliveryRow
from gateway.webhooks import record
from gateway.webhooks.lanes import Item
from gateway.webhooks.ledger import Ledger
from gateway.webhooks.record import Notice, Record

_log = structlog.get_logger("mainstem.webhooks")

#: The resolution of stored times, in seconds.
_TICK = 1e-6


class Books:
    """The books of one endpoint.

    Args:
        name: its name.
        kept: its record; changed in place.
        clock: for the times of rows.
        changed: called when there is something to collect, at least once until it is collected.
        notice: makes an event about it to be put into the log, of a type and data; None where nobody takes it.
    """

    def __init__(
        self,
        name: str,
        kept: Record,
        clock: Clock,
        changed: Callable[[], None],
        notice: Callable[[str, Mapping[str, object]], Notice | None],
    ) -> None:
        self._name, self._clock, self._changed, self._notice = name, clock, changed, notice
        self.record = kept
        self.ledger = Ledger(name, 0)
        self._version = self._collected = self._saved = 0  # of the record
        self._stamp = max(under_way.at for under_way in (kept.replay, kept.revival, _NEVER) if under_way is not None)
        self._dead_stored = self._dead_new = 0
        self._signalled = False  # that there is something to collect

    def begin(self, position: int, settled: float) -> None:
        """The store says that the endpoint stands there, and that no row was entered later than at a time."""
        self.ledger = Ledger(self._name, position)
        self._stamp = max(self._stamp, settled)

    # Changes

    def enter(self, item: Item, state: str, attempts: bytes, due: float | None = None) -> None:
        """Notes a result; the position may move past the event with it.

        Args:
            due: seconds since 1970, UTC.
        """
        self._dead_new += (state == "dead") - item.dead
        item.dead = state == "dead"
        # never before what was said last: a clock that is set back must not make new results look like old ones
        self._stamp = max(self._clock.now(), self._stamp)
        row = DeliveryRow(self._name, item.sequence, item.id, item.task, state, item.tries, due, attempts, self._stamp)
        self.ledger.record(item, row)
        if not self._signalled:
            self._signal()

    def cut(self) -> float:
        """A time, in seconds since 1970 (UTC), that parts what was entered before from what will be."""
        self._stamp = max(self._clock.now(), self._stamp + 2 * _TICK)
        return self._stamp

    def reach(self, position: int) -> None:
        """The log has been read up to there."""
        self.ledger.reach(position)
        if self.ledger.lags or self._is_replayed():
            self._signal()

    def touch(self) -> None:
        """The record has changed."""
        self._version += 1
        self._signal()

    def _signal(self) -> None:
        self._signalled = True
        self._changed()

    def note(self, kind: str, data: Mapping[str, object]) -> None:
        """The record has changed; an event of a type says so."""
        notice = self._notice(kind, {"endpoint": self._name, **data})
        if notice is not None:
            self.record.notices.append(notice)
        self.touch()

    def told(self, notice: Notice) -> None:
        """The log has a notice of the record."""
        self.record.notices.remove(notice)
        self.touch()

    # What is stored

    def collect(self, into: Deliveries, *, final: bool = False) -> None:
        """Hands over what is not stored yet: see `Ledger.collect`."""
        self._signalled = False
        replayed = self._is_replayed()
        if replayed:
            self.record.replay = None  # in the same write as the position: a crash in between would end it too early
            self._version += 1
            _log.info("webhook_replayed", endpoint=self._name)
        changed = self._version != self._saved
        # That it is enabled again and from where on go together.
        self.ledger.collect(into, final=final or changed)
        self._dead_stored, self._dead_new = self._dead_stored + self._dead_new, 0
        self._collected = self._version
        if changed:
            into.records[self._name] = record.encode(self.record)

    def _is_replayed(self) -> bool:
        """Whether a replay is over: everything in it is settled or has a row."""
        replay = self.record.replay
        return replay is not None and self.ledger.position >= replay.upto

    def saved(self) -> None:
        """What was collected last is stored."""
        self.ledger.saved()
        self._saved = self._collected

    def counted(self, dead: int) -> None:
        """The store has so many dead letters; nothing was written since they were counted."""
        self._dead_stored = dead

    @property
    def dead(self) -> int:
        """How many dead letters there are."""
        return self._dead_stored + self._dead_new


_NEVER = record.Revival(0, 0.0)
