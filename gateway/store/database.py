"""One SQLite file: who may have it, what it must look like, and connections to it.

Owns the lock against a second process, the checks that the file is ours and sound, the schema, and the words for what
the engine says. Knows nothing of what is stored.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import structlog

from gateway.errors import StoreError, StoreFull, StoreLocked

log = structlog.get_logger(__name__)

Durability = Literal["power", "process"]

#: `PRAGMA application_id` of our files: "MSTM".
APPLICATION_ID = 0x4D53544D
#: `PRAGMA user_version`: number of the schema in `sql/schema.sql`; `sql/upgrade-<n>.sql` makes schema n of the one before.
SCHEMA = 2
#: STRICT tables, SQLite release notes 3.37.0
OLDEST_ENGINE = (3, 37, 0)

_MAGIC = b"SQLite format 3\x00"  # SQLite file format, section 1.3.1
#: Beyond this the WAL is begun anew, and its file cut back, bytes.
WAL_CAP = 64 * 1024 * 1024
#: How long a statement waits for a lock, seconds.
_BUSY = {"writer": 1.0, "reader": 5.0, "checkpoint": 0.25}

#: Position of the last event that was ever committed: those removed lie at or below the floor.
HEAD = "max(coalesce((SELECT max(sequence) FROM event), 0), (SELECT value FROM meta WHERE key = 'floor'))"

#: Primary result codes (SQLite: "Result and Error Codes") that say that the engine cannot work now, in words. They say
#: nothing about the data of the statement, so that the same statement may work later.
_CAUSES = {
    sqlite3.SQLITE_FULL: "the disk is full, or the file has reached its size limit",
    sqlite3.SQLITE_IOERR: "disk I/O error",
    sqlite3.SQLITE_BUSY: "another program holds a lock on it",
    sqlite3.SQLITE_LOCKED: "another connection holds a lock on it",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PERM: "permission denied",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_PROTOCOL: "its lock cannot be had",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is damaged or is no database",
    sqlite3.SQLITE_INTERRUPT: "interrupted",
}


def cause(error: BaseException) -> str | None:
    """Why the engine cannot work, in words; None where the error is about the statement or its data."""
    if isinstance(error, MemoryError):
        return _CAUSES[sqlite3.SQLITE_NOMEM]
    if isinstance(error, StoreError):
        return str(error)
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(error, sqlite3.Error) or code is None:
        return None
    words = _CAUSES.get(code & 0xFF)
    return None if words is None else f"{words} ({getattr(error, 'sqlite_errorname', code)})"


def _script(name: str) -> str:
    return resources.files("gateway.store").joinpath("sql", name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class State:
    """What a log says about itself when it is opened."""

    epoch: str
    head: int
    floor: int
    newest: dict[str, str]


class Database:
    """A file and its lock. Used by one thread at a time, but its connections may each live in a thread of their own."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self.path = path.absolute()
        self._durability = durability
        self._lock: int | None = None

    def failure(self, error: BaseException, doing: str = "use") -> StoreError:
        """A `StoreError` that names the file and the cause."""
        kind = StoreFull if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL else StoreError
        return kind(f"cannot {doing} {self.path}: {cause(error) or error}")

    def open(self) -> State:
        """Takes the lock, makes the file if there is none, and checks that it is ours.

        Raises:
            StoreLocked: another process has it.
            StoreError: it cannot be used, and why.
        """
        if sqlite3.sqlite_version_info < OLDEST_ENGINE:
            needed = ".".join(map(str, OLDEST_ENGINE))
            raise StoreError(f"SQLite {needed} or newer is needed, this Python has {sqlite3.sqlite_version}")
        if not self.path.parent.is_dir():
            raise StoreError(f"cannot open {self.path}: the directory {self.path.parent} does not exist")
        self._take_lock()
        try:
            self._check_magic()
            # it holds secrets of endpoints; SQLite gives the files beside it the same mode
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = self.connect("writer")
            try:
                return self._prepare(connection)
            finally:
                connection.close()
        except OSError as error:
            self.release()
            raise StoreError(f"cannot open {self.path}: {error.strerror or error}") from error
        except sqlite3.Error as error:
            self.release()
            raise self.failure(error, "open") from error
        except StoreError:
            self.release()
            raise

    def connect(self, role: Literal["writer", "reader", "checkpoint"]) -> sqlite3.Connection:
        """A connection in autocommit mode: transactions are begun and ended by hand.

        Raises:
            sqlite3.Error: the engine cannot.
        """
        mode = "ro" if role == "reader" else "rwc"
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY[role],
            isolation_level=None,
            check_same_thread=False,  # opened and closed by other threads than the one that works with it
        )
        try:
            if role == "writer":
                # both must stand before the first page is written (SQLite: "PRAGMA auto_vacuum")
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA synchronous = {'FULL' if self._durability == 'power' else 'NORMAL'}")
                connection.execute(f"PRAGMA journal_size_limit = {WAL_CAP}")
                connection.execute(
                    "PRAGMA secure_delete = FAST"
                )  # wipes what is deleted where that costs no extra write
                connection.execute("PRAGMA cache_size = -32768")  # KiB; ids are random, their index is hit all over
            if role != "reader":
                connection.execute("PRAGMA wal_autocheckpoint = 0")  # a checkpoint within a commit would make it slow
        except BaseException:
            connection.close()
            raise
        return connection

    def release(self) -> None:
        """Lets go of the lock. Idempotent."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        name = f"{self.path}.lock"
        try:
            # the file stays behind on purpose: to remove it would let two processes lock two files of one name
            lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"cannot open {self.path}: {error.strerror or error} ({name})") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            if not isinstance(error, BlockingIOError):
                raise StoreError(f"cannot lock {name}: {error.strerror or error}") from error
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise StoreLocked(f"{self.path} is in use by {who}") from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def _check_magic(self) -> None:
        try:
            with self.path.open("rb") as file:
                start = file.read(len(_MAGIC))
        except FileNotFoundError:
            # It will hold the secrets of endpoints, so it is its user's alone; what the engine puts beside it gets the same
            # rights. Where it cannot be made, the engine says why.
            with contextlib.suppress(OSError):
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            return
        except OSError as error:
            raise StoreError(f"cannot open {self.path}: {error.strerror or error}") from error
        if start and start != _MAGIC:
            raise StoreError(f"cannot open {self.path}: it is not a SQLite database")

    def _prepare(self, connection: sqlite3.Connection) -> State:
        application, version, tables = connection.execute(
            "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),"
            " (SELECT count(*) FROM sqlite_schema)"
        ).fetchone()
        if application != APPLICATION_ID:
            if application or version or tables:
                raise StoreError(f"cannot open {self.path}: it is the database of another program")
            self._create(connection)
        elif version > SCHEMA:
            raise StoreError(
                f"cannot open {self.path}: it was written by a newer version (schema {version}, known is {SCHEMA})"
            )
        elif version < 1:
            raise StoreError(f"cannot open {self.path}: its schema {version} is none that was ever released")
        for newer in range(version + 1 if application == APPLICATION_ID else SCHEMA + 1, SCHEMA + 1):
            self._upgrade(connection, newer)
        epoch, floor, head = connection.execute(
            f"SELECT (SELECT value FROM meta WHERE key = 'epoch'), (SELECT value FROM meta WHERE key = 'floor'), {HEAD}"
        ).fetchone()
        if not isinstance(epoch, str) or not isinstance(floor, int):
            raise StoreError(f"cannot open {self.path}: its table meta is damaged")
        newest = dict(connection.execute("SELECT name, newest FROM source").fetchall())
        return State(epoch=epoch, head=head, floor=floor, newest=newest)

    def _upgrade(self, connection: sqlite3.Connection, version: int) -> None:
        # one transaction: whatever happens, the file has the schema that its number says
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{_script(f'upgrade-{version}.sql')}\nPRAGMA user_version = {version};\nCOMMIT;"
        )
        log.info("store_upgraded", file=str(self.path), schema=version)

    def _create(self, connection: sqlite3.Connection) -> None:
        schema = _script("schema.sql")
        epoch = secrets.token_hex(6)
        # one transaction: a file that holds half a schema cannot come to be
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{schema}\n"
            f"INSERT INTO meta VALUES ('epoch', '{epoch}'), ('floor', 0);\n"
            f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {SCHEMA};\nCOMMIT;"
        )
