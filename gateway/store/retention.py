"""What is old enough to go, in chunks that are each a short transaction of their own.

Owns the rules of what is removed. Must not know of threads or futures: the writer runs the steps between its commits.

An event received before the given time stays as long as anybody still needs its body: while it lies after the stored
position of any webhook endpoint, and while any delivery of it is pending or a dead letter. Rows of deliveries that are
done, and dead letters, go when they were last touched before that time; the event of a dead letter goes after it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Literal

import msgspec

#: rows a step looks at
CHUNK = 500
#: pages a step gives back to the file system
_PAGES = 128
#: Share of the file that may lie free: new events take it, so that a log in balance neither shrinks nor grows.
_SPARE = 0.1

Stage = Literal["deliveries", "tasks", "events", "pages"]


@dataclass(frozen=True, slots=True)
class Trim:
    """A step: where it begins. `before` and `received` in microseconds since 1970."""

    before: int
    stage: Stage = "deliveries"
    received: int = -(2**63)
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What came of a step: how many events and tasks went, the greatest position among them, and the next step."""

    removed: int
    floor: int
    next: Trim | None


def run(connection: sqlite3.Connection, step: Trim) -> Trimmed:
    """Takes a step in a transaction of its own. An exception leaves it open, for the caller to roll back."""
    if step.stage == "pages":
        return _give_back(connection, step)
    connection.execute("BEGIN IMMEDIATE")
    if step.stage == "deliveries":
        trimmed = _rows(connection, step, "delivery", "state <> 'pending'", "tasks")
    elif step.stage == "tasks":
        trimmed = _rows(connection, step, "task", "finished = 1", "events")
    else:
        trimmed = _events(connection, step)
    connection.execute("COMMIT")
    return trimmed


def _rows(connection: sqlite3.Connection, step: Trim, table: str, condition: str, then: Stage) -> Trimmed:
    count = connection.execute(
        f"DELETE FROM {table} WHERE rowid IN"
        f" (SELECT rowid FROM {table} WHERE {condition} AND updated < ? ORDER BY updated LIMIT {CHUNK})",
        (step.before,),
    ).rowcount
    following = step if count == CHUNK else Trim(step.before, then)
    return Trimmed(count if table == "task" else 0, 0, following)


def _events(connection: sqlite3.Connection, step: Trim) -> Trimmed:
    # one row: fetching many would let go of the interpreter lock, and wait for it, once a row
    packed = connection.execute(
        "SELECT json_group_array(json_array(received, sequence,"
        " sequence <= coalesce((SELECT min(sequence) FROM position), sequence)"
        " AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.sequence = old.sequence AND state <> 'delivered')))"
        " FROM (SELECT received, sequence FROM event INDEXED BY event_received WHERE received < ?1 AND received >= ?2"
        f" AND (received > ?2 OR sequence > ?3) ORDER BY received, sequence LIMIT {CHUNK}) AS old",
        (step.before, step.received, step.sequence),
    ).fetchone()[0]
    seen = sorted(msgspec.json.decode(packed, type=list[tuple[int, int, int]]))
    gone = [sequence for _, sequence, free in seen if free]
    if gone:
        connection.execute(
            "DELETE FROM event WHERE sequence IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(gone).decode(),),
        )
        connection.execute("UPDATE meta SET value = max(value, ?) WHERE key = 'floor'", (max(gone),))
    following = (
        Trim(step.before, "events", seen[-1][0], seen[-1][1]) if len(seen) == CHUNK else Trim(step.before, "pages")
    )
    return Trimmed(len(gone), max(gone, default=0), following)


def _give_back(connection: sqlite3.Connection, step: Trim) -> Trimmed:
    free, pages = connection.execute(
        "SELECT (SELECT freelist_count FROM pragma_freelist_count), (SELECT page_count FROM pragma_page_count)"
    ).fetchone()
    if free <= max(_PAGES, pages * _SPARE):
        return Trimmed(0, 0, None)
    # a row without columns per page, which `execute` takes for the end; a transaction of its own
    connection.executescript(f"PRAGMA incremental_vacuum({_PAGES})")
    return Trimmed(0, 0, step)
