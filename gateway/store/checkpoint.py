"""Moves what the WAL holds into the file itself, off the path of commits, and keeps the WAL bounded.

Owns a thread and a connection. Must not know what is stored.

SQLite: "Write-Ahead Logging", sections 2.2 and 6. A PASSIVE checkpoint waits for nobody and lets nobody wait, but under
steady writes it never gets to the end, without which the WAL is not begun anew and grows. So beyond a cap a RESTART
follows while the writer waits, for the short rest that is left; and when nothing was written for a while, a TRUNCATE.
The writer is asked to wait because a busy one never leaves its lock free for long enough.
"""

from __future__ import annotations

import sqlite3
import threading

import structlog

from gateway.store.database import WAL_CAP, Database, cause

log = structlog.get_logger(__name__)

#: seconds between checkpoints, while something is written
_INTERVAL = 1.0
#: Bytes of rows after which one is due at once. In the WAL they are several times as many, for it holds whole pages, and
#: every event touches another one of the index of ids.
_SOON = 8 * 1024 * 1024
#: seconds for which the writer waits at most
_LONGEST = 10.0


class Checkpointer:
    """A thread that checkpoints what the writer says it wrote."""

    def __init__(self, database: Database, interval: float = _INTERVAL) -> None:
        self._database = database
        self._interval = interval
        self._wake = threading.Event()
        self._clear = threading.Event()  # the writer may begin a transaction
        self._clear.set()
        self._stopping = False
        self._unmoved = 0  # bytes written since the last checkpoint; a lost update only makes it later
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="store-checkpoint", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def wrote(self, size: int) -> None:
        """Takes note of a commit of about so many bytes. Called by the writer's thread; never blocks."""
        self._unmoved += max(size, 1)
        if self._unmoved >= _SOON:
            self._wake.set()

    def let_by(self) -> None:
        """Blocks the writer's thread before a transaction while the WAL is begun anew, for a bounded time."""
        self._clear.wait(_LONGEST)

    def stop(self) -> None:
        """Ends the thread. Blocks. The engine makes a last checkpoint when the last connection is closed."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        behind = False  # the WAL holds something
        try:
            while True:
                self._wake.wait(self._interval)
                self._wake.clear()
                if self._stopping:
                    return
                busy, self._unmoved = self._unmoved > 0, 0
                if not busy and not behind:
                    continue
                try:
                    if connection is None:
                        connection = self._database.connect("checkpoint")
                    behind = self._checkpoint(connection, idle=not busy)
                except sqlite3.Error as error:
                    behind = True
                    self._note(error)
                else:
                    self._note(None)
        finally:
            if connection is not None:
                connection.close()

    def _checkpoint(self, connection: sqlite3.Connection, *, idle: bool) -> bool:
        """Returns whether the WAL still holds something."""
        if idle:
            return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        page = connection.execute("PRAGMA page_size").fetchone()[0]
        if frames * page > WAL_CAP:
            # most was moved just now; what is left was written meanwhile
            self._clear.clear()
            try:
                connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            finally:
                self._clear.set()
        return True

    def _note(self, error: sqlite3.Error | None) -> None:
        if error is not None and not self._failed:
            log.warning("store_checkpoint_down", file=str(self._database.path), reason=cause(error) or str(error))
        elif error is None and self._failed:
            log.info("store_checkpoint_up", file=str(self._database.path))
        self._failed = error is not None
