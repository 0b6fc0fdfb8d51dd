"""Lane: what one connection still has to be sent, in order, and what is folded when it does not keep up.

Everything leaves in the order of the log. Under pressure a waiting `task.progressed` gives way to the newer one of its
task, or to the event that finishes the task; what was folded is told right before that event. Nothing else is ever left
out. Must not know sockets: who owns the lane says how much is unsent below it, and takes what there is room for.

`direct` is the fast path: bytes that are written at the end of this turn of the loop and cannot be folded any more. It is
used only while nothing waits behind it, so the order of the whole is `direct`, then the rest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.store.api import LogEvent
from schemas.event import FINISHED, TYPE_OF_STATUS

_PROGRESSED: Final = "task.progressed"
_FOLDING: Final = frozenset({_PROGRESSED, *(TYPE_OF_STATUS[status] for status in FINISHED)})

#: Shared by all lanes in which nothing has waited yet; never written to.
_NONE: Final[dict[str, int]] = {}

#: Task key, number of folded events, position of the newest of them → bytes of the notice.
Conflated = Callable[[str, int, int], bytes]


class _Waiting:
    """Bytes that wait, and what was folded into them."""

    __slots__ = ("folded", "frame", "sequence", "skipped", "task")

    def __init__(self, frame: bytes, task: str | None, sequence: int) -> None:
        self.frame = frame
        self.task = task
        self.sequence = sequence
        self.skipped = 0
        self.folded = 0


class Lane:
    """The unsent bytes of one connection.

    Attributes:
        window: how many bytes are handed down at a time.
        full: bytes that may be unsent before progress is folded.
        limit: bytes that may be unsent at all, beside the largest message: who takes one after the other is not slow.
        largest: bytes of the largest message since nothing was unsent.
        buffered: bytes unsent below the lane when somebody last looked.
        direct: see the module.
        held: what waits behind `direct`, by place; None where nothing ever did.
        sent: messages taken since the counter was last reset.
    """

    __slots__ = (
        "_next",
        "_progress",
        "_size",
        "buffered",
        "direct",
        "direct_size",
        "full",
        "held",
        "largest",
        "limit",
        "sent",
        "window",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.largest = 0
        self.window = max(2048, limit // 16)
        self.full = limit // 2
        self.buffered = 0
        self.direct: list[bytes] = []
        self.direct_size = 0
        self.sent = 0
        self.held: OrderedDict[int, _Waiting] | None = None
        self._progress: dict[str, int] = _NONE
        self._next = 0
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes in the lane."""
        return self.direct_size + self._size

    @property
    def unsent(self) -> int:
        """Bytes in the lane and below."""
        return self.direct_size + self._size + self.buffered

    @property
    def waits(self) -> bool:
        """Whether something waits behind `direct`."""
        return bool(self.held)

    def put(self, frame: bytes, count: int = 1) -> None:
        """Adds bytes that are never folded, of so many messages."""
        if len(frame) > self.largest:
            self.largest = len(frame)
        if not self.held and self.direct_size + len(frame) <= self.window:
            self.direct.append(frame)
            self.direct_size += len(frame)
            self.sent += count
        else:
            self._append(_Waiting(frame, None, 0))

    def offer(self, frame: bytes, event: LogEvent) -> bool:
        """Adds an event, folding under pressure. Whether an older one was folded away."""
        task, kind = event.task, event.type
        if task is None or not (self.held or self.unsent + len(frame) > self.window):
            self.put(frame)
            return False
        if len(frame) > self.largest:
            self.largest = len(frame)
        item = _Waiting(frame, task, event.sequence)
        place = self._progress.pop(task, None)
        if place is not None and kind in _FOLDING and self.unsent + len(frame) > self.full and self.held is not None:
            older = self.held.pop(place)
            self._size -= len(older.frame)
            item.skipped, item.folded = older.skipped + 1, older.sequence
        self._append(item)
        if kind == _PROGRESSED:
            self._progress[task] = self._next
        return item.skipped > 0

    def _append(self, item: _Waiting) -> None:
        if self.held is None:
            self.held, self._progress = OrderedDict(), {}
        self._next += 1
        self.held[self._next] = item
        self._size += len(item.frame)

    def take_direct(self) -> bytes:
        """All of `direct`, joined."""
        frames = self.direct
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        self.direct = []
        self.direct_size = 0
        return data

    def take(self, room: int, conflated: Conflated) -> bytes:
        """Joined bytes of what waits, in order: at least one message, no further one once `room` is used up."""
        taken: list[bytes] = []
        while self.held and room > 0:
            place, item = self.held.popitem(last=False)
            self._size -= len(item.frame)
            if item.task is not None:
                if self._progress.get(item.task) == place:
                    del self._progress[item.task]
                if item.skipped:
                    told = conflated(item.task, item.skipped, item.folded)
                    taken.append(told)
                    room -= len(told)
                    self.sent += 1
            taken.append(item.frame)
            room -= len(item.frame)
            self.sent += 1
        return b"".join(taken)

    def clear(self) -> None:
        """Forgets everything that is not sent yet."""
        self.direct = []
        self.direct_size = self._size = 0
        self.held, self._progress = None, _NONE
