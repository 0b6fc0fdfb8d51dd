"""What is read from the file: filters as SQL, pages, and rows as structs.

Owns the SQL that reads. Each function is one short read transaction on a connection of the caller's. Must not know of
threads or of asyncio.

Many rows come as one: their narrow columns as a JSON list, their wide column as one blob. To fetch them one by one would
let go of the interpreter lock, and win it back from a busy event loop, once a row.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.store.api import SETTLED, DeliveryRow, LogEvent, Snapshot, TaskRow
from gateway.store.database import HEAD
from schemas.filter import Filter

#: rows that one statement looks at, where a filter may leave out most of them
SCAN = 5_000
_SCAN_TASKS = 20_000
#: Bytes of bodies that are read at once, unless a single one has more: a thousand ordinary events. One can have megabytes,
#: and what is read is in memory several times meanwhile.
BYTES = 2 * 1024 * 1024
#: more values than this in one field are compared here and not by the engine, which bounds its variables
_MANY = 500

_EVENT = "sequence, received, type, source, task, kind, status, id"
_TASK = "key, source, kind, status, finished, created_at, stream, updated, sequence"
_DELIVERY = "sequence, endpoint, event_id, task, state, tries, due, updated"


@dataclass(frozen=True, slots=True)
class Condition:
    """Filters as SQL. `tasks` is what the narrowest of them names; `rest` are the filters that SQL does not cover."""

    sql: str
    values: tuple[str | int, ...]
    tasks: tuple[str, ...] | None
    rest: tuple[Filter, ...]

    @property
    def is_empty(self) -> bool:
        """Whether everything matches."""
        return not self.sql and not self.rest


def condition(where: Iterable[Filter], *, keys: str = "task", types: bool = True) -> Condition:
    """The condition that all filters match. `keys` is the column of the task key; `types`: whether types are compared."""
    parts: list[str] = []
    values: list[str | int] = []
    rest: list[Filter] = []
    tasks: tuple[str, ...] | None = None
    for one in where if types else (item.without_type() for item in where):
        fields: dict[str, Sequence[str]] = {
            "source": one.source,
            keys: one.task,
            "kind": one.kind,
            "status": one.status,
        }
        if any(len(accepted) > _MANY for accepted in (*fields.values(), one.type)):
            rest.append(one)
            continue
        for column, accepted in fields.items():
            if accepted:
                accepted = storable(accepted)
                parts.append(f"{column} IN ({','.join('?' * len(accepted))})")
                values += accepted
        if one.task and (tasks is None or len(one.task) < len(tasks)):
            tasks = tuple(storable(one.task))
        if one.type:
            exact = storable(item for item in one.type if not item.endswith("*"))
            prefixes = storable(item[:-1] for item in one.type if item.endswith("*"))
            # not LIKE or GLOB: what is a wildcard to them is none here
            either = [f"type IN ({','.join('?' * len(exact))})", *["substr(type, 1, ?) = ?"] * len(prefixes)]
            parts.append(f"({' OR '.join(either)})")
            values += exact
            for prefix in prefixes:
                values += (len(prefix), prefix)
    return Condition(" AND ".join(parts), tuple(values), tasks, tuple(rest))


def storable(values: Iterable[str]) -> list[str]:
    """Those values that are Unicode text: the log can hold no lone surrogate, so that none of it matches one."""
    return [value for value in values if value.encode("utf-8", "ignore").decode() == value]


def events(
    connection: sqlite3.Connection, after: int, upto: int, limit: int, where: Condition
) -> tuple[list[LogEvent], int]:
    """The next matching events, at most `limit` and `BYTES`, and the position up to which all were looked at."""
    reached = _reach(connection, after, upto, where)
    if reached is None:
        return [], upto
    rows = (
        f"FROM event WHERE sequence > ? AND sequence <= ? {f'AND {where.sql}' if where.sql else ''}"
        " ORDER BY sequence LIMIT ?"
    )
    values = (after, reached, *where.values)
    if limit > 1:
        # the engine knows the length of a body without reading it
        size, count = connection.execute(
            f"SELECT sum(size), count(*) FROM (SELECT length(body) AS size {rows})", (*values, limit)
        ).fetchone()
        if not count:
            return [], reached
        if size > BYTES:
            limit = connection.execute(
                "SELECT max(1, count(*)) FROM (SELECT sum(size) OVER (ORDER BY sequence) AS total"
                f" FROM (SELECT sequence, length(body) AS size {rows})) WHERE total <= ?",
                (*values, limit, BYTES),
            ).fetchone()[0]
    meta, bodies = connection.execute(
        f"SELECT json_group_array(json_array({_EVENT}, length(body))), CAST(group_concat(body, '') AS BLOB)"
        f" FROM (SELECT {_EVENT}, body {rows})",
        (*values, limit),
    ).fetchone()
    found: list[LogEvent] = []
    for (sequence, received, type_, source, task, kind, status, id_), body in _rows(meta, bodies):
        found.append(LogEvent(sequence, id_, type_, source, task, kind, status, received / 1_000_000, body))
    if len(found) == limit:
        reached = found[-1].sequence
    if where.rest:
        tests = [one.compile() for one in where.rest]
        found = [event for event in found if all(test(event) for test in tests)]
    return found, reached


def _reach(connection: sqlite3.Connection, after: int, upto: int, where: Condition) -> int | None:
    """How far one statement may look for what matches; None: there is nothing at all."""
    if where.tasks is not None:
        last, seen = connection.execute(
            "SELECT max(sequence), count(*) FROM (SELECT sequence FROM event INDEXED BY event_task"
            f" WHERE task IN ({','.join('?' * len(where.tasks))}) AND sequence > ? AND sequence <= ?"
            f" ORDER BY sequence LIMIT {SCAN})",
            (*where.tasks, after, upto),
        ).fetchone()
        return None if not seen else last if seen == SCAN else upto
    if where.is_empty:
        return upto
    # retention can leave wide gaps
    first: int | None = connection.execute(
        "SELECT min(sequence) FROM event WHERE sequence > ? AND sequence <= ?", (after, upto)
    ).fetchone()[0]
    return None if first is None else min(upto, first + SCAN - 1)


def position_at(connection: sqlite3.Connection, moment: int) -> int:
    """The greatest position received before a time in microseconds, 0 where there is none."""
    found = connection.execute(
        "SELECT max(sequence) FROM event INDEXED BY event_received WHERE received < ?", (moment,)
    ).fetchone()[0]
    return found or 0


def types(connection: sqlite3.Connection, sequences: Sequence[int]) -> dict[int, str]:
    """The types of those of the events that the log has, by position."""
    return dict(
        connection.execute(
            "SELECT sequence, type FROM event WHERE sequence IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(sequences).decode(),),
        ).fetchall()
    )


def tasks(connection: sqlite3.Connection, keys: Sequence[str]) -> list[TaskRow]:
    """The tasks with one of the keys, ordered by key."""
    meta, states = connection.execute(
        f"SELECT json_group_array(json_array({_TASK}, length(state))), CAST(group_concat(state, '') AS BLOB)"
        f" FROM (SELECT {_TASK}, state FROM task WHERE key IN ({','.join('?' * len(keys))}) ORDER BY key)",
        tuple(keys),
    ).fetchone()
    return [_task(row, state) for row, state in _rows(meta, states)]


def snapshot(
    connection: sqlite3.Connection, where: Condition, after: str | None, limit: int, *, unfinished: bool
) -> Snapshot:
    """A page of states, with the end of the log, read by one statement and hence in one transaction.

    Where a filter leaves out nearly everything, a page may hold fewer than `limit` states, even none, and have a next one.

    Raises:
        ValueError: `after` is no cursor.
    """
    start = "" if after is None else _key(after)
    bound: str | None = None
    open_only = "AND finished = 0" if unfinished else ""
    if not where.is_empty and where.tasks is None:
        last, seen = connection.execute(
            f"SELECT max(key), count(*) FROM (SELECT key FROM task WHERE key > ? {open_only}"
            f" ORDER BY key LIMIT {_SCAN_TASKS})",
            (start,),
        ).fetchone()
        bound = last if seen == _SCAN_TASKS else None
    meta, states, head = connection.execute(
        f"SELECT json_group_array(json_array({_TASK}, length(state))), CAST(group_concat(state, '') AS BLOB), {HEAD}"
        f" FROM (SELECT {_TASK}, state FROM task WHERE key > ? {'AND key <= ?' if bound else ''} {open_only}"
        f" {f'AND {where.sql}' if where.sql else ''} ORDER BY key LIMIT ?)",
        (start, *([bound] if bound else []), *where.values, limit + 1),
    ).fetchone()
    rows = [_task(row, state) for row, state in _rows(meta, states)]
    more = rows[limit - 1].task if len(rows) > limit else bound
    rows = rows[:limit]
    if where.rest:
        tests = [one.compile() for one in where.rest]
        rows = [row for row in rows if all(test(row) for test in tests)]
    return Snapshot(head, rows, None if more is None else _cursor(more))


def unfinished(
    connection: sqlite3.Connection, source: str, stream: str | None, after: str
) -> list[tuple[str, str | None]]:
    """Keys and creation times of a source's unfinished tasks with a key greater than `after`, at most `SCAN`."""
    only = "" if stream is None else "AND stream = ?"
    packed = connection.execute(
        "SELECT json_group_array(json_array(key, created_at)) FROM (SELECT key, created_at FROM task"
        # "0" is the character after "/": all keys of the source, of the index that holds the unfinished ones alone
        f" INDEXED BY task_unfinished WHERE finished = 0 AND key > ? AND key < ? {only} ORDER BY key LIMIT {SCAN})",
        (after, f"{source}0", *([] if stream is None else [stream])),
    ).fetchone()[0]
    return msgspec.json.decode(packed, type=list[tuple[str, str | None]])


def newest(connection: sqlite3.Connection, source: str) -> str | None:
    """The greatest creation time ever seen of a source."""
    row = connection.execute("SELECT newest FROM source WHERE name = ?", (source,)).fetchone()
    return None if row is None else row[0]


def cursors(connection: sqlite3.Connection, source: str) -> dict[str, bytes]:
    """Stream key → cursor."""
    return dict(connection.execute("SELECT stream, value FROM cursor WHERE source = ?", (source,)).fetchall())


def positions(connection: sqlite3.Connection) -> dict[str, int]:
    """Endpoint → position."""
    return dict(connection.execute("SELECT endpoint, sequence FROM position").fetchall())


def endpoints(connection: sqlite3.Connection) -> dict[str, bytes]:
    """Endpoint → record."""
    return dict(connection.execute("SELECT name, record FROM endpoint").fetchall())


def deliveries(
    connection: sqlite3.Connection, endpoint: str, state: str | None, after: int, upto: int, limit: int, *, newest: bool
) -> list[DeliveryRow]:
    """Rows of an endpoint in order of position, forwards or backwards."""
    only, values = _in_state(state)
    return _deliveries(
        connection,
        f"endpoint = ? {only} AND sequence > ? AND sequence <= ? ORDER BY sequence {'DESC' if newest else ''} LIMIT ?",
        (endpoint, *values, after, upto, limit),
    )


def count_deliveries(connection: sqlite3.Connection, endpoint: str, state: str) -> int:
    """How many rows of an endpoint have a state."""
    only, values = _in_state(state)
    row = connection.execute(f"SELECT count(*) FROM delivery WHERE endpoint = ? {only}", (endpoint, *values)).fetchone()
    return int(row[0])


def _in_state(state: str | None) -> tuple[str, list[str]]:
    """A condition on the state of a delivery, said so that the index of those that are not delivered can be used."""
    if state is None:
        return "", []
    return ("AND state = ?" if state == "delivered" else "AND state = ? AND state <> 'delivered'"), [state]


def settled(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many rows are settled, and the bytes of their attempts. Reads an index alone."""
    count, size = connection.execute(
        "SELECT count(*), coalesce(sum(length(attempts)), 0) FROM delivery INDEXED BY delivery_settled"
        " WHERE state <> 'pending'"
    ).fetchone()
    return count, size


def last_settled(connection: sqlite3.Connection) -> float:
    """When a delivery was settled last, seconds since 1970 (UTC); 0: none was. Reads three entries of an index."""
    latest = (
        connection.execute(
            "SELECT max(updated) FROM delivery INDEXED BY delivery_settled WHERE state <> 'pending' AND state = ?",
            (state,),
        ).fetchone()[0]
        for state in SETTLED
    )
    return max(moment or 0 for moment in latest) / 1_000_000


def delivery(connection: sqlite3.Connection, endpoint: str, sequence: int) -> DeliveryRow | None:
    """One row."""
    return next(iter(_deliveries(connection, "endpoint = ? AND sequence = ?", (endpoint, sequence))), None)


def _deliveries(connection: sqlite3.Connection, where: str, values: tuple[str | int, ...]) -> list[DeliveryRow]:
    meta, attempts = connection.execute(
        f"SELECT json_group_array(json_array({_DELIVERY}, length(attempts))), CAST(group_concat(attempts, '') AS BLOB)"
        f" FROM (SELECT {_DELIVERY}, attempts FROM delivery WHERE {where})",
        values,
    ).fetchone()
    rows = []
    for (sequence, endpoint, event_id, task, state, tries, due, updated), wide in _rows(meta, attempts):
        due = None if due is None else due / 1_000_000
        rows.append(DeliveryRow(endpoint, sequence, event_id, task, state, tries, due, wide, updated / 1_000_000))
    return rows


def _rows(meta: str, wide: bytes | None) -> Iterable[tuple[list[Any], bytes]]:
    """Takes the packed form apart: each row's narrow columns and its wide one."""
    at = 0
    for *narrow, size in msgspec.json.decode(meta):
        yield narrow, wide[at : at + size] if wide is not None else b""
        at += size


def _task(row: list[Any], state: bytes) -> TaskRow:
    key, source, kind, status, finished, created_at, stream, updated, sequence = row
    return TaskRow(
        source=source,
        id=key[len(source) + 1 :],
        kind=kind,
        status=status,
        finished=bool(finished),
        created_at=created_at,
        stream=stream,
        updated=updated / 1_000_000,
        state=state,
        sequence=sequence,
    )


def _cursor(key: str) -> str:
    return base64.urlsafe_b64encode(b"k" + key.encode()).decode().rstrip("=")


def _key(cursor: str) -> str:
    try:
        packed = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True)
        key = packed[1:].decode()
    except (binascii.Error, UnicodeError) as error:
        raise ValueError("not a cursor of this list") from error
    if packed[:1] != b"k" or _cursor(key) != cursor:
        raise ValueError("not a cursor of this list")
    return key
