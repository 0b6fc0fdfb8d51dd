"""The deliveries of one endpoint that are in memory: in lanes, with as many bodies as there is room for, and their books.

Owns what memory holds, and that lanes and books agree. A delivery that failed, and every one behind it in its lane, gets a
pending row and gives up its body; what remains here of it is a few hundred bytes. Must not know when something is sent, nor
read the store.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable

from gateway.clock import Clock
from gateway.store.api import DeliveryRow
from gateway.webhooks import history
from gateway.webhooks.books import Books
from gateway.webhooks.lanes import Item, Lanes

#: Bytes of bodies that one endpoint keeps; the bodies of further deliveries are read again when it is their turn.
BODY_BYTES = 4 << 20
#: State of a delivery that a newer progress event made needless (`progress: latest`).
SKIPPED = "skipped"
SUPERSEDED = "a newer progress event was sent instead"


class Stock:
    """What of an endpoint's deliveries is in memory.

    Args:
        name: of the endpoint.
        books: told of every result.
        clock: for the times of entries.
        latest: see `Lanes`.

    Attributes:
        lanes: deliveries that wait for their turn or are being sent.
        size: bytes of the bodies that are kept.
        doomed: what became of them when the endpoint was disabled: they are to become dead letters.
    """

    def __init__(self, name: str, books: Books, clock: Clock, *, latest: bool) -> None:
        self.lanes = Lanes(latest=latest)
        self.doomed: deque[Item] = deque()
        self._name, self._books, self._clock = name, books, clock
        self.size = 0

    def __len__(self) -> int:
        """How many deliveries are neither delivered nor dead."""
        return len(self.lanes) + len(self.doomed)

    def accept(self, items: Iterable[Item]) -> None:
        """Takes deliveries, as they were read from the log, into their lanes."""
        for item in items:
            event = item.event
            item.event = None
            if not item.closed:
                self._books.ledger.open(item)
            replaced = self.lanes.add(item)
            if replaced is not None:
                self._supersede(replaced)
            if replaced is item or item.stored:
                continue
            if self.lanes.is_parked(item.lane):
                self.shelve(item)
            elif event is not None and self.size + len(event.body) <= BODY_BYTES:
                item.event = event
                self.size += len(event.body)

    def insert(self, item: Item, attempts: bytes) -> None:
        """Takes in a delivery that somebody asked for, due now."""
        self.lanes.add(item)
        self.enter(item, "pending", attempts, self._clock.now())

    def enter(self, item: Item, state: str, attempts: bytes, due: float | None = None) -> None:
        """Notes a result; the position may move past the event with it. See `Books.enter`."""
        if state != "pending":
            self._let_go(item)
        self._books.enter(item, state, attempts, due)

    def shelve(self, item: Item) -> None:
        """Stores that a delivery waits, so that the position can move on and its body be let go."""
        self._let_go(item)
        if not item.stored:
            self.enter(item, "pending", item.attempts or history.NONE)

    def park(self, item: Item, until: float, attempts: bytes, due: float) -> None:
        """A delivery failed: it, and what is behind it in its lane, waits in the store.

        Args:
            until: when it is sent again, in seconds of the monotonic clock.
            due: the same in seconds since 1970, UTC.
        """
        self.enter(item, "pending", attempts, due)
        self._let_go(item)
        self.lanes.park(item, until)
        for follower in self.lanes.waiting(item.lane):
            self.shelve(follower)

    def drop(self, after: int = 0) -> list[Item]:
        """Takes out what is not being sent: see `Lanes.drop`."""
        dropped = self.lanes.drop(after)
        for item in dropped:
            self._let_go(item)
        return dropped

    def rows(self, after: int, upto: int) -> dict[int, DeliveryRow]:
        """Of a part of the log, the rows that the store did not have at `Ledger.watch`, or has not because there are none:
        deliveries that wait for their first attempt, be it the first of a replay, or are in it."""
        rows = self._books.ledger.newer(after, upto)
        for item in itertools.chain(self.lanes, self.doomed):
            if not item.stored and after < item.sequence <= upto:
                attempts = item.attempts or history.NONE
                rows[item.sequence] = DeliveryRow(
                    self._name, item.sequence, item.id, item.task, "pending", item.tries, None, attempts, 0.0
                )
        return rows

    def _supersede(self, item: Item) -> None:
        """A newer progress event is sent in its place. Its row says so after a crash, when the newer one may be delivered."""
        self.enter(item, SKIPPED, history.append(history.NONE, history.end(self._clock.now(), SUPERSEDED)))

    def _let_go(self, item: Item) -> None:
        if item.event is not None:
            self.size -= len(item.event.body)
            item.event = None
