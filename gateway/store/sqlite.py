"""The log in one SQLite file, for one process.

Owns what stands between the event loop and the threads that work with the file: one that writes, one that checkpoints,
two that read. Nothing here blocks the loop. Must not know any SQL.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import structlog

from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.metrics import Metrics
from gateway.store import reader, retention
from gateway.store.api import (
    NO_BOUNDS,
    Batch,
    Bounds,
    Committed,
    Deliveries,
    DeliveryRow,
    LogEvent,
    Page,
    Reach,
    Snapshot,
    TaskRow,
)
from gateway.store.checkpoint import Checkpointer
from gateway.store.database import Database, Durability, State
from gateway.store.transaction import Tip, later, micros
from gateway.store.writer import Job, Writer
from schemas.filter import Filter

log = structlog.get_logger(__name__)

T = TypeVar("T")

_READERS = 2
#: events of one read transaction, beside the bytes that `reader.events` knows: what a later one has to wait for
_PAGE = 1024
#: greatest integer of the engine
_GREATEST = 2**63 - 1
#: what a row counts beside its body or state, bytes
_ROW = 200


class _Waiting(Job):
    """A job of the writer, and who waits for it on the event loop."""

    __slots__ = ("future", "started")

    def __init__(self, work: Any, size: int, future: asyncio.Future[Any], started: float) -> None:
        super().__init__(work, size)
        self.future = future
        self.started = started


class SqliteStore:
    """`gateway.store.api.Store` over one SQLite file in WAL mode.

    A call that is cancelled while it waits may have been stored or not. `read` shows events up to `head`; a snapshot may
    be valid at a position that `head` reaches a moment later.

    Args:
        path: the file; its directory must exist and be on a local disk (SQLite: "How To Corrupt", section 2.1). Beside it
            stand `<file>-wal`, `<file>-shm` and `<file>.lock`.
        durability: `power` survives the loss of power (`synchronous=FULL`), `process` the death of the process (`NORMAL`).
        clock: for the durations in metrics.
        metrics: gets `log_append`.
        max_items: calls handed to the writer at a time; later ones wait their turn.
        max_bytes: bytes handed to the writer at a time.
        retry: first and longest wait between attempts while the engine cannot write, seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability = "power",
        clock: Clock,
        metrics: Metrics | None = None,
        max_items: int = 1024,
        max_bytes: int = 32 * 1024 * 1024,
        retry: tuple[float, float] = (0.05, 2.0),
    ) -> None:
        self._database = Database(path, durability)
        self._clock = clock
        self._metrics = metrics
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._retry = retry
        self._state = State(epoch="", head=0, floor=0, newest={})
        self._head = 0
        self._floor = 0
        self._opened = False
        self._closing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._connections: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._writer: Writer | None = None
        self._checkpointer: Checkpointer | None = None
        #: handed to the writer, and not yet come back
        self._items = 0
        self._bytes = 0
        #: in the order of the calls; bounded by the callers, who all wait
        self._turns: deque[_Waiting] = deque()

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    @property
    def epoch(self) -> str:
        """See `Store.epoch`."""
        return self._state.epoch

    @property
    def head(self) -> int:
        """See `Store.head`."""
        return self._head

    @property
    def floor(self) -> int:
        """See `Store.floor`."""
        return self._floor

    @property
    def trouble(self) -> str | None:
        """See `Store.trouble`."""
        return self._writer.trouble if self._writer else None

    # --- life --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """See `Store.open`.

        Raises:
            StoreLocked: another process has the file.
            StoreError: it cannot be used, and why.
        """
        if self._opened:
            raise StoreError(f"{self.path} is open, or was")
        self._opened = True
        self._loop = asyncio.get_running_loop()
        pool = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")
        try:
            # shielded: cancelling cannot stop the thread, so what it takes must be known to be let go
            opening = self._loop.run_in_executor(pool, self._start)
            try:
                await asyncio.shield(opening)
            except asyncio.CancelledError:
                await asyncio.wait([opening])
                if opening.exception() is None:
                    await self._loop.run_in_executor(pool, self._stop)
                raise
        except BaseException:
            self._opened = False
            pool.shutdown(wait=False)
            raise
        self._pool = pool
        self._head, self._floor = self._state.head, self._state.floor

    def _start(self) -> None:
        """Opens the file and starts the threads. Blocks."""
        self._state = self._database.open()
        try:
            for _ in range(_READERS):
                self._connections.put(self._database.connect("reader"))
        except sqlite3.Error as error:
            self._disconnect()
            self._database.release()
            raise self._database.failure(error, "open") from error
        self._checkpointer = Checkpointer(self._database)
        tip = Tip(self._state.head, dict(self._state.newest))
        self._writer = Writer(
            self._database, tip, self._hand_back, self._checkpointer.let_by, self._checkpointer.wrote, self._retry
        )
        self._checkpointer.start()
        self._writer.start()

    def _stop(self) -> None:
        """Ends the threads and lets go of the file. Blocks."""
        # Whoever closes last moves the WAL into the file, so that it is all there is; a reader may not.
        self._disconnect()
        if self._writer and self._checkpointer:
            self._writer.stop()
            self._checkpointer.stop()
        self._database.release()

    def _disconnect(self) -> None:
        while not self._connections.empty():
            self._connections.get().close()

    async def close(self) -> None:
        """See `Store.close`: what was called before is finished, or fails where the engine cannot write."""
        if self._pool is None:
            return
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(self._pool), name="store-close")
        await asyncio.shield(self._closing)

    async def _close(self, pool: ThreadPoolExecutor) -> None:
        writer, loop = self._writer, asyncio.get_running_loop()
        assert writer is not None
        while self._turns:
            self._hand_over(self._turns.popleft())
        # reads that have begun end first, for the pool takes their turn before; this one closes the connections
        await loop.run_in_executor(None, pool.shutdown)
        await loop.run_in_executor(None, self._stop)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def append(self, batch: Batch) -> Committed:
        """See `Store.append`. The drafts and rows must not be changed until it returns, and are not changed by it."""
        size = _ROW * (1 + len(batch.drafts) + len(batch.tasks) + len(batch.cursors))
        size += sum([len(draft.body) for draft in batch.drafts]) + sum([len(row.state) for row in batch.tasks])
        committed: Committed = await self._write(batch, size)
        return committed

    async def deliver(self, results: Deliveries) -> None:
        """See `Store.deliver`."""
        size = sum(_ROW + len(row.attempts) for row in results.rows) + _ROW * len(results.positions)
        size += sum(_ROW + len(record) for record in results.records.values())
        await self._write(results, size)

    async def forget_endpoint(self, endpoint: str) -> None:
        """See `Store.forget_endpoint`."""
        await self._steps(retention.Forget(endpoint))

    async def trim(self, before: float, bounds: Bounds = NO_BOUNDS) -> int:
        """See `Store.trim`; `gateway.store.retention` says what stays."""
        rows = size = 0
        if bounds.delivery_rows is not None or bounds.delivery_bytes is not None:
            count, total = await self._read(reader.settled)
            rows = 0 if bounds.delivery_rows is None else count - bounds.delivery_rows
            size = 0 if bounds.delivery_bytes is None else total - bounds.delivery_bytes
        return await self._steps(retention.Trim(micros(before), bounds, rows=rows, size=size))

    async def _steps(self, step: retention.Step | None) -> int:
        """Takes a step of retention and all that follow from it. Returns how many events and tasks were removed."""
        removed = 0
        while step is not None:
            # appends made meanwhile come between the steps
            trimmed: retention.Trimmed = await self._write(step, _ROW * retention.CHUNK)
            removed += trimmed.removed
            step = trimmed.next
        return removed

    def _write(self, work: Any, size: int) -> asyncio.Future[Any]:
        """Puts work in line, in the order of the calls. The future has what came of it."""
        if self._pool is None or self._loop is None or self._closing is not None:
            raise StoreError(f"{self.path} is not open")
        job = _Waiting(work, size, self._loop.create_future(), self._clock.monotonic())
        if self._turns or not self._fits(job):
            self._turns.append(job)
        else:
            self._hand_over(job)
        return job.future

    def _fits(self, job: Job) -> bool:
        if self._items == 0:
            return True  # whatever its size: it would wait for ever
        return self._items < self._max_items and self._bytes + job.size <= self._max_bytes

    def _hand_over(self, job: _Waiting) -> None:
        assert self._writer is not None
        self._items += 1
        self._bytes += job.size
        self._writer.put(job)

    def _hand_back(self, jobs: list[_Waiting]) -> None:
        """Called by the writer's thread: one wake-up of the loop per commit."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._settle, jobs)
        except RuntimeError:
            # the loop was closed before the store: what was handed over is stored, but nobody is there to be told
            log.warning("store_left_open", file=str(self.path), jobs=len(jobs))

    def _settle(self, jobs: list[_Waiting]) -> None:
        now = self._clock.monotonic()
        for job in jobs:
            self._items -= 1
            self._bytes -= job.size
            self._head = job.head
            if isinstance(job.result, retention.Trimmed):
                self._floor = max(self._floor, job.result.floor)
            elif self._metrics is not None and isinstance(job.work, Batch) and job.error is None:
                self._metrics.log_append.observe(now - job.started)
            if job.future.done():
                continue  # the caller was cancelled
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)
        while self._turns and self._fits(self._turns[0]):
            self._hand_over(self._turns.popleft())

    # --- reading -----------------------------------------------------------------------------------------------------

    async def _read(self, page: Callable[..., T], *args: Any, **options: Any) -> T:
        """Runs one short read transaction in a reader's thread."""
        if self._pool is None or self._loop is None or self._closing is not None:
            raise StoreError(f"{self.path} is not open")

        def run() -> T:
            connection = self._connections.get()
            try:
                return page(connection, *args, **options)
            except sqlite3.Error as error:
                raise self._database.failure(error, "read") from error
            finally:
                self._connections.put(connection)

        return await self._loop.run_in_executor(self._pool, run)

    async def read(self, after: int, limit: int, where: Sequence[Filter] = (), upto: int | None = None) -> Page:
        """See `Store.read`: less than `reader.BYTES` and one more page of it, which may be a single event of any size."""
        found: list[LogEvent] = []
        after = max(after, 0)
        end = self._head if upto is None else min(upto, self._head)
        condition = reader.condition(where)
        while after < end and len(found) < limit and sum([len(event.body) for event in found]) < reader.BYTES:
            events, after = await self._read(reader.events, after, end, min(_PAGE, limit - len(found)), condition)
            found += events
        return Page(found, after)

    async def position_at(self, moment: float) -> int:
        """See `Store.position_at`."""
        return await self._read(reader.position_at, min(micros(moment), _GREATEST))

    async def types(self, sequences: Sequence[int]) -> dict[int, str]:
        """See `Store.types`."""
        return await self._read(reader.types, sequences)

    async def tasks(self, source: str, ids: Sequence[str]) -> list[TaskRow]:
        """See `Store.tasks`; ordered by task key."""
        keys = sorted(reader.storable({f"{source}/{one}" for one in ids}))
        rows: list[TaskRow] = []
        for start in range(0, len(keys), 500):
            rows += await self._read(reader.tasks, keys[start : start + 500])
        return rows

    async def snapshot(
        self, where: Sequence[Filter], *, unfinished: bool, limit: int, after: str | None = None
    ) -> Snapshot:
        """See `Store.snapshot`. A page may hold fewer than `limit` states and yet have a next one."""
        condition = reader.condition(where, keys="key", types=False)
        return await self._read(reader.snapshot, condition, after, limit, unfinished=unfinished)

    async def reach(self, source: str, stream: str | None) -> Reach:
        """See `Store.reach`. `newest` counts tasks that retention has removed, too."""
        prefix = f"{source}/"
        unfinished: list[str] = []
        oldest: str | None = None
        after = prefix
        while True:
            page = await self._read(reader.unfinished, source, stream, after)
            for key, created_at in page:
                unfinished.append(key[len(prefix) :])
                if created_at is not None and (oldest is None or later(oldest, created_at)):
                    oldest = created_at
            if len(page) < reader.SCAN:
                break
            after = page[-1][0]
        return Reach(unfinished, oldest, await self._read(reader.newest, source))

    async def cursors(self, source: str) -> dict[str, bytes]:
        """See `Store.cursors`."""
        return await self._read(reader.cursors, source)

    async def positions(self) -> dict[str, int]:
        """See `Store.positions`."""
        return await self._read(reader.positions)

    async def endpoints(self) -> dict[str, bytes]:
        """See `Store.endpoints`."""
        return await self._read(reader.endpoints)

    async def deliveries(
        self,
        endpoint: str,
        state: str | None = None,
        *,
        after: int = 0,
        upto: int | None = None,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[DeliveryRow]:
        """See `Store.deliveries`."""
        last = _GREATEST if upto is None else min(upto, _GREATEST)
        return await self._read(reader.deliveries, endpoint, state, min(after, _GREATEST), last, limit, newest=newest)

    async def count_deliveries(self, endpoint: str, state: str) -> int:
        """See `Store.count_deliveries`."""
        return await self._read(reader.count_deliveries, endpoint, state)

    async def last_settled(self) -> float:
        """See `Store.last_settled`."""
        return await self._read(reader.last_settled)

    async def delivery(self, endpoint: str, sequence: int) -> DeliveryRow | None:
        """See `Store.delivery`."""
        return await self._read(reader.delivery, endpoint, min(sequence, _GREATEST))
