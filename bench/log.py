"""Durable events per second: the log beside a bare `executemany` and commit, measured in the same run.

Each round measures every variant once, in turn, on a file of its own; the figures are medians over the rounds. CPU is that
of the whole process, the event loop included.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.report import Row
from gateway.clock import SystemClock
from gateway.store.api import BODY_HEAD, NO_SEQUENCE, Batch, Draft, TaskRow
from gateway.store.sqlite import SqliteStore

BODY_BYTES = 900
TASKS = 2_000
EVENTS_PER_TASK_ROW = 5
#: events per append → events of one measurement, appends in flight at a time
SHAPES = {1: (3_000, 64), 10: (20_000, 32), 100: (40_000, 8), 1_000: (40_000, 4)}
ROUNDS = 5

_HEAD = BODY_HEAD + NO_SEQUENCE.encode() + b'","data":"'
_BODY = _HEAD + b"x" * (BODY_BYTES - len(_HEAD) - 2) + b'"}'


@dataclass(frozen=True, slots=True)
class _Figures:
    """One measurement. Latencies are those of one append (or of one reference commit), in milliseconds."""

    events_per_second: float
    p50: float
    p99: float
    cpu_us_per_event: float


def _batches(total: int, batch: int) -> list[Batch]:
    """Batches of events, whose ids are spread like hashes, with a task row for about every fifth event."""
    batches = []
    for start in range(0, total, batch):
        made = Batch()
        for number in range(start, start + batch):
            task = f"{number // EVENTS_PER_TASK_ROW % TASKS:08d}"
            scattered = f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:06x}"
            made.drafts.append(
                Draft(scattered, "task.progressed", "bench", f"bench/{task}", "flow", "running", time.time(), _BODY)
            )
            if number % EVENTS_PER_TASK_ROW == 0:
                made.tasks.append(
                    TaskRow(
                        "bench", task, "flow", "running", False, "2026-01-01T00:00:00Z", "all", time.time(), _BODY[:300]
                    )
                )
        batches.append(made)
    return batches


async def _store(path: Path, batches: list[Batch], in_flight: int) -> list[float]:
    store = SqliteStore(path, durability="power", clock=SystemClock())
    await store.open()
    waits: list[float] = []
    ahead = iter(batches)

    async def caller() -> None:
        for batch in ahead:
            begun = time.perf_counter()
            await store.append(batch)
            waits.append(time.perf_counter() - begun)

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(in_flight):
                group.create_task(caller(), name=f"caller-{number}")
    finally:
        await store.close()
    return waits


def _reference(path: Path, batches: list[Batch]) -> list[float]:
    """The same events, and nothing else, into a table with the same unique id: one commit per batch, in this thread."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE event (sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL)")
    waits = []
    try:
        for batch in batches:
            begun = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO event (id, body) VALUES (?, ?)", [(draft.id, draft.body) for draft in batch.drafts]
            )
            connection.execute("COMMIT")
            waits.append(time.perf_counter() - begun)
    finally:
        connection.close()
    return waits


def _measure(batch: int, total: int, run: Callable[[Path, list[Batch]], list[float]]) -> _Figures:
    batches = _batches(total, batch)
    gc.collect()
    with tempfile.TemporaryDirectory(prefix="mainstem-bench-") as directory:
        begun, cpu = time.perf_counter(), time.process_time()
        waits = run(Path(directory) / "log.db", batches)
        taken, cpu = time.perf_counter() - begun, time.process_time() - cpu
    waits.sort()
    return _Figures(
        total / taken,
        statistics.median(waits) * 1e3,
        waits[min(len(waits) - 1, len(waits) * 99 // 100)] * 1e3,
        cpu / total * 1e6,
    )


def _through_store(in_flight: int) -> Callable[[Path, list[Batch]], list[float]]:
    return lambda path, batches: asyncio.run(_store(path, batches, in_flight))


def rows() -> list[Row]:
    """Throughput with several appends in flight, as under load, and with one at a time; latency and CPU of the former."""
    found: dict[str, list[_Figures]] = {}
    for _ in range(ROUNDS):
        for batch, (total, in_flight) in SHAPES.items():
            found.setdefault(f"reference {batch}", []).append(_measure(batch, total, _reference))
            found.setdefault(f"alone {batch}", []).append(_measure(batch, total, _through_store(1)))
            found.setdefault(f"store {batch}", []).append(_measure(batch, total, _through_store(in_flight)))
    result = []
    for batch, (_, in_flight) in SHAPES.items():
        reference = [each.events_per_second for each in found[f"reference {batch}"]]
        beside = "executemany + commit"
        busy, alone = found[f"store {batch}"], found[f"alone {batch}"]
        name = f"log, fsynced, batches of {batch}"
        result += [
            Row(
                f"{name}, {in_flight} in flight",
                [each.events_per_second for each in busy],
                "events/s",
                "≥ 20,000",
                beside,
                reference,
            ),
            Row(
                f"{name}, one at a time", [each.events_per_second for each in alone], "events/s", "", beside, reference
            ),
            Row(f"{name}, one at a time, p99", [each.p99 for each in alone], "ms"),
            Row(f"{name}, {in_flight} in flight", [each.cpu_us_per_event for each in busy], "µs CPU/event"),
        ]
    return result
