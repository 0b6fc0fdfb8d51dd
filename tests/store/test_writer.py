"""Group commit, and what happens while the engine cannot write."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from gateway.clock import SystemClock
from gateway.errors import StoreError
from gateway.metrics import Metrics
from gateway.store import transaction
from gateway.store.api import Batch
from gateway.store.checkpoint import Checkpointer
from gateway.store.database import WAL_CAP, Database, cause
from gateway.store.sqlite import SqliteStore

from .samples import draft, ids, read, task


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition that a thread makes true."""
    async with asyncio.timeout(20):
        while not condition():  # a thread makes it true, and sets no event of the loop
            await asyncio.sleep(0.005)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "log.db", clock=SystemClock(), metrics=Metrics(), retry=(0.01, 0.02))
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many changes each commit held."""
    sizes: list[int] = []
    commit = transaction.commit

    def counted(connection: sqlite3.Connection, changes: list[transaction.Change], tip: transaction.Tip) -> object:
        result = commit(connection, changes, tip)
        sizes.append(len(changes))
        return result

    monkeypatch.setattr(transaction, "commit", counted)
    return sizes


async def test_concurrent_appends_share_commits(store: SqliteStore, commits: list[int]) -> None:
    """What waits is committed together, never more than a group at a time."""
    await asyncio.gather(*(store.append(Batch([draft(f"{n}")])) for n in range(600)))
    assert sum(commits) == 600
    assert len(commits) < 60
    assert max(commits) <= 256


async def test_appends_are_measured(store: SqliteStore) -> None:
    """Each append is one observation of `log_append`; other writes are none."""
    await store.append(Batch([draft("a")]))
    await store.append(Batch())
    await store.trim(0)
    assert store._metrics is not None
    assert "mainstem_log_append_seconds_count 2.0" in store._metrics.exposition().decode()


async def test_a_full_queue_makes_callers_wait_in_turn(tmp_path: Path) -> None:
    """Beyond the bounds of the queue calls wait without being lost or overtaken, also one larger than the whole queue."""
    store = SqliteStore(tmp_path / "log.db", clock=SystemClock(), max_items=4, max_bytes=2_000)
    await store.open()
    sizes = [10, 5_000, 10, 800, 800, 800, 10, 10, 10, 10, 10, 10]
    calls = [
        asyncio.ensure_future(store.append(Batch([draft(f"{n}", text="x" * size)])))
        for n, size in enumerate(sizes * 20)
    ]
    await asyncio.sleep(0)
    assert store._items <= 4
    calls[-1].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert ids(await read(store, 0, 1000))[:239] == [f"{n}" for n in range(239)]
    await store.close()


async def test_a_cancelled_call_disturbs_nobody(store: SqliteStore) -> None:
    """A caller that goes away leaves the others of its commit alone."""
    calls = [asyncio.ensure_future(store.append(Batch([draft(f"{n}")]))) for n in range(20)]
    await asyncio.sleep(0)
    calls[7].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [n for n, result in enumerate(results) if isinstance(result, BaseException)] == [7]


async def test_a_lock_of_another_program_blocks_nobody(store: SqliteStore) -> None:
    """While another connection holds the file, the loop goes on, reads work, `trouble` says why; then all is stored."""
    await store.append(Batch([draft("a")]))
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with structlog.testing.capture_logs() as logs:
        calls = [asyncio.ensure_future(store.append(Batch([draft(f"{n}")]))) for n in range(50)]
        longest, loop = 0.0, asyncio.get_running_loop()
        async with asyncio.timeout(20):
            while store.trouble is None:
                before = loop.time()
                await asyncio.sleep(0.001)
                longest = max(longest, loop.time() - before)
        assert longest < 0.5, "the loop stood still"
        assert str(store.path) in store.trouble
        assert "another program holds a lock" in store.trouble
        assert ids(await read(store, 0, 10)) == ["a"]
        assert not any(call.done() for call in calls)
        other.execute("ROLLBACK")
        other.close()
        results = await asyncio.gather(*calls)
    assert [result.events[0].sequence for result in results] == list(range(2, 52))
    assert store.trouble is None
    assert [line["event"] for line in logs] == ["store_down", "store_up"]


async def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room, appends wait in order and are stored once there is room again; it is logged once each way."""
    writers: list[sqlite3.Connection] = []
    connect = Database.connect

    def limited(self: Database, role: str) -> sqlite3.Connection:
        connection = connect(self, role)  # type: ignore[arg-type]
        if role == "writer":
            connection.execute("PRAGMA max_page_count = 60")
            writers.append(connection)
        return connection

    monkeypatch.setattr(Database, "connect", limited)
    store = SqliteStore(tmp_path / "log.db", clock=SystemClock(), retry=(0.01, 0.02))
    await store.open()
    with structlog.testing.capture_logs() as logs:
        calls = [
            asyncio.ensure_future(
                store.append(Batch([draft(f"{n}", text="x" * 900)], [task("1")], {("s", "a"): b"%d" % n}))
            )
            for n in range(400)
        ]
        await until(lambda: store.trouble is not None)
        assert "full" in (store.trouble or "")
        done = [call for call in calls if call.done()]
        assert len(done) < len(calls)
        assert len(await read(store, 0, 1000)) == store.head == len(done)
        writers[-1].execute("PRAGMA max_page_count = 100000")
        results = await asyncio.gather(*calls)
    assert [result.events[0].sequence for result in results] == list(range(1, 401))
    assert ids(await read(store, 0, 1000)) == [f"{n}" for n in range(400)]
    assert await store.cursors("s") == {"a": b"399"}
    assert store.trouble is None
    assert [line["event"] for line in logs] == ["store_down", "store_up"]
    await store.close()


async def test_closing_while_the_engine_cannot_write(store: SqliteStore) -> None:
    """Closing does not hang on an engine that is down: what waits fails, with the reason."""
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    calls = [asyncio.ensure_future(store.append(Batch([draft(f"{n}")]))) for n in range(2000)]
    await until(lambda: store.trouble is not None)
    async with asyncio.timeout(20):
        await store.close()
    other.close()
    for result in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(result, StoreError)
        assert "holds a lock" in str(result)


async def test_an_engine_that_cannot_roll_back_gets_a_new_connection(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is past use is replaced, and the same group is committed with the new one."""
    commit, failures = transaction.commit, [2]

    def broken(connection: sqlite3.Connection, changes: list[transaction.Change], tip: transaction.Tip) -> object:
        if failures[0]:
            failures[0] -= 1
            connection.execute("BEGIN IMMEDIATE")
            connection.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)  # no ROLLBACK, nor anything else
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
            raise error
        return commit(connection, changes, tip)

    monkeypatch.setattr(transaction, "commit", broken)
    committed = await store.append(Batch([draft("a")]))
    assert [event.sequence for event in committed.events] == [1]
    assert failures == [0]


def test_causes() -> None:
    """Only what says nothing about the data counts as an engine that cannot work."""
    full = sqlite3.OperationalError()
    full.sqlite_errorcode, full.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
    refused = sqlite3.IntegrityError()
    refused.sqlite_errorcode = sqlite3.SQLITE_CONSTRAINT_NOTNULL
    assert "full" in (cause(full) or "")
    assert "memory" in (cause(MemoryError()) or "")
    assert cause(refused) is cause(TypeError()) is cause(sqlite3.ProgrammingError()) is None


async def test_the_wal_is_emptied_when_idle(store: SqliteStore) -> None:
    """Some time after the last write the WAL holds nothing, and the file itself all."""
    await store.append(Batch([draft(f"{n}", text="x" * 900) for n in range(500)]))
    wal = store.path.with_name("log.db-wal")
    assert wal.stat().st_size > 500 * 900
    await until(lambda: wal.stat().st_size == 0)


async def test_the_wal_stays_bounded(store: SqliteStore) -> None:
    """Under steady writes the WAL is begun anew again and again."""
    wal = store.path.with_name("log.db-wal")
    sizes: list[int] = []

    async def write(start: int) -> None:
        for n in range(start, start + 12):
            await store.append(Batch([draft(f"{n}.{k}", text="x" * 500_000) for k in range(2)]))
            sizes.append(wal.stat().st_size)

    await asyncio.gather(*(write(start * 100) for start in range(20)))
    assert sum(len(event.body) for event in await read(store, 0, 1000)) > 3 * WAL_CAP
    assert max(sizes) < 2.5 * WAL_CAP


def test_a_writer_is_let_by_while_nothing_holds_it(tmp_path: Path) -> None:
    """The writer waits for a checkpoint only while one begins the WAL anew."""
    database = Database(tmp_path / "log.db", "process")
    database.open()
    checkpointer = Checkpointer(database, interval=0.01)
    checkpointer.start()
    done = threading.Event()
    threading.Thread(target=lambda: (checkpointer.let_by(), done.set())).start()
    assert done.wait(5)
    checkpointer.stop()
    database.release()
