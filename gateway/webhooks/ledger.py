"""What of an endpoint's deliveries is settled, stored, or still only here, and how far its position may go. Pure.

Owns the rule that nothing is lost in a crash: the stored position moves past an event only in the same write as a row for
it, or after that write, or when the endpoint does not want the event. So an event above the position without a row was never
settled and is read from the log again; what a row above the position means is for whoever reads it. Must not know what
deliveries are, nor who writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.store.api import Deliveries, DeliveryRow
from gateway.webhooks.lanes import Item

#: A position that moved without any result is worth a write when it is ahead of the stored one by this much.
LAG = 256


class Ledger:
    """The books of one endpoint.

    Args:
        endpoint: its name.
        position: its stored position.
    """

    def __init__(self, endpoint: str, position: int) -> None:
        self._endpoint = endpoint
        self._read = self._stored = position
        self._open: deque[Item] = deque()
        self._unsaved: dict[int, tuple[Item | None, DeliveryRow]] = {}
        self._saving: dict[int, tuple[Item | None, DeliveryRow]] = {}
        self._next = position
        self._watched: dict[int, DeliveryRow] | None = None
        #: how many rows are not stored yet
        self.unsaved = 0

    @property
    def read(self) -> int:
        """The log has been read up to there."""
        return self._read

    @property
    def position(self) -> int:
        """Up to there everything is settled or has a row, stored or about to be."""
        while self._open and self._open[0].closed:
            self._open.popleft()
        return self._open[0].sequence - 1 if self._open else self._read

    @property
    def lags(self) -> bool:
        """Whether the position alone is worth a write."""
        return self.position - self._stored >= LAG

    def open(self, item: Item) -> None:
        """A delivery was read from the log: the position waits for it to be closed. Called in the order of the log."""
        self._open.append(item)

    def reach(self, position: int) -> None:
        """The log has been read up to there."""
        self._read = position

    def rewind(self, position: int) -> None:
        """The log is read again from there on. What was open behind it must be closed, or be read again."""
        self._read = min(self._read, position)
        self._open = deque(item for item in self._open if item.sequence <= position)

    def record(self, item: Item, row: DeliveryRow) -> None:
        """There is a row for a delivery: a result, or that it waits."""
        item.closed = item.stored = True
        item.attempts = row.attempts
        self._unsaved[row.sequence] = (item if row.state == "pending" else None, row)
        self.unsaved = len(self._unsaved) + len(self._saving)
        if self._watched is not None:
            self._watched[row.sequence] = row

    @contextmanager
    def watch(self) -> Iterator[None]:
        """While rows are read from the store, and until they are dealt with, `newer` has those that they are older than."""
        self._watched = {sequence: row for rows in (self._saving, self._unsaved) for sequence, (_, row) in rows.items()}
        try:
            yield
        finally:
            self._watched = None

    def newer(self, after: int, upto: int) -> dict[int, DeliveryRow]:
        """Rows of a part of the log that the store did not have at `watch`, as they are now."""
        watched = self._watched or {}
        return {sequence: row for sequence, row in watched.items() if after < sequence <= upto}

    def collect(self, into: Deliveries, *, final: bool = False) -> None:
        """Hands over what is not stored yet and the position that holds with it. `saved` says that it was stored.

        What was collected before and never saved is handed over again: nobody knows what became of it.

        Args:
            into: filled.
            final: a position that moved only a little is worth a write, too.
        """
        self._saving |= self._unsaved
        self._unsaved = {}
        self.unsaved = len(self._saving)
        into.rows.extend(row for _, row in self._saving.values())
        self._next = position = self.position
        moved = position > self._stored and (self._saving or final or self.lags)
        if moved or position < self._stored:
            into.positions[self._endpoint] = position
        else:
            self._next = self._stored

    def saved(self) -> None:
        """What was collected last is stored."""
        for item, row in self._saving.values():
            if item is not None and item.attempts is row.attempts:
                item.attempts = None  # the store has them: thousands of parked deliveries must not fill the memory
        self._saving = {}
        self.unsaved = len(self._unsaved)
        self._stored = self._next
