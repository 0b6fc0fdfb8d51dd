"""The order of one endpoint's deliveries: a lane per task, in sequence inside a lane, fair between lanes. Pure.

Owns which delivery may be sent next. At most one of a lane is in flight; a failed one parks its lane until it is due again,
and only its lane. A delivery that comes in late (again, because somebody asked for it) takes its place by sequence: before
what waits, never before what is in flight. Must not know how deliveries are sent or stored, nor what time it is.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

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
        stored: the store has a row that says that it is pending.
        closed: the stored position may move past it.
        dead: the store has, or had before this round, a row that counts as a dead letter.
        asked: somebody asked for it to be sent now, or a time that was set for it has come.
        due: not to be sent before, in seconds of the monotonic clock; None: at once.
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
    dead: bool = False
    asked: bool = False
    due: float | None = None


class _Lane(msgspec.Struct, eq=False):
    items: deque[Item]
    flying: bool = False
    parked: float | None = None
    #: where it waits for its turn; None: nowhere
    queue: deque[str] | None = None
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
        self._items: dict[int, Item] = {}
        self._late: deque[str] = deque()  # lanes whose first was tried before, or asked for
        self._new: deque[str] = deque()
        self._parked: list[tuple[float, int, str]] = []  # some no longer hold: `_is_current` tells

    def __len__(self) -> int:
        """How many deliveries there are, those in flight included."""
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        """All deliveries, in no order."""
        return iter(self._items.values())

    def get(self, sequence: int) -> Item | None:
        """The delivery of an event, if it is here."""
        return self._items.get(sequence)

    def is_flying(self, item: Item) -> bool:
        """Whether a delivery is taken and neither settled nor parked since."""
        lane = self._lanes[item.lane]
        return lane.flying and lane.items[0] is item

    def fold(self, latest: bool) -> None:
        """From now on progress gives way to newer progress, or does not; what waits already stays."""
        self._latest = latest
        for lane in self._lanes.values():
            lane.progress = None

    def add(self, item: Item) -> Item | None:
        """Puts a delivery into its lane, by sequence. Returns the one that it replaced, or itself where it is the older one."""
        lane = self._lanes.get(item.lane)
        replaced = None
        if self._latest and item.type == PROGRESS:
            replaced = lane.progress if lane is not None else None
            if replaced is not None and replaced.sequence > item.sequence:
                return item
        if lane is None:
            lane = self._lanes[item.lane] = _Lane(deque())
        first = lane.items[0] if lane.items else None
        if self._latest and item.type == PROGRESS:
            lane.progress = item
            if replaced is not None:
                lane.items.remove(replaced)
                del self._items[replaced.sequence]
        self._items[item.sequence] = item
        self._insert(lane, item)
        if lane.items[0] is not first:
            self._arm(item.lane, lane)
        return replaced

    def is_parked(self, key: str) -> bool:
        """Whether a lane waits for a time."""
        lane = self._lanes.get(key)
        return lane is not None and lane.parked is not None

    def waiting(self, key: str) -> list[Item]:
        """The deliveries of a lane, in order, short of one in flight."""
        lane = self._lanes.get(key)
        return [] if lane is None else list(lane.items)[lane.flying :]

    def unpark(self, now: float) -> None:
        """Makes ready the lanes whose time has come."""
        while self._parked and self._parked[0][0] <= now:
            entry = heapq.heappop(self._parked)
            if self._is_current(entry):
                lane = self._lanes[entry[2]]
                lane.parked = lane.items[0].due = None
                lane.items[0].asked = True
                lane.queue = self._late
                lane.queue.append(entry[2])

    @property
    def ready(self) -> int:
        """How many lanes have a delivery that `take` would return."""
        return len(self._late) + len(self._new)

    @property
    def next_is_new(self) -> bool:
        """Whether nothing is ready but deliveries that were never tried nor asked for."""
        return not self._late and bool(self._new)

    def take(self) -> Item:
        """The next delivery to send, lane after lane in turn; a retry before news: it is late, news is not.

        End it with `settle` or `park`.

        Raises:
            IndexError: there is none, as `ready` says.
        """
        lane = self._lanes[(self._late or self._new).popleft()]
        item = lane.items[0]
        lane.queue = None
        lane.flying = True
        if lane.progress is item:
            lane.progress = None
        return item

    def settle(self, item: Item) -> None:
        """A taken delivery needs no further attempt: the next of its lane is ready, or waits for its own time."""
        lane = self._lanes[item.lane]
        lane.items.popleft()
        lane.flying = False
        del self._items[item.sequence]
        if lane.items:
            self._arm(item.lane, lane)
        else:
            del self._lanes[item.lane]

    def park(self, item: Item, until: float) -> None:
        """A taken delivery will be sent again at a time, and what is behind it in its lane waits with it."""
        lane = self._lanes[item.lane]
        lane.items.popleft()
        lane.flying = False
        item.due = until
        self._insert(lane, item)
        self._arm(item.lane, lane)

    def hasten(self, item: Item) -> None:
        """A delivery is due at once; what is before it in its lane still goes first."""
        lane = self._lanes[item.lane]
        item.asked, item.due = True, None
        if lane.items[0] is item and not lane.flying:
            self._arm(item.lane, lane)

    @property
    def next_due(self) -> float | None:
        """When the first parked lane is ready again; None: none is parked."""
        while self._parked and not self._is_current(self._parked[0]):
            heapq.heappop(self._parked)
        return self._parked[0][0] if self._parked else None

    def drop(self, after: int = 0) -> list[Item]:
        """Takes out all with a position greater than `after` that is not in flight, in order of position."""
        out: list[Item] = []
        self._late.clear()
        self._new.clear()
        self._parked.clear()
        for key, lane in list(self._lanes.items()):
            items, lane.items = lane.items, deque()
            lane.progress = lane.parked = lane.queue = None
            for n, item in enumerate(items):
                flies = lane.flying and n == 0
                (lane.items if item.sequence <= after or flies else out).append(item)
                if self._latest and item.sequence <= after and item.type == PROGRESS and not (flies or item.tries):
                    lane.progress = item
            if not lane.items:
                del self._lanes[key]
            elif not lane.flying:
                self._arm(key, lane)
        for item in out:
            del self._items[item.sequence]
        return sorted(out, key=lambda item: item.sequence)

    def _insert(self, lane: _Lane, item: Item) -> None:
        at = len(lane.items)
        while at > lane.flying and lane.items[at - 1].sequence > item.sequence:
            at -= 1
        lane.items.insert(at, item)

    def _arm(self, key: str, lane: _Lane) -> None:
        """Puts a lane, with nothing in flight, where its first delivery belongs: among the ready ones or the parked."""
        head = lane.items[0]
        if lane.queue is not None:
            lane.queue.remove(key)  # only where another delivery is first than the one it was put there for
            lane.queue = None
        lane.parked = head.due
        if head.due is not None:
            heapq.heappush(self._parked, (head.due, head.sequence, key))
        else:
            lane.queue = self._late if head.tries or head.asked else self._new
            lane.queue.append(key)

    def _is_current(self, entry: tuple[float, int, str]) -> bool:
        until, sequence, key = entry
        lane = self._lanes.get(key)
        return lane is not None and lane.parked == until and not lane.flying and lane.items[0].sequence == sequence
