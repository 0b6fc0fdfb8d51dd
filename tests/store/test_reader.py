"""One page of the log: how much is looked at and how much is read, which the contract does not show."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.store import reader
from gateway.store.api import Batch, LogEvent
from gateway.store.sqlite import SqliteStore
from schemas.filter import Filter

from .samples import draft

EVERYTHING, RARE = reader.condition(()), reader.condition([Filter(kind=("rare",))])


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[sqlite3.Connection]:
    """To a log of 200 events of 10 KB and 50 of 200 KB, the first and last of which are rare; 10,000 positions are missing."""
    store = SqliteStore(tmp_path / "log.db", durability="process", clock=SystemClock())
    await store.open()
    kinds = {1: "rare", 250: "rare"}
    for first in range(1, 251, 50):
        await store.append(
            Batch(
                [
                    draft(str(n), kind=kinds.get(n), text="x" * (10_000 if n <= 200 else 200_000))
                    for n in range(first, first + 50)
                ]
            )
        )
    await store.close()
    connection = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    connection.execute("UPDATE event SET sequence = sequence + 10000 WHERE sequence > 1")
    yield connection
    connection.close()


def sequences(events: list[LogEvent]) -> list[int]:
    return [event.sequence for event in events]


def test_a_page_has_its_bytes_or_one_event(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies of 200 KB by the hundred would be memory by the gigabyte; not even two are read where one is too much."""
    monkeypatch.setattr(reader, "BYTES", 1_000_000)
    small, reached = reader.events(connection, 10_000, 10_250, 60, EVERYTHING)
    assert (sequences(small), reached) == (list(range(10_002, 10_062)), 10_061)
    small, reached = reader.events(connection, 10_000, 10_250, 1000, EVERYTHING)
    assert (sequences(small), reached) == (list(range(10_002, 10_101)), 10_100)
    mixed, reached = reader.events(connection, 10_190, 10_250, 1000, EVERYTHING)
    assert (sequences(mixed), reached) == (list(range(10_191, 10_205)), 10_204)
    large, reached = reader.events(connection, 10_200, 10_250, 16, EVERYTHING)
    assert (sequences(large), reached) == (list(range(10_201, 10_205)), 10_204)
    assert reader.events(connection, 10_200, 10_203, 16, EVERYTHING)[1] == 10_203
    monkeypatch.setattr(reader, "BYTES", 100_000)
    one, reached = reader.events(connection, 10_200, 10_250, 2, EVERYTHING)
    assert (sequences(one), reached) == ([10_201], 10_201)


def test_what_does_not_match_is_looked_at_in_parts(connection: sqlite3.Connection) -> None:
    """Positions that retention has taken cost nothing: the next part begins where the log goes on."""
    assert [(sequences(found), reached) for found, reached in [reader.events(connection, 0, 10_250, 1000, RARE)]] == [
        ([1], reader.SCAN)
    ]
    found, reached = reader.events(connection, reader.SCAN, 10_250, 1000, RARE)
    assert (sequences(found), reached) == ([10_250], 10_250)
    assert reader.events(connection, 10_001, 10_100, 1000, RARE) == ([], 10_100)
    assert reader.events(connection, 1, 9_000, 1000, RARE) == ([], 9_000)
