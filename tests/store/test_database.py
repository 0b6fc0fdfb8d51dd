"""Who may have the file, and what it must look like."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.errors import StoreError, StoreLocked
from gateway.store.api import Batch
from gateway.store.database import APPLICATION_ID, Database
from gateway.store.sqlite import SqliteStore

from .samples import draft, ids, read


def make(path: Path) -> SqliteStore:
    return SqliteStore(path, clock=SystemClock())


async def refused(path: Path) -> str:
    """What opening a file is refused with."""
    store = make(path)
    with pytest.raises(StoreError) as caught:
        await store.open()
    await store.close()
    assert str(path) in str(caught.value)
    return str(caught.value)


async def test_a_second_process_is_locked_out(tmp_path: Path) -> None:
    """Another process is told which file is in use, and by which process; nothing changes for the first."""
    path = tmp_path / "log.db"
    store = make(path)
    await store.open()
    code = (
        "import sys; from pathlib import Path; from gateway.store.database import Database\n"
        "try: Database(Path(sys.argv[1]), 'power').open()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    said = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60)  # noqa: ASYNC221  # the store has threads of its own
    assert said.stdout.strip() == f"StoreLocked {path} is in use by process {os.getpid()}"
    await store.append(Batch([draft("a")]))
    await store.close()


async def test_the_lock_ends_with_the_store(tmp_path: Path) -> None:
    """The same process, too, gets a file once only, and again after it was closed."""
    first, second = make(tmp_path / "log.db"), make(tmp_path / "log.db")
    await first.open()
    with pytest.raises(StoreLocked):
        await second.open()
    await first.close()
    await second.open()
    with pytest.raises(StoreError, match="is open"):
        await second.open()
    await second.close()


async def test_an_opening_that_is_cancelled_keeps_nothing(tmp_path: Path) -> None:
    """Whoever gives up opening leaves no lock and no thread behind, and may try again."""
    store = make(tmp_path / "log.db")
    opening = asyncio.ensure_future(store.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await store_opens(tmp_path / "log.db")
    await store.open()
    await store.append(Batch([draft("a")]))
    await store.close()


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """A file cannot be made where there is no directory."""
    assert "does not exist" in await refused(tmp_path / "none" / "log.db")


async def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """A file of another kind is refused and keeps its bytes; so is a directory."""
    path = tmp_path / "log.db"
    path.write_bytes(b"these are notes\n" * 100)
    assert "not a SQLite database" in await refused(path)
    assert path.read_bytes() == b"these are notes\n" * 100
    (tmp_path / "folder").mkdir()
    assert "cannot open" in await refused(tmp_path / "folder")


async def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """Tables that are not ours, or another application's id, are refused."""
    path = tmp_path / "log.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    assert "another program" in await refused(path)


@pytest.mark.parametrize(("version", "words"), [(3, "newer version"), (0, "none that was ever released")])
async def test_another_schema_is_refused(tmp_path: Path, version: int, words: str) -> None:
    """A log of a newer version is refused, not guessed at."""
    path = tmp_path / "log.db"
    store = make(path)
    await store.open()
    await store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    assert words in await refused(path)


async def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Pages full of rubbish behind a good start are found when the log is opened, and the lock is let go."""
    path = tmp_path / "log.db"
    store = make(path)
    await store.open()
    await store.append(Batch([draft("a")]))
    await store.close()
    data = bytearray(path.read_bytes())
    data[100:] = b"\xa5" * (len(data) - 100)
    path.write_bytes(data)
    assert "damaged" in await refused(path)
    path.unlink()
    await store_opens(path)


async def store_opens(path: Path) -> None:
    store = make(path)
    await store.open()
    await store.close()


async def test_an_empty_file_becomes_a_log(tmp_path: Path) -> None:
    """A file without a byte, such as one that was made and then the power failed, is a new log."""
    path = tmp_path / "log.db"
    path.touch()
    store = make(path)
    await store.open()
    await store.append(Batch([draft("a")]))
    assert ids(await read(store, 0, 1)) == ["a"]
    await store.close()


async def test_a_new_log_is_its_users_alone(tmp_path: Path) -> None:
    """It holds secrets of webhook endpoints; the files beside it are no wider."""
    path = tmp_path / "log.db"
    store = make(path)
    await store.open()
    await store.append(Batch([draft("a")]))
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("log.db", "log.db-wal", "log.db-shm")}
    await store.close()
    assert modes == {"log.db": 0o600, "log.db-wal": 0o600, "log.db-shm": 0o600}


async def test_a_closed_log_is_one_file(tmp_path: Path) -> None:
    """Readers cannot move what the WAL holds into the file: when one closed last, a copy of the file missed the newest events."""
    path = tmp_path / "log.db"
    store = make(path)
    await store.open()
    await store.append(Batch([draft("a")]))
    assert ids(await read(store, 0, 1)) == ["a"]
    await store.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log.db", "log.db.lock"]
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        assert connection.execute("SELECT id FROM event").fetchall() == [("a",)]


async def test_a_log_whose_file_was_removed_begins_anew(tmp_path: Path) -> None:
    """Also where a process that was killed left a WAL beside it."""
    path = tmp_path / "log.db"
    store = make(path)
    await store.open()
    await store.append(Batch([draft("a")]))
    wal = path.with_name("log.db-wal").read_bytes()
    await store.close()
    path.unlink()
    path.with_name("log.db-wal").write_bytes(wal)
    store = make(path)
    await store.open()
    assert (store.head, await read(store, 0, 1)) == (0, [])
    await store.close()


async def test_names_with_odd_characters(tmp_path: Path) -> None:
    """A path may hold what means something in a URI."""
    path = tmp_path / "a?mode=ro#b%20ü.db"
    await store_opens(path)
    assert path.exists()


def test_free_pages_can_be_given_back(tmp_path: Path) -> None:
    """The file is made with incremental vacuum, in WAL mode, with the synchronous mode of its durability."""
    for durability, synchronous in (("power", 2), ("process", 1)):
        database = Database(tmp_path / f"{durability}.db", durability)  # type: ignore[arg-type]
        database.open()
        connection = database.connect("writer")
        values = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("auto_vacuum", "journal_mode", "synchronous", "wal_autocheckpoint")
        ]
        assert values == [2, "wal", synchronous, 0]
        connection.close()
        database.release()


async def test_a_log_of_schema_1_is_upgraded(tmp_path: Path) -> None:
    """It opens with all that it held, has the tables of a new log, and opens again; what stood in an endpoint's own row is in
    its record."""
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.executescript(Path(__file__).with_name("schema-1.sql").read_text(encoding="utf-8"))
    connection.executescript(
        f"""
        INSERT INTO meta VALUES ('epoch', '0123456789ab'), ('floor', 0);
        INSERT INTO event VALUES (1, 1000000, 'task.failed', 's', 's/1', NULL, NULL, 'a', X'00');
        INSERT INTO position VALUES ('gone', 1), ('well', 1);
        INSERT INTO delivery VALUES ('gone', 0, '', NULL, 'pending', 0, NULL, 1, '[]'),
            ('well', 0, '', NULL, 'delivered', 0, NULL, 1, '[]'), ('gone', 1, 'a', 's/1', 'dead', 1, NULL, 1, '[]');
        PRAGMA application_id = {APPLICATION_ID};
        PRAGMA user_version = 1;
        """.replace("'[]'", "X'5B5D'")
    )
    connection.close()
    for _ in range(2):
        store = make(path)
        await store.open()
        assert (store.epoch, store.head) == ("0123456789ab", 1)
        assert ids(await read(store, 0, 10)) == ["a"]
        assert await store.endpoints() == {"gone": b'{"disabled":"it answered 410"}'}
        assert await store.positions() == {"gone": 1, "well": 1}
        assert [(row.sequence, row.state) for row in await store.deliveries("gone")] == [(1, "dead")]
        assert await store.deliveries("well") == []
        await store.close()
    await store_opens(tmp_path / "new.db")
    assert tables(path) == tables(tmp_path / "new.db")


def tables(path: Path) -> set[tuple[str, str]]:
    """Every table and index, and how it was made."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return {*found, ("user_version", str(version))}


async def test_a_new_log_is_for_its_user_alone(tmp_path: Path) -> None:
    """It holds secrets of endpoints."""
    await store_opens(tmp_path / "log.db")
    assert (tmp_path / "log.db").stat().st_mode & 0o777 == 0o600
