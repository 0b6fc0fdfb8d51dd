"""The store beside a model in plain Python: any sequence of appends, reads, snapshots, trims and restarts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.clock import SystemClock
from gateway.store.api import Batch, Deliveries, DeliveryRow, LogEvent, TaskRow
from gateway.store.sqlite import SqliteStore
from schemas.filter import Filter

from .samples import draft, positioned, read, task

sources = st.sampled_from(["studio", "jobs"])
task_ids = st.sampled_from(["1", "2", "a/b", "ü%"])
types = st.sampled_from(["task.created", "task.progressed", "task.failed", "source.gap"])
statuses = st.sampled_from(["running", "succeeded"])
moments = st.integers(0, 50).map(float)
drafts = st.builds(
    lambda id, type, source, one, status, at: draft(
        id, type=type, source=source, task=f"{source}/{one}", status=status, received=at
    ),
    st.integers(0, 60).map(str),
    types,
    sources,
    task_ids,
    statuses,
    moments,
)
rows = st.builds(
    lambda one, source, status, at: task(
        one, source=source, status=status, finished=status == "succeeded", updated=at, state=f"{at}".encode()
    ),
    task_ids,
    sources,
    statuses,
    moments,
)
batches = st.builds(
    Batch,
    st.lists(drafts, max_size=6),
    st.lists(rows, max_size=3),
    st.dictionaries(st.tuples(sources, st.sampled_from("xy")), st.sampled_from([b"", b"1", b"2"]), max_size=2),
)
filters = st.builds(
    Filter,
    source=st.lists(sources, max_size=1).map(tuple),
    task=st.lists(st.sampled_from(["studio/1", "jobs/ü%", "jobs/_"]), max_size=2).map(tuple),
    status=st.lists(statuses, max_size=1).map(tuple),
    type=st.lists(st.sampled_from(["task.*", "task.failed", "*", "source._ap"]), max_size=2).map(tuple),
)


class Log(RuleBasedStateMachine):
    """Does the same to both, and compares what they say."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.store: SqliteStore | None = None
        self.events: dict[int, LogEvent] = {}
        self.tasks: dict[str, TaskRow] = {}
        self.cursors: dict[tuple[str, str], bytes] = {}
        self.deliveries: dict[int, DeliveryRow] = {}
        self.position: int | None = None
        self.head = self.floor = 0

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        if self.store is not None:
            self.run(self.store.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self.folder.cleanup()

    @initialize()
    def begin(self) -> None:
        self.store = SqliteStore(Path(self.folder.name) / "log.db", durability="process", clock=SystemClock())
        self.run(self.store.open())

    @rule()
    def restart(self) -> None:
        assert self.store is not None
        self.run(self.store.close())
        self.begin()

    @rule(batches=st.lists(batches, min_size=1, max_size=4))
    def append(self, batches: list[Batch]) -> None:
        store = self.store
        assert store is not None

        async def together() -> list[Any]:
            return await asyncio.gather(*(store.append(batch) for batch in batches))

        for batch, committed in zip(batches, self.run(together()), strict=True):
            events, duplicates, last = [], [], {}
            for one in batch.drafts:
                if any(one.id == event.id for event in self.events.values()):
                    duplicates.append(one)
                    continue
                self.head += 1
                fields = {name: getattr(one, name) for name in one.__struct_fields__ if name != "body"}
                event = LogEvent(sequence=self.head, body=positioned(one, self.head), **fields)
                self.events[self.head] = event
                events.append(event)
                last[one.task] = self.head
            assert (committed.events, committed.duplicates) == (events, duplicates)
            for row in batch.tasks:
                known = self.tasks.get(row.task)
                sequence = last.get(row.task, known.sequence if known else 0)
                self.tasks[row.task] = msgspec.structs.replace(row, sequence=sequence)
            self.cursors.update(batch.cursors)

    @rule(data=st.data(), state=st.sampled_from(["pending", "delivered", "dead"]), updated=moments)
    def deliver(self, data: st.DataObject, state: str, updated: float) -> None:
        assert self.store is not None
        if not self.events:
            return
        sequence = data.draw(st.sampled_from(sorted(self.events)))
        row = DeliveryRow("hook", sequence, self.events[sequence].id, None, state, 1, None, b"[]", updated)
        self.deliveries[sequence] = row
        self.position = max(self.position or 0, sequence)
        self.run(self.store.deliver(Deliveries([row], {"hook": self.position})))

    @rule()
    def forget(self) -> None:
        assert self.store is not None
        self.deliveries, self.position = {}, None
        self.run(self.store.forget_endpoint("hook"))

    @rule(before=moments)
    def trim(self, before: float) -> None:
        assert self.store is not None
        self.deliveries = {
            key: row for key, row in self.deliveries.items() if row.state == "pending" or row.updated >= before
        }
        needed = {key for key, row in self.deliveries.items() if row.state != "delivered"}
        reached = self.head if self.position is None else self.position
        gone = [
            key
            for key, event in self.events.items()
            if event.received < before and key not in needed and key <= reached
        ]
        finished = [key for key, row in self.tasks.items() if row.finished and row.updated < before]
        assert self.run(self.store.trim(before)) == len(gone) + len(finished)
        self.floor = max([self.floor, *gone])
        self.events = {key: event for key, event in self.events.items() if key not in gone}
        self.tasks = {key: row for key, row in self.tasks.items() if key not in finished}

    @rule(
        where=st.lists(filters, max_size=2),
        after=st.integers(0, 60),
        limit=st.integers(0, 30),
        upto=st.none() | st.integers(0, 80),
    )
    def read(self, where: list[Filter], after: int, limit: int, upto: int | None) -> None:
        assert self.store is not None
        tests = [one.compile() for one in where]
        wanted = [
            event
            for key, event in sorted(self.events.items())
            if key > after and (upto is None or key <= upto) and all(test(event) for test in tests)
        ]
        assert self.run(read(self.store, after, limit, where, upto)) == wanted[:limit]

    @rule(where=st.lists(filters, max_size=2), unfinished=st.booleans(), limit=st.integers(1, 3))
    def snapshot(self, where: list[Filter], unfinished: bool, limit: int) -> None:
        assert self.store is not None
        tests = [one.without_type().compile() for one in where]
        wanted = [
            row
            for _, row in sorted(self.tasks.items())
            if not (unfinished and row.finished) and all(test(row) for test in tests)
        ]
        seen: list[TaskRow] = []
        after = None
        while True:
            page = self.run(self.store.snapshot(where, unfinished=unfinished, limit=limit, after=after))
            assert page.sequence == self.head
            seen += page.tasks
            after = page.next
            if after is None:
                break
        assert seen == wanted

    @rule(moment=moments)
    def position_at(self, moment: float) -> None:
        assert self.store is not None
        wanted = max((key for key, event in self.events.items() if event.received < moment), default=0)
        assert self.run(self.store.position_at(moment)) == wanted

    @invariant()
    def agree(self) -> None:
        if self.store is None:
            return
        assert (self.store.head, self.store.floor) == (self.head, self.floor)
        for source in ("studio", "jobs"):
            wanted = {stream: value for (name, stream), value in self.cursors.items() if name == source and value}
            assert self.run(self.store.cursors(source)) == wanted
        assert self.run(self.store.deliveries("hook")) == [row for _, row in sorted(self.deliveries.items())]


TestLog = Log.TestCase
TestLog.settings = settings(max_examples=25, stateful_step_count=25)
