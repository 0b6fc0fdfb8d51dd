"""What is old enough to go, or too much, in chunks that are each a short transaction of their own.

Owns the rules of what is removed. Must not know of threads or futures: the writer runs the steps between its commits.

An event received before the given time stays as long as anybody still needs its body: while it lies after the stored
position of any webhook endpoint, and while any delivery of it is pending or a dead letter. Rows of deliveries that are
done, and dead letters, go when they were last touched before that time and the endpoint's position is past them; the event
of a dead letter goes after it. What is young enough goes as well where it is beyond a bound, by the same rules: of settled
deliveries those delivered first and dead letters last, and of the log the oldest events.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from gateway.store.api import NO_BOUNDS, SETTLED, Bounds

#: rows a step looks at
CHUNK = 500
#: pages a step gives back to the file system
_PAGES = 128
#: Share of the file that may lie free: new events take it, so that a log in balance neither shrinks nor grows.
_SPARE = 0.1
#: later than anything
_EVER = 2**63 - 1

Stage = Literal["deliveries", "surplus", "tasks", "events", "excess", "pages"]


@dataclass(frozen=True, slots=True)
class Trim:
    """A step: where it begins. `before` and `received` in microseconds since 1970.

    `rows` and `size` are what the stage `surplus` still has to remove: settled deliveries, and bytes of their attempts.
    """

    before: int
    bounds: Bounds = NO_BOUNDS
    stage: Stage = "deliveries"
    rows: int = 0
    size: int = 0
    received: int = -(2**63)
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Forget:
    """A step that removes rows of an endpoint, and with the last of them its position and its record."""

    endpoint: str


Step = Trim | Forget


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What came of a step: how many events and tasks went, the greatest position among them, and the next step."""

    removed: int
    floor: int
    next: Step | None


def run(connection: sqlite3.Connection, step: Step) -> Trimmed:
    """Takes a step in a transaction of its own. An exception leaves it open, for the caller to roll back."""
    if isinstance(step, Trim) and step.stage == "pages":
        return _give_back(connection, step)
    connection.execute("BEGIN IMMEDIATE")
    if isinstance(step, Forget):
        trimmed = _forget(connection, step)
    elif step.stage == "deliveries":
        trimmed = _old_deliveries(connection, step)
    elif step.stage == "surplus":
        trimmed = _surplus(connection, step)
    elif step.stage == "tasks":
        trimmed = _tasks(connection, step)
    elif step.stage == "events" or _is_beyond(connection, step.bounds.log_bytes):
        trimmed = _events(connection, step)
    else:
        trimmed = Trimmed(0, 0, replace(step, stage="pages"))
    connection.execute("COMMIT")
    return trimmed


def _forget(connection: sqlite3.Connection, step: Forget) -> Trimmed:
    count = connection.execute(
        f"DELETE FROM delivery WHERE rowid IN (SELECT rowid FROM delivery WHERE endpoint = ? LIMIT {CHUNK})",
        (step.endpoint,),
    ).rowcount
    if count == CHUNK:
        return Trimmed(0, 0, step)
    connection.execute("DELETE FROM position WHERE endpoint = ?", (step.endpoint,))
    connection.execute("DELETE FROM endpoint WHERE name = ?", (step.endpoint,))
    return Trimmed(0, 0, None)


def _old_deliveries(connection: sqlite3.Connection, step: Trim) -> Trimmed:
    for state in SETTLED:
        if gone := _settled(connection, state, step.before):
            return Trimmed(0, 0, _without(connection, step, gone))
    return Trimmed(0, 0, replace(step, stage="surplus"))


def _surplus(connection: sqlite3.Connection, step: Trim) -> Trimmed:
    if step.rows <= 0 and step.size <= 0:
        return Trimmed(0, 0, replace(step, stage="tasks"))
    for state in SETTLED:
        gone: list[tuple[int, int]] = []
        size = 0
        for row, length in _settled(connection, state, _EVER):
            if len(gone) >= step.rows and size >= step.size:
                break
            gone.append((row, length))
            size += length
        if gone:
            return Trimmed(0, 0, _without(connection, step, gone))
    return Trimmed(0, 0, replace(step, stage="tasks"))


def _settled(connection: sqlite3.Connection, state: str, before: int) -> list[tuple[int, int]]:
    """The oldest deliveries with a state that were touched before a time, and the bytes of their attempts."""
    packed = connection.execute(
        "SELECT json_group_array(json_array(rowid, size)) FROM (SELECT rowid, length(attempts) AS size FROM delivery"
        " INDEXED BY delivery_settled WHERE state <> 'pending' AND state = ? AND updated < ?"
        # above its endpoint's position a row is all that says that the event is not to be delivered again
        " AND NOT EXISTS (SELECT 1 FROM position AS at"
        " WHERE at.endpoint = delivery.endpoint AND at.sequence < delivery.sequence)"
        f" ORDER BY updated LIMIT {CHUNK})",
        (state, before),
    ).fetchone()[0]
    return msgspec.json.decode(packed, type=list[tuple[int, int]])


def _without(connection: sqlite3.Connection, step: Trim, gone: list[tuple[int, int]]) -> Trim:
    """Removes deliveries; the same step with so much less to do."""
    connection.execute(
        "DELETE FROM delivery WHERE rowid IN (SELECT value FROM json_each(?))",
        (msgspec.json.encode([row for row, _ in gone]).decode(),),
    )
    return replace(step, rows=step.rows - len(gone), size=step.size - sum(size for _, size in gone))


def _tasks(connection: sqlite3.Connection, step: Trim) -> Trimmed:
    count = connection.execute(
        "DELETE FROM task WHERE rowid IN"
        f" (SELECT rowid FROM task WHERE finished = 1 AND updated < ? ORDER BY updated LIMIT {CHUNK})",
        (step.before,),
    ).rowcount
    return Trimmed(count, 0, step if count == CHUNK else replace(step, stage="events"))


def _events(connection: sqlite3.Connection, step: Trim) -> Trimmed:
    before = step.before if step.stage == "events" else _EVER
    # one row: fetching many would let go of the interpreter lock, and wait for it, once a row
    packed = connection.execute(
        "SELECT json_group_array(json_array(received, sequence,"
        " sequence <= coalesce((SELECT min(sequence) FROM position), sequence)"
        " AND NOT EXISTS (SELECT 1 FROM delivery WHERE delivery.sequence = old.sequence AND state <> 'delivered')))"
        " FROM (SELECT received, sequence FROM event INDEXED BY event_received WHERE received < ?1 AND received >= ?2"
        f" AND (received > ?2 OR sequence > ?3) ORDER BY received, sequence LIMIT {CHUNK}) AS old",
        (before, step.received, step.sequence),
    ).fetchone()[0]
    seen = sorted(msgspec.json.decode(packed, type=list[tuple[int, int, int]]))
    gone = [sequence for _, sequence, free in seen if free]
    if gone:
        connection.execute(
            "DELETE FROM event WHERE sequence IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(gone).decode(),),
        )
        connection.execute("UPDATE meta SET value = max(value, ?) WHERE key = 'floor'", (max(gone),))
    if len(seen) == CHUNK:
        following = replace(step, received=seen[-1][0], sequence=seen[-1][1])
    else:
        following = Trim(step.before, step.bounds, "excess" if step.stage == "events" else "pages")
    return Trimmed(len(gone), max(gone, default=0), following)


def _is_beyond(connection: sqlite3.Connection, most: int | None) -> bool:
    """Whether what the file holds, its free pages apart, takes more bytes than a bound."""
    if most is None:
        return False
    pages, free, size = connection.execute(
        "SELECT (SELECT page_count FROM pragma_page_count), (SELECT freelist_count FROM pragma_freelist_count),"
        " (SELECT page_size FROM pragma_page_size)"
    ).fetchone()
    return bool((pages - free) * size > most)


def _give_back(connection: sqlite3.Connection, step: Trim) -> Trimmed:
    free, pages = connection.execute(
        "SELECT (SELECT freelist_count FROM pragma_freelist_count), (SELECT page_count FROM pragma_page_count)"
    ).fetchone()
    if free <= max(_PAGES, pages * _SPARE):
        return Trimmed(0, 0, None)
    # a row without columns per page, which `execute` takes for the end; a transaction of its own
    connection.executescript(f"PRAGMA incremental_vacuum({_PAGES})")
    return Trimmed(0, 0, step)
