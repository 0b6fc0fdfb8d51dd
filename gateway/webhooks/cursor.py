"""What an endpoint has to deliver next: the log from a position on, and the rows that say what became of it before.

Owns the rule which events are deliveries: those that match, short of those that have a row. Above the position that is only
looked at as far as rows can be, which is after a start and during a replay. Must not know lanes, nor send or write anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from gateway.clock import Clock
from gateway.store.api import DeliveryRow, LogEvent, Store
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.lanes import PROGRESS, Item
from gateway.webhooks.ledger import Ledger
from gateway.webhooks.recent import Recent
from gateway.webhooks.record import Notice, Replay
from schemas.filter import Filter

#: Events, and rows, that are read at once, at most.
PAGE, ROWS = 256, 1000
#: What the gateway says of endpoints goes to those alone whose filter names it; a test goes to the tested one, past its filter.
NOTICES, TEST = "webhook.", "webhook.test"


class Page(msgspec.Struct):
    """Deliveries in order of position, and up to where these are all. `stored` ones are pending and were tried before."""

    items: list[Item]
    reached: int


class Cursor:
    """Reads for one endpoint.

    Args:
        config: the endpoint.
        store: read only.
        recent: the newest events.
        clock: tells how long until a stored time.
    """

    def __init__(self, config: EndpointConfig, store: Store, recent: Recent, clock: Clock) -> None:
        self._store, self._recent, self._clock = store, recent, clock
        #: there are no rows above it but of deliveries that are in memory
        self.horizon = 0
        self.configure(config)

    def configure(self, config: EndpointConfig) -> None:
        """From now on what this endpoint wants is read."""
        self._name = config.name
        self._filter = config.where
        self._matches = self._filter.compile()
        self._progress = config.progress != "none"
        self._notices = bool(config.type)

    @property
    def end(self) -> int:
        """Up to there the log is known to reach."""
        return self._recent.last

    async def page(
        self,
        ledger: Ledger,
        held: Callable[[int], Item | None],
        replay: Replay | None,
        upto: int | None = None,
    ) -> Page:
        """The next deliveries.

        Args:
            ledger: says where to begin, and what is not stored yet.
            held: a delivery that is in memory already, by position; it is left out.
            replay: what is under way.
            upto: no further.

        Raises:
            StoreError: the store cannot be read.
        """
        position = ledger.read
        if position >= self.horizon:
            events, reached = await self._events(position, upto)
            return Page([self._fresh(event, None) for event in events], reached)
        with ledger.watch():
            events, reached = await self._events(position, upto)
            return await self._reconciled(ledger, held, replay, events, reached)

    async def _events(self, position: int, upto: int | None) -> tuple[Sequence[LogEvent], int]:
        found = self._recent.after(position, PAGE) if upto is None else None
        if found is not None:
            return [event for event in found[0] if self._matches(event) and self._wants(event)], found[1]
        end = max(self._store.head if upto is None else upto, position)
        page = await self._store.read(position, PAGE, (self._filter,), end)
        return [event for event in page.events if self._wants(event)], page.reached

    async def _reconciled(
        self,
        ledger: Ledger,
        held: Callable[[int], Item | None],
        replay: Replay | None,
        events: Sequence[LogEvent],
        reached: int,
    ) -> Page:
        """Events beside the rows of the same part of the log."""
        position = ledger.read
        stored = await self._store.deliveries(self._name, after=position, upto=reached, limit=ROWS)
        if len(stored) == ROWS:
            reached = stored[-1].sequence
        there = {event.sequence: event for event in events if event.sequence <= reached}
        rows = {row.sequence: row for row in stored}
        for sequence, row in rows.items():
            if row.state == "pending" and row.task is None and sequence not in there:
                event = await self.event(sequence)  # rows do not say whose notice it was
                if event is not None:
                    there[sequence] = event
        newer = ledger.newer(position, reached)
        rows |= newer
        items = []
        for sequence in sorted(there.keys() | rows.keys()):
            known, wanted = rows.get(sequence), there.get(sequence)
            if held(sequence) is not None:
                continue
            if known is not None and known.state == "pending":
                items.append(self.restored(known, wanted, attempts=known.attempts if sequence in newer else None))
            elif wanted is not None and (known is None or _is_replayed(known, replay)):
                items.append(self._fresh(wanted, known))
        return Page(items, reached)

    def _wants(self, event: LogEvent) -> bool:
        if event.type == PROGRESS:
            return self._progress
        return not event.type.startswith(NOTICES) or (self._notices and event.type != TEST)

    def _fresh(self, event: LogEvent, row: DeliveryRow | None) -> Item:
        item = Item(event.sequence, event.id, lane_of(event), event.task, event.type, event)
        if row is not None:
            item.attempts, item.dead = row.attempts, row.state == "dead"
        return item

    def restored(self, row: DeliveryRow, event: LogEvent | None, *, attempts: bytes | None = None) -> Item:
        """A pending row as a delivery.

        Args:
            row: as stored.
            event: what is sent; needed where the row has no task.
            attempts: None: they are read from the store when they are needed.
        """
        lane = row.task or lane_of(event)
        due = None if row.due is None else self._clock.monotonic() + max(0.0, row.due - self._clock.now())
        return Item(
            row.sequence, row.event_id, lane, row.task, tries=row.tries, attempts=attempts, stored=True, closed=True,
            due=due,
        )  # fmt: skip

    async def event(self, sequence: int) -> LogEvent | None:
        """An event of the log; None: retention has removed it.

        Raises:
            StoreError: the store cannot be read.
        """
        page = await self._store.read(sequence - 1, 1, (), sequence)
        return page.events[0] if page.events else None

    async def notice(self, notice: Notice, after: int) -> LogEvent | None:
        """A notice in the log, behind a position; None: it is not there.

        Raises:
            StoreError: the store cannot be read.
        """
        where, head = (Filter(type=(notice.type,)),), self._store.head
        while after < head:
            page = await self._store.read(after, PAGE, where, head)
            for event in page.events:
                if event.id == notice.id:
                    return event
            after = page.reached
        return None


def lane_of(event: LogEvent | None) -> str:
    """Events of a task are sent one after the other, and so are notices of a source. The blank keeps these apart from task
    keys. A test waits for nothing."""
    if event is None:
        return " "
    return event.task or (f" test {event.id}" if event.type == TEST else f" {event.source or ''}")


def _is_replayed(row: DeliveryRow, replay: Replay | None) -> bool:
    return replay is not None and row.sequence <= replay.upto and row.updated < replay.at
