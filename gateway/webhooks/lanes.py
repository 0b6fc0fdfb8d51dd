"""The order of one endpoint's deliveries: a lane per task, in sequence inside a lane, fair between lanes. Pure.

Owns which delivery may be sent next. At most one of a lane is in flight; a failed one parks its lane until it is due again,
and only its lane. Must not know how deliveries are sent or stored, nor what time it is.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from itertools import islice

import msgspec

from gateway.store.api import LogEvent

#: The only events that may be left out in favour of a newer one.
PROGRESS = "task.progressed"


class Item(msgspec.Struct, gc=False, eq=False):
    """One delivery that is neither delivered nor dead.

    Attributes:
        lane: deliveries of one lane are sent one after the other.
        type: of the event; empty where it is not known (read back from a stored row).
        event: what is sent; None: it has to be read from the log again.
        tries: attempts that were made and count.
        attempts: the attempts so far as JSON; None: they have to be read from the store again.
        stored: the store has a row for it.
        closed: the stored position may move past it.
    """

    sequence: int
    id: str
    lane: str
    task: str | None
    type: str = ""
    event: LogEvent | None = None
    tries: int = 0
    attempts: bytes | None = b"[]"
    stored: bool = False
    closed: bool = False


class _Lane(msgspec.Struct, eq=False):
    items: deque[Item]
    flying: bool = False
    parked: float | None = None
    #: the waiting, never tried progress event that a newer one would replace
    progress: Item | None = None


class Lanes:
    """Deliveries by lane.

    Args:
        latest: a waiting progress event that was never tried gives way to a newer one of its lane.
    """

    def __init__(self, *, latest: bool = False) -> None:
        self._latest = latest
        self._lanes: dict[str, _Lane] = {}
        self._ready: deque[str] = deque()
        self._parked: list[tuple[float, int, str]] = []
        self._size = 0
        self._runnable = 0

    def __len__(self) -> int:
        """How many deliveries there are, those in flight included."""
        return self._size

    @property
    def runnable(self) -> int:
        """How many wait in lanes that are not parked: what can be sent without waiting for a time."""
        return self._runnable

    def add(self, item: Item, until: float | None = None) -> Item | None:
        """Puts a delivery at the end of its lane. Returns the one that it replaced, if any.

        Args:
            item: the delivery.
            until: where it is the first of its lane, the lane is parked until then.
        """
        lane = self._lanes.get(item.lane)
        if lane is None:
            lane = self._lanes[item.lane] = _Lane(deque(), parked=until)
            if until is None:
                self._ready.append(item.lane)
            else:
                heapq.heappush(self._parked, (until, item.sequence, item.lane))
        replaced = None
        if self._latest and item.type == PROGRESS:
            replaced, lane.progress = lane.progress, item
            if replaced is not None:
                lane.items.remove(replaced)
                self._count(lane, -1)
        lane.items.append(item)
        self._count(lane, 1)
        return replaced

    def is_parked(self, key: str) -> bool:
        """Whether a lane waits for a time."""
        lane = self._lanes.get(key)
        return lane is not None and lane.parked is not None

    def waiting(self, key: str) -> Iterator[Item]:
        """The deliveries of a lane behind its first, in order."""
        return islice(self._lanes[key].items, 1, None)

    def unpark(self, now: float) -> None:
        """Makes ready the lanes whose time has come, before those that were ready already: a retry is late, news is not."""
        while self._parked and self._parked[0][0] <= now:
            key = heapq.heappop(self._parked)[2]
            lane = self._lanes[key]
            lane.parked = None
            self._runnable += len(lane.items)
            self._ready.appendleft(key)

    @property
    def has_ready(self) -> bool:
        """Whether `take` would return a delivery."""
        return bool(self._ready)

    @property
    def next_is_retry(self) -> bool:
        """Whether `take` would return a delivery that was tried before."""
        return bool(self._ready) and self._lanes[self._ready[0]].items[0].tries > 0

    def take(self) -> Item:
        """The next delivery to send, lane after lane in turn. End it with `settle` or `park`.

        Raises:
            IndexError: there is none, as `has_ready` says.
        """
        lane = self._lanes[self._ready.popleft()]
        item = lane.items[0]
        lane.flying = True
        if lane.progress is item:
            lane.progress = None
        self._runnable -= 1
        return item

    def settle(self, item: Item) -> None:
        """A taken delivery needs no further attempt: the next of its lane is ready."""
        lane = self._lanes[item.lane]
        lane.items.popleft()
        lane.flying = False
        self._size -= 1
        if lane.items:
            self._ready.append(item.lane)
        else:
            del self._lanes[item.lane]

    def park(self, item: Item, until: float) -> None:
        """A taken delivery will be sent again at a time, and its lane waits with it."""
        lane = self._lanes[item.lane]
        lane.flying = False
        lane.parked = until
        self._runnable -= len(lane.items) - 1  # the first was taken, and counted out, already
        heapq.heappush(self._parked, (until, item.sequence, item.lane))

    @property
    def next_due(self) -> float | None:
        """When the first parked lane is ready again; None: none is parked."""
        return self._parked[0][0] if self._parked else None

    def clear(self) -> list[Item]:
        """Takes out all that is not in flight, in order of lanes."""
        out: list[Item] = []
        for key, lane in list(self._lanes.items()):
            kept = deque([lane.items.popleft()]) if lane.flying else deque()
            out.extend(lane.items)
            lane.items, lane.progress, lane.parked = kept, None, None
            if not kept:
                del self._lanes[key]
        self._ready.clear()
        self._parked.clear()
        self._size = len(self._lanes)
        self._runnable = 0
        return out

    def _count(self, lane: _Lane, change: int) -> None:
        self._size += change
        if lane.parked is None:
            self._runnable += change
