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
class Row:
    """One line of the table. Latencies are those of one append (or of one reference commit), in milliseconds."""

    variant: str
    batch: int
    in_flight: int
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


def _measure(
    variant: str, batch: int, in_flight: int, total: int, run: Callable[[Path, list[Batch]], list[float]]
) -> Row:
    batches = _batches(total, batch)
    gc.collect()
    with tempfile.TemporaryDirectory(prefix="mainstem-bench-") as directory:
        begun, cpu = time.perf_counter(), time.process_time()
        waits = run(Path(directory) / "log.db", batches)
        taken, cpu = time.perf_counter() - begun, time.process_time() - cpu
    waits.sort()
    return Row(
        variant,
        batch,
        in_flight,
        total / taken,
        statistics.median(waits) * 1e3,
        waits[min(len(waits) - 1, len(waits) * 99 // 100)] * 1e3,
        cpu / total * 1e6,
    )


def _through_store(in_flight: int) -> Callable[[Path, list[Batch]], list[float]]:
    return lambda path, batches: asyncio.run(_store(path, batches, in_flight))


def rows(rounds: int = ROUNDS) -> list[Row]:
    """Measures everything; each row holds the medians over the rounds."""
    measured: dict[tuple[str, int, int], list[Row]] = {}
    for _ in range(rounds):
        for batch, (total, in_flight) in SHAPES.items():
            for row in (
                _measure("reference", batch, 1, total, _reference),
                _measure("store", batch, 1, total, _through_store(1)),
                _measure("store", batch, in_flight, total, _through_store(in_flight)),
            ):
                measured.setdefault((row.variant, row.batch, row.in_flight), []).append(row)
    return [
        Row(
            *key,
            statistics.median(row.events_per_second for row in found),
            statistics.median(row.p50 for row in found),
            statistics.median(row.p99 for row in found),
            statistics.median(row.cpu_us_per_event for row in found),
        )
        for key, found in measured.items()
    ]


def main() -> None:
    """Prints the table."""
    print(
        f"durable log, {BODY_BYTES}-byte events, a task row per {EVENTS_PER_TASK_ROW}, synchronous=FULL, {ROUNDS} rounds"
    )
    print(
        f"{'variant':<10} {'batch':>6} {'in flight':>9} {'events/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'CPU us/ev':>10}"
    )
    for row in rows():
        print(
            f"{row.variant:<10} {row.batch:>6} {row.in_flight:>9} {row.events_per_second:>10,.0f} {row.p50:>8.2f}"
            f" {row.p99:>8.2f} {row.cpu_us_per_event:>10.1f}"
        )


if __name__ == "__main__":
    main()
