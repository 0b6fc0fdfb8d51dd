"""What one transaction writes: the appends and delivery results of a group, made one.

Gives positions to events, finds duplicates, folds several writes of one row into the last. Owns the SQL that writes.
Must not know of threads, retries or futures.

Rows go in many to a statement: every statement lets go of the interpreter lock and has to win it back from the event
loop, which under load costs far more than the statement itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.store.api import (
    BODY_HEAD,
    NO_SEQUENCE,
    SEQUENCE,
    Batch,
    Committed,
    Deliveries,
    DeliveryRow,
    Draft,
    LogEvent,
    TaskRow,
)

_PREFIX = BODY_HEAD + NO_SEQUENCE.encode()
_TAIL = SEQUENCE.stop


def micros(moment: float) -> int:
    """Seconds as whole microseconds, the resolution in which the log keeps times."""
    return round(moment * 1_000_000)


class Bulk:
    """An INSERT of any number of rows in few statements: of the next greater size, the rest filled with NULL rows."""

    _SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

    def __init__(self, table: str, columns: str, conflict: str) -> None:
        self._width = columns.count(",") + 1
        row = f"({','.join('?' * self._width)})"
        first = columns.partition(",")[0]
        self._statements = {
            size: f"WITH new ({columns}) AS (VALUES {','.join([row] * size)}) INSERT INTO {table} ({columns})"
            f" SELECT {columns} FROM new WHERE {first} IS NOT NULL {conflict}"
            for size in self._SIZES
        }

    def run(self, connection: sqlite3.Connection, flat: list[Any]) -> None:
        """Inserts rows given as one flat list of values."""
        if None in flat[:: self._width]:
            raise TypeError("the key of a row is None")
        at, left = 0, len(flat) // self._width
        while left > 0:
            size = next((size for size in self._SIZES if size >= left), self._SIZES[-1])
            values = flat[at : at + size * self._width]
            values.extend([None] * (size * self._width - len(values)))
            connection.execute(self._statements[size], values)
            at += size * self._width
            left -= size


_EVENTS = Bulk("event", "sequence, received, type, source, task, kind, status, id, body", "ON CONFLICT (id) DO NOTHING")
_TASKS = Bulk(
    "task",
    "key, source, kind, status, finished, created_at, stream, updated, sequence, state",
    "ON CONFLICT (key) DO UPDATE SET kind = excluded.kind, status = excluded.status, finished = excluded.finished,"
    " created_at = excluded.created_at, stream = excluded.stream, updated = excluded.updated,"
    " sequence = max(sequence, excluded.sequence), state = excluded.state",
)
_NEWEST = Bulk("source", "name, newest", "ON CONFLICT (name) DO UPDATE SET newest = excluded.newest")
_CURSORS = Bulk("cursor", "source, stream, value", "ON CONFLICT (source, stream) DO UPDATE SET value = excluded.value")
_POSITIONS = Bulk("position", "endpoint, sequence", "ON CONFLICT (endpoint) DO UPDATE SET sequence = excluded.sequence")
_DELIVERIES = Bulk(
    "delivery",
    "sequence, endpoint, event_id, task, state, tries, due, updated, attempts",
    "ON CONFLICT (endpoint, sequence) DO UPDATE SET event_id = excluded.event_id, task = excluded.task,"
    " state = excluded.state, tries = excluded.tries, due = excluded.due, updated = excluded.updated,"
    " attempts = excluded.attempts",
)


_ENDPOINTS = Bulk("endpoint", "name, record", "ON CONFLICT (name) DO UPDATE SET record = excluded.record")

Change = Batch | Deliveries


@dataclass(slots=True)
class Tip:
    """What the writer knows of the log without asking it: its end, and the greatest creation time per source."""

    head: int
    newest: dict[str, str] = field(default_factory=dict)


def commit(connection: sqlite3.Connection, changes: Sequence[Change], tip: Tip) -> list[Committed | None]:
    """Writes all changes in one transaction, in order, and moves `tip` on. One result per change.

    An exception leaves the transaction open, for the caller to roll back, and `tip` as it was.

    Raises:
        sqlite3.Error: the engine cannot, or the data is not what the schema asks for.
        TypeError, ValueError, AttributeError: the data is not what the interface says.
    """
    duplicates: set[int] = set()
    while True:
        group = _Group(tip, duplicates)
        results = [group.add(change) for change in changes]
        connection.execute("BEGIN IMMEDIATE")
        repeats = group.write_events(connection)
        if not repeats:
            break
        # once more without them, so that no position is left unused
        connection.execute("ROLLBACK")
        duplicates |= repeats
    group.write_rest(connection)
    connection.execute("COMMIT")
    tip.head = group.head
    tip.newest.update(group.newest)
    return results


class _Group:
    """The rows of one transaction, each row once, as it shall be at the end."""

    def __init__(self, tip: Tip, duplicates: set[int]) -> None:
        self.head = tip.head
        self.newest: dict[str, str] = {}
        self._tip = tip
        self._duplicates = duplicates
        self._ordinal = 0  # of a draft within the group; one object may be in it twice
        self._ordinals: list[int] = []  # of the events, in order of position
        self._events: list[Any] = []
        self._tasks: dict[str, tuple[TaskRow, int]] = {}
        self._cursors: dict[tuple[str, str], bytes] = {}
        self._rows: dict[tuple[str, int], DeliveryRow] = {}
        self._positions: dict[str, int] = {}
        self._records: dict[str, bytes] = {}

    def add(self, change: Change) -> Committed | None:
        if isinstance(change, Batch):
            return self._append(change)
        for row in change.rows:
            self._rows[row.endpoint, row.sequence] = row
        self._positions.update(change.positions)
        self._records.update(change.records)
        return None

    def _append(self, batch: Batch) -> Committed:
        events: list[LogEvent] = []
        repeated: list[Draft] = []
        last: dict[str | None, int] = {}
        for draft in batch.drafts:
            self._ordinal += 1
            if self._ordinal in self._duplicates:
                repeated.append(draft)
                continue
            body = draft.body
            if not body.startswith(_PREFIX):
                raise ValueError(f"the body of event {draft.id!r} does not start with an open sequence")
            self.head = position = self.head + 1
            body = b"%b%020d%b" % (BODY_HEAD, position, body[_TAIL:])
            received = micros(draft.received)
            self._ordinals.append(self._ordinal)
            self._events += (
                position, received, draft.type, draft.source, draft.task, draft.kind, draft.status, draft.id, body,
            )  # fmt: skip
            events.append(
                LogEvent(
                    position,
                    draft.id,
                    draft.type,
                    draft.source,
                    draft.task,
                    draft.kind,
                    draft.status,
                    received / 1_000_000,
                    body,
                )
            )
            last[draft.task] = position
        for row in batch.tasks:
            key = row.task
            before = self._tasks.get(key)
            self._tasks[key] = (row, max(last.get(key, 0), before[1] if before else 0))
            if row.created_at is not None:
                known = self.newest.get(row.source) or self._tip.newest.get(row.source)
                if known is None or later(row.created_at, known):
                    self.newest[row.source] = row.created_at
        self._cursors.update(batch.cursors)
        return Committed(events, repeated)

    def write_events(self, connection: sqlite3.Connection) -> set[int]:
        """Inserts the events. Returns the ordinals of those that the log already had; where any, nothing may be kept."""
        if not self._events:
            return set()
        before = connection.total_changes
        _EVENTS.run(connection, self._events)
        if connection.total_changes - before == len(self._ordinals):
            return set()
        stored = connection.execute(
            "SELECT json_group_array(sequence) FROM event WHERE sequence > ?", (self._tip.head,)
        ).fetchone()[0]
        kept = set(msgspec.json.decode(stored, type=list[int]))
        return {ordinal for position, ordinal in enumerate(self._ordinals, self._tip.head + 1) if position not in kept}

    def write_rest(self, connection: sqlite3.Connection) -> None:
        _TASKS.run(
            connection,
            [
                value
                for key, (row, sequence) in self._tasks.items()
                for value in (
                    key, row.source, row.kind, row.status, bool(row.finished), row.created_at, row.stream,
                    micros(row.updated), sequence, row.state,
                )
            ],
        )  # fmt: skip
        _NEWEST.run(connection, [value for pair in self.newest.items() for value in pair])
        for key, value in self._cursors.items():
            if value == b"":
                connection.execute("DELETE FROM cursor WHERE source = ? AND stream = ?", key)
        _CURSORS.run(
            connection,
            [
                item
                for (source, stream), value in self._cursors.items()
                if value != b""
                for item in (source, stream, value)
            ],
        )
        _DELIVERIES.run(
            connection,
            [
                value
                for row in self._rows.values()
                for value in (
                    row.sequence, row.endpoint, row.event_id, row.task, row.state, row.tries,
                    None if row.due is None else micros(row.due), micros(row.updated), row.attempts,
                )
            ],
        )  # fmt: skip
        _POSITIONS.run(connection, [value for pair in self._positions.items() for value in pair])
        _ENDPOINTS.run(connection, [value for pair in self._records.items() for value in pair])


def later(moment: str, other: str) -> bool:
    """Whether an RFC 3339 timestamp with `Z` is after another; fractions may differ in length."""
    return moment.rstrip("Z") > other.rstrip("Z")
