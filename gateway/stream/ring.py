"""Ring: the recent end of the log in memory, with the bytes that were made of each event.

Replays that reach back no further read it instead of the store. Bounded by bytes. Must not know connections.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from gateway.store.api import LogEvent
from gateway.stream.framing import FORMS, Form

#: What an entry costs beside its bytes, roughly.
_OVERHEAD = 400

sequence_of = attrgetter("event.sequence")


class Entry:
    """An event, and what it looks like in the forms that somebody asked for."""

    __slots__ = ("_frames", "_redacted", "event")

    def __init__(self, event: LogEvent) -> None:
        self.event = event
        self._frames: list[bytes | None] = [None] * len(FORMS)
        self._redacted: bytes | None = None

    def frame(self, form: Form) -> bytes:
        """The bytes that carry the event in a form; made once."""
        frame = self._frames[form.index]
        if frame is None:
            event = self.event
            body = event.body
            if form.redacts:
                if self._redacted is None:
                    self._redacted = form.view(body)
                body = self._redacted
            frame = form.framing.event(body, event.type, event.sequence, None)
            self._frames[form.index] = frame
        return frame

    @property
    def size(self) -> int:
        """Bytes that the entry holds, roughly."""
        made = sum(len(frame) for frame in self._frames if frame is not None)
        return _OVERHEAD + len(self.event.body) + made + len(self._redacted or b"")


class Ring:
    """The newest entries, in order.

    Attributes:
        floor: position of the last event that is not held any more (or never was); everything above it is here.
    """

    def __init__(self, limit: int, floor: int) -> None:
        self._limit = limit
        self._entries: list[Entry] = []
        self._sizes: list[int] = []
        self._size = 0
        self.floor = floor

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    def extend(self, events: Sequence[LogEvent]) -> list[Entry]:
        """Adds the next events of the log."""
        entries = [Entry(event) for event in events]
        self._entries += entries
        return entries

    def settle(self) -> None:
        """Counts what was added since the last call, frames made in the meantime included, and lets go of the oldest."""
        fresh = [entry.size for entry in self._entries[len(self._sizes) :]]
        self._sizes += fresh
        self._size += sum(fresh)
        if self._size <= self._limit:
            return
        drop = 0
        target = self._limit * 7 // 8  # in large steps, because letting go of the head moves the rest
        while drop < len(self._entries) and self._size > target:
            self._size -= self._sizes[drop]
            drop += 1
        self.floor = self._entries[drop - 1].event.sequence
        del self._entries[:drop], self._sizes[:drop]

    def after(self, sequence: int, limit: int) -> list[Entry]:
        """At most so many entries behind a position, which must not be below `floor`."""
        start = bisect_right(self._entries, sequence, key=sequence_of)
        return self._entries[start : start + limit]
