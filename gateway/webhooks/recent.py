"""The newest events of the log in memory, shared by all endpoints, so that those that keep up never read the log. Pure.

Owns a contiguous end of the log within a number of events and bytes. Must not know endpoints. What it no longer has is
read from the log; it is never the only place an event is in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from gateway.store.api import LogEvent


class Recent:
    """Every event of the log after `base`, up to `last`.

    Args:
        position: the end of the log at the time of making.
        max_events: more are let go, the oldest first.
        max_bytes: bodies of more bytes in all are let go, the oldest first.
    """

    def __init__(self, position: int, *, max_events: int = 4096, max_bytes: int = 8 << 20) -> None:
        self.base = self.last = position
        self._max_events, self._max_bytes = max_events, max_bytes
        self._events: list[LogEvent] = []
        self._sequences: list[int] = []
        self._bytes = 0

    def push(self, events: Sequence[LogEvent]) -> None:
        """Appends what was committed, in the order of the log; what is there already is left out."""
        for event in events:
            if event.sequence > self.last:
                self.last = event.sequence
                self._events.append(event)
                self._sequences.append(event.sequence)
                self._bytes += len(event.body)
        if len(self._events) > self._max_events or self._bytes > self._max_bytes:
            self._shrink()

    def after(self, position: int, limit: int) -> tuple[list[LogEvent], int] | None:
        """Up to `limit` events after a position and the position they reach; None: they begin before what is here."""
        if position < self.base:
            return None
        start = bisect_right(self._sequences, position)
        events = self._events[start : start + limit]
        return events, events[-1].sequence if events else max(position, self.last)

    def _shrink(self) -> None:
        """Lets go of enough for half of the room to be free, so that it happens rarely."""
        count = 0
        while len(self._events) - count > self._max_events // 2 or self._bytes > self._max_bytes // 2:
            self._bytes -= len(self._events[count].body)
            count += 1
        self.base = self._sequences[count - 1]
        del self._events[:count], self._sequences[:count]
