"""One small interface to the durable log, whatever engine is behind it.

The log is the only join between upstream and downstream: an event has happened once its batch is committed, and only then
is it shown to anybody. Everything that an append carries (events, task states, upstream cursors) commits together or not
at all. One process owns a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from schemas.filter import Filter

#: Where the 20 digits of `sequence` stand in every body: the log writes them when it gives the event its position.
BODY_HEAD = b'{"specversion":"1.0","sequence":"'
SEQUENCE = slice(len(BODY_HEAD), len(BODY_HEAD) + 20)
NO_SEQUENCE = "0" * 20


class Draft(msgspec.Struct, gc=False):
    """An event that is not in the log yet. `body` starts with `BODY_HEAD` and has `NO_SEQUENCE` as its sequence.

    `source` is the source's name, None for notices of no source; `task` the task key; `received` seconds since 1970, UTC.
    """

    id: str
    type: str
    source: str | None
    task: str | None
    kind: str | None
    status: str | None
    received: float
    body: bytes


class LogEvent(msgspec.Struct, gc=False, frozen=True):
    """An event of the log, with its position, strictly increasing from 1; no position is used twice, some may be unused."""

    sequence: int
    id: str
    type: str
    source: str | None
    task: str | None
    kind: str | None
    status: str | None
    received: float
    body: bytes


class TaskRow(msgspec.Struct, gc=False):
    """A task's latest state, `state` opaque to the store.

    `sequence` is the position of the task's last event (0: none); the store sets it when it commits that event.
    """

    source: str
    id: str
    kind: str | None
    status: str
    finished: bool
    created_at: str | None
    stream: str | None
    updated: float
    state: bytes
    sequence: int = 0

    @property
    def task(self) -> str:
        """The task key."""
        return f"{self.source}/{self.id}"

    @property
    def type(self) -> str:
        """What a filter on types sees."""
        return "task.snapshot"


@dataclass(slots=True)
class Batch:
    """What one append carries; all of it or nothing is stored.

    A draft whose id the log already has is a duplicate and is left out. `cursors` maps (source, stream key) to JSON.
    """

    drafts: list[Draft] = field(default_factory=list)
    tasks: list[TaskRow] = field(default_factory=list)
    cursors: dict[tuple[str, str], bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Committed:
    """What came of an append: the events in log order, and the drafts that the log already had."""

    events: list[LogEvent]
    duplicates: list[Draft]


class Page(msgspec.Struct, gc=False, frozen=True):
    """A part of the log: all that matches up to `reached`, which is at least where the reading began.

    It ends at the end of what was asked for, or behind its last event: because there are as many as were asked for, or as
    many bytes as are read at once. So fewer events than asked for do not mean that there are no more; no events do.
    """

    events: list[LogEvent]
    reached: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Current states that are valid at one position: read in one transaction with the end of the log."""

    sequence: int
    tasks: list[TaskRow]
    #: pass as `after` for the next page; None where there is none
    next: str | None


@dataclass(frozen=True, slots=True)
class Reach:
    """What an upstream stream still has to care for: see `adapters.api.Resume`."""

    unfinished: list[str]
    oldest_unfinished: str | None
    newest: str | None


#: States of settled deliveries, the least missed first.
SETTLED = ("delivered", "skipped", "dead")


class DeliveryRow(msgspec.Struct, gc=False):
    """What is known of one delivery: event `sequence` to `endpoint`. Times in seconds since 1970, UTC.

    `state` is `pending` (failed at least once and due again at `due`, or, where that is None, behind such a one of its task),
    `delivered`, `dead`, or `skipped` (progress that gave way to newer progress). `attempts` is a JSON list, one object an
    attempt, oldest first, opaque to the store; `tries` counts those of the current round of the schedule.
    """

    endpoint: str
    sequence: int
    event_id: str
    task: str | None
    state: str
    tries: int
    due: float | None
    attempts: bytes
    updated: float


@dataclass(slots=True)
class Deliveries:
    """What is to be stored together, all of it or nothing.

    `positions` maps an endpoint to the position up to which all is settled or has a row; it may go back. `records` maps it to
    what it is and what became of it, opaque to the store.
    """

    rows: list[DeliveryRow] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)
    records: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much retention leaves, beside what is young enough; None: no bound.

    Attributes:
        delivery_rows: settled deliveries. Delivered ones go first, dead letters last, the oldest first; pending ones never.
        delivery_bytes: what the attempts of settled deliveries take, in bytes.
        log_bytes: what everything in the log takes on the disk, in bytes. The oldest events go, short of those that a
            delivery or an endpoint still needs.
    """

    delivery_rows: int | None = None
    delivery_bytes: int | None = None
    log_bytes: int | None = None


NO_BOUNDS = Bounds()


class Store(Protocol):
    """The log, the states, the cursors and the deliveries.

    Every method raises `gateway.errors.StoreError` where the engine fails. Methods may be called concurrently.
    """

    @property
    def epoch(self) -> str:
        """Random name of this log, part of every resume position; `[0-9a-f]{12}`."""

    @property
    def head(self) -> int:
        """Position of the last committed event; 0 in a new log."""

    @property
    def floor(self) -> int:
        """Greatest position that retention has removed; 0 where nothing was. What lies at or below cannot be replayed."""

    @property
    def trouble(self) -> str | None:
        """Why the log cannot be written at the moment, in words; None while it can."""

    async def open(self) -> None:
        """Makes the store ready.

        Raises:
            StoreLocked: another process has it.
        """

    async def close(self) -> None:
        """Finishes what was begun and lets go of the store. Idempotent."""

    async def append(self, batch: Batch) -> Committed:
        """Stores a batch durably; calls are committed in the order they were made, several in one transaction.

        While the engine cannot write (no room, locked), the call waits and the engine tries again, for as long as the store
        is open; `trouble` says why meanwhile.
        """

    async def read(self, after: int, limit: int, where: Sequence[Filter] = (), upto: int | None = None) -> Page:
        """The next events with a position greater than `after` (and at most `upto`) that match every filter, in order: at
        most `limit`, and a few megabytes or a single event. For more, read on after the `reached` of the page.
        """

    async def position_at(self, moment: float) -> int:
        """The greatest position received before a time (seconds since 1970, UTC), 0 where there is none."""

    async def types(self, sequences: Sequence[int]) -> dict[int, str]:
        """The types of those of the events that the log has, by position."""

    async def tasks(self, source: str, ids: Sequence[str]) -> list[TaskRow]:
        """The states of those of the named tasks that are known."""

    async def snapshot(
        self, where: Sequence[Filter], *, unfinished: bool, limit: int, after: str | None = None
    ) -> Snapshot:
        """A page of current states that match every filter (`type` aside), ordered by task key.

        `unfinished` leaves finished tasks out. `after` is the `next` of the page before.

        Raises:
            ValueError: `after` is not such a cursor.
        """

    async def reach(self, source: str, stream: str | None) -> Reach:
        """What is unfinished, among the tasks last seen on a stream (None: among all of the source)."""

    async def cursors(self, source: str) -> dict[str, bytes]:
        """Stream key → stored cursor."""

    async def trim(self, before: float, bounds: Bounds = NO_BOUNDS) -> int:
        """Retention: removes events received, finished tasks last updated, and deliveries settled before a time, and then what
        is beyond the bounds; in chunks. Returns how many events and tasks."""

    async def deliver(self, results: Deliveries) -> None:
        """Stores results of webhook deliveries, in the same group commit as appends."""

    async def positions(self) -> dict[str, int]:
        """Endpoint → stored position."""

    async def endpoints(self) -> dict[str, bytes]:
        """Endpoint → stored record."""

    async def deliveries(
        self,
        endpoint: str,
        state: str | None = None,
        *,
        after: int = 0,
        upto: int | None = None,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[DeliveryRow]:
        """Rows of an endpoint with a position greater than `after` (and at most `upto`), in order of position: the lowest, or
        where `newest` is true the highest, beginning with these."""

    async def count_deliveries(self, endpoint: str, state: str) -> int:
        """How many rows of an endpoint have a state."""

    async def last_settled(self) -> float:
        """The latest time at which a delivery is said to have been settled, seconds since 1970 (UTC); 0: none was."""

    async def delivery(self, endpoint: str, sequence: int) -> DeliveryRow | None:
        """One row."""

    async def forget_endpoint(self, endpoint: str) -> None:
        """Removes an endpoint's rows, in chunks, and at last its position and record."""
