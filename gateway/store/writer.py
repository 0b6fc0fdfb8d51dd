"""The one thread that writes: takes what is waiting, commits it as a group, and keeps at it while the engine cannot.

Owns the order of commits, the group commit, the retries and `trouble`. Must not know what the rows mean, nor of asyncio:
finished jobs are handed to a callback, once per commit.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.errors import StoreError
from gateway.store import retention, transaction
from gateway.store.database import Database, cause
from gateway.store.transaction import Change, Tip

log = structlog.get_logger(__name__)

#: most jobs, and bytes, of one commit: what a later job has to wait for
GROUP_JOBS = 256
GROUP_BYTES = 4 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Job:
    """Work for the writer, and what came of it.

    Attributes:
        work: a change that is committed with others, or a step of retention that has a commit of its own.
        size: about how many bytes it writes.
        result: what `transaction.commit` or `retention.run` returned.
        error: why it failed; None where it did not.
        head: end of the log after the commit.
    """

    work: Change | retention.Step
    size: int
    result: Any = None
    error: Exception | None = None
    head: int = 0


class Writer:
    """A thread with a connection of its own.

    Args:
        database: the file, already opened.
        tip: the end of the log.
        done: called by the thread, once per commit, with the jobs that have come to an end, in order.
        before: called by the thread before each transaction; may block for a bounded time.
        wrote: called by the thread after each commit, with about how many bytes it wrote.
        retry: first and longest wait between attempts while the engine cannot write, seconds.
    """

    def __init__(
        self,
        database: Database,
        tip: Tip,
        done: Callable[[list[Any]], None],
        before: Callable[[], None],
        wrote: Callable[[int], None],
        retry: tuple[float, float],
    ) -> None:
        self._database = database
        self._tip = tip
        self._done = done
        self._before = before
        self._wrote = wrote
        self._retry = retry
        #: bounded by the caller: it counts what it has handed over
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._held: Job | None = None
        self._stopping = threading.Event()
        self._connection: sqlite3.Connection | None = None
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    @property
    def trouble(self) -> str | None:
        """Why the file cannot be written at the moment; None while it can."""
        return self._trouble

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def put(self, job: Job) -> None:
        """Hands over a job; jobs are committed in the order they are handed over. Never blocks."""
        self._queue.put(job)

    def stop(self) -> None:
        """Finishes what was handed over, without further retries where the engine cannot, and ends the thread. Blocks."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while group := self._next_group():
                self._settle(group)
        except BaseException:
            # a defect of this class: the thread's exception hook shows it, and readiness must not look fine
            self._trouble = f"cannot write {self._database.path}: the writer has died"
            raise
        finally:
            self._disconnect()

    def _next_group(self) -> list[Job]:
        """What is waiting now, at least one job and at most a group; nothing where the thread is to end."""
        first = self._held or self._queue.get()
        self._held = None
        if first is None:
            return []
        group, size = [first], first.size
        while not isinstance(first.work, retention.Step) and len(group) < GROUP_JOBS and size < GROUP_BYTES:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._queue.put(None)  # nothing comes after it: it ends the thread at the next look
                break
            if isinstance(job.work, retention.Step):
                self._held = job
                break
            group.append(job)
            size += job.size
        return group

    def _settle(self, jobs: list[Job]) -> None:
        """Brings jobs to an end: committed, failed by their own data, or given up when the store is closed."""
        delay, longest = self._retry
        while True:
            if self._stopping.is_set() and self._trouble:
                self._finish(jobs, StoreError(f"closed while it could not be written: {self._trouble}"))
                return
            try:
                self._attempt(jobs)
            except Exception as error:
                self._undo()
                why = cause(error)
                if why is not None:
                    self._down(why)
                    self._stopping.wait(delay)
                    delay = min(delay * 2, longest)
                elif len(jobs) == 1:
                    log.error("store_write_refused", file=str(self._database.path), error=type(error).__name__)
                    self._finish(
                        jobs, self._database.failure(error, "write") if isinstance(error, sqlite3.Error) else error
                    )
                    return
                else:
                    # one of them cannot be stored: alone, each stands or falls by itself
                    for job in jobs:
                        self._settle([job])
                    return
            else:
                self._up()
                self._finish(jobs, None)
                return

    def _attempt(self, jobs: list[Job]) -> None:
        self._before()
        if self._connection is None:
            self._connection = self._database.connect("writer")
        work = jobs[0].work
        if isinstance(work, retention.Step):
            jobs[0].result = retention.run(self._connection, work)
            return
        changes = [job.work for job in jobs if not isinstance(job.work, retention.Step)]
        for job, result in zip(jobs, transaction.commit(self._connection, changes, self._tip), strict=True):
            job.result = result

    def _finish(self, jobs: list[Job], error: Exception | None) -> None:
        for job in jobs:
            job.error = error
            job.head = self._tip.head
        if error is None:
            self._wrote(sum(job.size for job in jobs))
        self._done(jobs)

    def _undo(self) -> None:
        """Back to before the transaction; with a new connection where the old one cannot even do that."""
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                # what was not committed is gone with the connection, which is all that a rollback is for
                self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _down(self, why: str) -> None:
        if self._trouble is None:
            log.error("store_down", file=str(self._database.path), reason=why)
        self._trouble = f"cannot write {self._database.path}: {why}"

    def _up(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            log.info("store_up", file=str(self._database.path))
