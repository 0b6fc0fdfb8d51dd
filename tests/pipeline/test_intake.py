"""The intake over the real log: order, duplicates, back-pressure, restart, and a store that cannot write for a while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.api import Observation, Stream
from gateway.clock import SystemClock
from gateway.errors import Refused
from gateway.metrics import Metrics
from gateway.pipeline import encode, intake
from gateway.pipeline.intake import Intake
from gateway.store.api import Batch, Committed, LogEvent
from gateway.store.sqlite import SqliteStore
from schemas.event import validate
from tests.adapters.kit import catalyst, session, sse, triverse
from tests.adapters.test_catalyst import item
from tests.adapters.test_triverse import TASK, state
from tests.store.samples import read

ALL = Stream(key="all", path="/all", whole_source=True)
RECEIVED = 1_780_272_000.0  # 2026-06-01


class Bench:
    """An intake with its log, and what was published."""

    def __init__(self, store: SqliteStore, **options: Any) -> None:
        self.store = store
        self.metrics = Metrics()
        self.published: list[LogEvent] = []
        adapters = {"studio": "triverse", "ops": "catalyst"}
        self.intake = Intake(
            store, self.published.extend, adapters=adapters, clock=SystemClock(), metrics=self.metrics,
            **{"horizon": 1e9, **options},
        )  # fmt: skip
        self.intake.start()

    async def frame(self, frame: str, source: str = "studio", **options: Any) -> None:
        adapter = triverse() if source == "studio" else catalyst()
        items = [entry for entry in session(adapter).on_frame(frame) if isinstance(entry, Observation)]
        await self.intake.submit(source, ALL, items, received=RECEIVED, **options)

    def types(self) -> list[str]:
        return [event.type for event in self.published]

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"mainstem_{name}", labels) or 0.0


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[Bench]:
    store = SqliteStore(path / "log.db", durability="process", clock=SystemClock())
    await store.open()
    bench = Bench(store, **options)
    try:
        yield bench
    finally:
        await bench.intake.close()
        await store.close()


async def test_events_are_published_once_they_are_committed(tmp_path: Path) -> None:
    """In order, with their positions, as whole canonical events; the cursor is stored with them."""
    async with opened(tmp_path) as bench:
        for word in ("PENDING", "QUEUED", "RUNNING", "RUNNING", "SUCCESS", "RUNNING"):
            await bench.frame(sse(state(word)), cursor={"at": word})
        await bench.intake.notice("studio", "triverse", "source.gap", {"recovered": False})
        await bench.intake.flush()
        assert bench.types() == ["task.created", "task.queued", "task.started", "task.succeeded", "source.gap"]
        for event in bench.published:
            body = json.loads(event.body)
            validate(body)
            assert body["sequence"] == f"{event.sequence:020}"
            assert (body["type"], body["id"]) == (event.type, event.id)
        assert [event.sequence for event in bench.published] == sorted({event.sequence for event in bench.published})
        assert json.loads((await bench.store.cursors("studio"))["all"]) == {"at": "RUNNING"}
        assert await read(bench.store, 0, 10) == bench.published
        assert bench.count("duplicates_total", source="studio") == 1
        assert bench.count("stale_total", source="studio") == 1
        assert bench.count("events_total", source="studio", type="task.queued") == 1
        (row,) = await bench.store.tasks("studio", [TASK])
        assert row.sequence == bench.published[3].sequence
        snapshot = json.loads(encode.snapshot_data(row))
        assert (snapshot["task"]["status"], snapshot["origin"], snapshot["changed"]) == ("succeeded", "snapshot", [])


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    """States come back from the store: what was known is no news, what is new is; facts are remembered and forgotten."""
    async with opened(tmp_path) as bench:
        await bench.frame(sse(state("RUNNING", progress=10)))
        await bench.intake.remember("studio", "~a", {"x": 1})
        await bench.intake.remember("studio", "~b", {"x": 2})
        await bench.intake.remember("studio", "~b", None)
    async with opened(tmp_path) as bench:
        await bench.frame(sse(state("RUNNING", progress=10)))
        await bench.frame(sse(state("RUNNING", progress=20)))
        await bench.intake.flush()
        assert bench.types() == ["task.progressed"]
        assert set(await bench.store.cursors("studio")) == {"~a"}


async def test_repeats_that_only_the_log_remembers(tmp_path: Path) -> None:
    """An occurrence heard again long after: the log has its id, and it is counted, not published."""
    async with opened(tmp_path) as bench:
        frames = [json.dumps([item(second=second)]) for second in range(5)]
        for frame in [*frames, *frames]:
            await bench.frame(frame, "ops")
        await bench.intake.flush()
        assert len(bench.published) == 5
        assert bench.count("duplicates_total", source="ops") == 5


async def test_states_are_forgotten_and_read_back(tmp_path: Path) -> None:
    """Memory is bounded; a task that was let go is read back before it is compared."""
    async with opened(tmp_path, max_states=10) as bench:
        tasks = [json.dumps([item("task_created", task=number)]) for number in range(100)]
        for frame in tasks:
            await bench.frame(frame, "ops")
            await bench.intake.flush()
        assert len(bench.intake._states) <= 11
        await bench.frame(json.dumps([item("task_deleted", task=0)]), "ops")
        await bench.intake.flush()
        assert json.loads(bench.published[-1].body)["data"]["changed"] == ["status"]


async def test_few_states_that_are_large_are_forgotten_as_well(tmp_path: Path) -> None:
    """Upstreams decide how large a result is, so bytes are bounded, not the number alone; nothing is lost by it."""
    result = {"text": "x" * 10_000}
    async with opened(tmp_path, max_state_bytes=100_000) as bench:
        for number in range(50):
            news = {**state("SUCCESS"), "task_uuid": f"task-{number}", "output": result}
            await bench.frame(sse(news))
            await bench.intake.flush()
        assert 3 <= len(bench.intake._states) <= 11
        assert sum(bench.intake._sizes.values()) == bench.intake._states_bytes <= 130_000
        assert bench.intake._sizes.keys() == bench.intake._states.keys()
        await bench.frame(sse({**state("SUCCESS"), "task_uuid": "task-0", "output": result}))
        await bench.intake.flush()
        assert (len(bench.published), bench.count("duplicates_total", source="studio")) == (50, 1)


async def test_old_ends_at_first_sight_are_no_news(tmp_path: Path) -> None:
    """A catch-up may reach further back than the log does."""
    async with opened(tmp_path, horizon=3600) as bench:
        await bench.frame(sse(state("SUCCESS", completed_at="2026-05-31T00:00:00Z")))
        await bench.frame(sse({**state("SUCCESS", completed_at="2026-05-31T23:30:00Z"), "task_uuid": "young"}))
        await bench.intake.flush()
        assert [event.task for event in bench.published] == ["studio/young"]


class Stuck:
    """A store whose appends wait until they are let through."""

    def __init__(self, store: SqliteStore) -> None:
        self._store, self.gate, self.sizes = store, asyncio.Event(), list[int]()
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, batch: Batch) -> Committed:
        self.sizes.append(len(batch.drafts))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return await self._store.append(batch)


async def test_readers_wait_while_the_log_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded: a log that cannot write stops the reading of upstreams, loses nothing, and goes on when it can again."""
    monkeypatch.setattr(intake, "MAX_PENDING_EVENTS", 50)
    async with opened(tmp_path) as outer:
        stuck = Stuck(outer.store)
        bench = Bench(stuck)  # type: ignore[arg-type]  # stands in for the store

        async def read() -> None:
            for second in range(60):
                await bench.frame(json.dumps([item(task=task, second=second) for task in range(10)]), "ops")

        reading = asyncio.create_task(read())
        done, _ = await asyncio.wait({reading}, timeout=0.3)
        assert not done
        assert len(bench.intake._drafts) <= 60
        stuck.gate.set()
        await reading
        await bench.intake.flush()
        assert len(bench.published) == 600
        assert max(stuck.sizes) <= 60
        await bench.intake.close()


async def test_a_bug_in_the_log_is_no_silence(tmp_path: Path) -> None:
    """Nothing is taken in any more, and the gateway says so: `/readyz` is red."""
    async with opened(tmp_path) as outer:
        stuck = Stuck(outer.store)
        stuck.error = TypeError("a bug")
        stuck.gate.set()
        bench = Bench(stuck)  # type: ignore[arg-type]  # stands in for the store
        await bench.frame(sse(state("RUNNING")))
        with pytest.raises(RuntimeError, match="intake died"):
            await bench.intake.flush()
        with pytest.raises(RuntimeError, match="intake died"):
            await bench.frame(sse(state("SUCCESS")))
        assert bench.intake.trouble == "the intake died: TypeError"
        await bench.intake.close()


async def test_events_about_webhooks(tmp_path: Path) -> None:
    """They are in the log once, in the form of the contract, and whoever announces one is told its position after everybody
    was shown it; during a shutdown it is refused."""
    async with opened(tmp_path) as bench:
        event = await bench.intake.announce(
            "n1", "webhook.created", "billing", RECEIVED, {"endpoint": "billing", "by": "ops"}
        )
        assert event is not None
        assert bench.published == [event]
        assert (event.sequence, event.type, event.source, event.task) == (1, "webhook.created", None, None)
        body = json.loads(event.body)
        validate(body)
        assert (body["source"], body["subject"], body["time"]) == (
            "/mainstem",
            "billing",
            "2026-06-01T00:00:00.000000Z",
        )
        assert (
            await bench.intake.announce("n1", "webhook.created", "billing", RECEIVED, {"endpoint": "billing"}) is None
        )
        assert len(bench.published) == 1
        await bench.intake.close()
        with pytest.raises(Refused, match="shutting down"):
            await bench.intake.announce("n2", "webhook.deleted", "billing", RECEIVED, {"endpoint": "billing"})
