"""Random interleavings of appends, connects, cuts, stalls, retention and resumes: no gap, no duplicate, every end arrives."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access import Grant
from gateway.clock import SystemClock
from gateway.metrics import Metrics
from gateway.stream import connection as connections
from gateway.stream import framing, hub, resume
from gateway.stream.settings import StreamSettings
from schemas.filter import Filter
from tests.stream.fakes import FakeStore, event, snapshot_data

BUFFER = 40_000
TASKS = ("studio/1", "studio/2", "jobs/1")
KINDS = ("task.progressed", "task.progressed", "task.checkpointed", "task.succeeded", "task.started")


class Wire:
    """An outlet whose peer takes messages when told to; what it has not taken is lost when the wire is cut."""

    def __init__(self) -> None:
        self.untaken: deque[bytes] = deque()
        self.size = 0
        self.cut = False

    def write(self, data: bytes, /) -> None:
        for _, payload in framing.payloads(data):
            self.untaken.append(payload)
            self.size += len(payload)

    def get_write_buffer_size(self) -> int:
        return self.size

    def is_closing(self) -> bool:
        return self.cut

    def abort(self) -> None:
        self.cut = True

    def take(self) -> dict[str, Any]:
        payload = self.untaken.popleft()
        self.size -= len(payload)
        return dict(json.loads(payload))


class Consumer:
    """A client by the book: it resumes after the greatest position of events of the log and `stream.synced`."""

    def __init__(self, around: connections.Surroundings, wanted: Filter, *, snapshot: bool) -> None:
        self.around = around
        self.wanted = wanted
        self.snapshot = snapshot
        self.position: int | None = None
        self.base: int | None = None
        self.states: dict[str, int] = {}
        self.got: list[int] = []
        self.last: dict[str, str] = {}
        self.synced = False
        self.stalled = False
        self.wire = Wire()
        self.connection: connections.Connection | None = None

    def connect(self) -> None:
        self.wire = Wire()
        self.synced = False
        made = connections.Connection(self.around, framing.WEBSOCKET, self.wire, "", lambda connection: None)
        made.entitle(Grant(holder="x", scopes=frozenset({"events:read"})))
        made.tell_opened()
        after = None if self.position is None else resume.Position(self.position)
        made.subscribe("default", self.wanted, after, snapshot=self.snapshot)
        self.connection = made

    def lose(self) -> None:
        self.wire.abort()
        if self.connection is not None:
            self.connection.on_lost()
            self.connection = None

    def read(self, count: int) -> None:
        while self.wire.untaken and count:
            self._take(self.wire.take())
            count -= 1
        if self.connection is not None and self.connection.ended and not self.wire.untaken:
            self.connection = None

    def _take(self, message: dict[str, Any]) -> None:
        kind, data = message["type"], message["data"]
        if kind == "stream.subscribed":
            if data["resume"] != "replayed":
                self.base = int(data["sequence"])
                self.states = {}
                self.got = [item for item in self.got if item > self.base]
        elif kind == "task.snapshot":
            assert not self.synced
            self.states[message["partitionkey"]] = int(message["sequence"])
            self.last[message["partitionkey"]] = data["task"]["status"]
        elif kind == "stream.synced":
            self.synced = True
            self._advance(int(message["sequence"]))
        elif not kind.startswith("stream."):
            at = int(message["sequence"])
            assert not self.got or at > self.got[-1], "out of order, or twice"
            assert at > self.states.get(message["partitionkey"], 0), "the snapshot had it"
            self.got.append(at)
            self.last[message["partitionkey"]] = data["task"]["status"]
            self._advance(at)

    def _advance(self, at: int) -> None:
        self.position = at if self.position is None else max(self.position, at)


class World:
    """A log, a hub, and consumers."""

    def __init__(self, *, ring_bytes: int) -> None:
        self.store = FakeStore()
        self.hub = hub.Hub(self.store, SystemClock(), Metrics(), ring_bytes=ring_bytes)  # type: ignore[arg-type]
        self.hub.start()
        self.history: list[Any] = []
        self.unpublished: list[Any] = []
        self.around = connections.Surroundings(
            self.hub, self.store, SystemClock(), random.Random(1), snapshot_data, StreamSettings(buffer=BUFFER)  # type: ignore[arg-type]
        )  # fmt: skip
        self.store.page = 1
        self.consumers = [
            Consumer(self.around, Filter(), snapshot=False),
            Consumer(self.around, Filter(), snapshot=True),
            Consumer(self.around, Filter(task=TASKS[:2]), snapshot=True),
        ]

    def append(self, kind: str, task: str) -> None:
        made = self.store.append(kind, task, pad=600)
        self.history.append(made)
        self.unpublished.append(made)

    def publish(self) -> None:
        self.hub.publish(self.unpublished)
        self.unpublished = []

    async def finish(self) -> None:
        """Ends every task, and gives everybody time to get there."""
        for task in TASKS:
            self.append("task.deleted", task)
        self.publish()
        async with asyncio.timeout(10):
            while not all(self.is_done(consumer) for consumer in self.consumers):
                for consumer in self.consumers:
                    if consumer.connection is None:
                        consumer.connect()
                    consumer.read(10**6)
                await asyncio.sleep(0)

    def is_done(self, consumer: Consumer) -> bool:
        wanted = consumer.wanted.compile()
        final = max(item.sequence for item in self.history if wanted(item))
        return consumer.synced and consumer.position is not None and consumer.position >= final

    def judge(self, consumer: Consumer) -> None:
        """Everything owed has come, but for progress that something later of the same task stands for."""
        assert consumer.base is not None
        wanted = consumer.wanted.compile()
        owed = {
            item.sequence: item
            for item in self.history
            if item.sequence > consumer.base and wanted(item) and item.sequence > consumer.states.get(item.task, 0)
        }
        assert set(consumer.got) <= {item.sequence for item in self.history if wanted(item)}
        missing = set(owed) - set(consumer.got)
        for sequence in missing:
            item = owed[sequence]
            assert item.type == "task.progressed", f"{item.type} at {sequence} was lost"
            assert any(later > sequence and owed[later].task == item.task for later in consumer.got if later in owed)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from(KINDS), st.sampled_from(TASKS), st.integers(1, 12)),
        st.tuples(st.just("publish")),
        st.tuples(st.just("connect"), st.integers(0, 2)),
        st.tuples(st.just("cut"), st.integers(0, 2)),
        st.tuples(st.just("read"), st.integers(0, 2), st.integers(1, 40)),
        st.tuples(st.just("turn"), st.integers(1, 6)),
        st.tuples(st.just("trim"), st.integers(1, 30)),
        # shapes that a walk of single steps finds too seldom: away for a few events, and events in the middle of a return
        st.tuples(
            st.just("miss"), st.integers(0, 2), st.sampled_from(KINDS), st.sampled_from(TASKS), st.integers(1, 4)
        ),
        st.tuples(
            st.just("amid"), st.integers(0, 2), st.integers(1, 8), st.sampled_from(KINDS), st.sampled_from(TASKS)
        ),
    ),
    min_size=5,
    max_size=50,
)


@given(actions, st.sampled_from([1, 20_000, 1 << 24]))
@settings(max_examples=300, deadline=None)
def test_interleavings(steps: list[tuple[Any, ...]], ring_bytes: int) -> None:
    """See the module."""
    asyncio.run(play(steps, ring_bytes))


async def play(steps: list[tuple[Any, ...]], ring_bytes: int) -> None:
    world = World(ring_bytes=ring_bytes)
    for action, *rest in steps:
        match action:
            case "append":
                for _ in range(rest[2]):
                    world.append(rest[0], rest[1])
            case "publish":
                world.publish()
            case "connect":
                if world.consumers[rest[0]].connection is None:
                    world.consumers[rest[0]].connect()
            case "cut":
                world.consumers[rest[0]].lose()
            case "read":
                world.consumers[rest[0]].read(rest[1])
            case "turn":
                for _ in range(rest[0]):
                    await asyncio.sleep(0)
                if rest[0] >= 3:  # a burst may stand for a turn, to see whether the peer takes it
                    for consumer in world.consumers:
                        open = consumer.connection is not None and not consumer.connection.ended
                        assert not open or consumer.connection.lane.unsent <= BUFFER
            case "miss":
                world.consumers[rest[0]].lose()
                for _ in range(rest[3]):
                    world.append(rest[1], rest[2])
                world.publish()
                world.consumers[rest[0]].connect()
            case "amid":
                world.consumers[rest[0]].lose()
                world.consumers[rest[0]].connect()
                for _ in range(rest[1]):
                    await asyncio.sleep(0)
                world.append(rest[2], rest[3])
                world.publish()
            case "trim":
                world.store.trim(min(rest[0], world.hub.head))
    await world.finish()
    for consumer in world.consumers:
        world.judge(consumer)
        consumer.lose()
    await asyncio.sleep(0)
    world.hub.close()
    assert len(world.hub.index) == 0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared timer looks every turn."""
    monkeypatch.setattr(hub, "_POLL", 0)


def test_the_model_sees_a_loss() -> None:
    """The judge would notice: an event that never came is reported."""

    async def main() -> None:
        world = World(ring_bytes=1)
        consumer = world.consumers[0]
        consumer.connect()
        world.append("task.succeeded", TASKS[0])
        world.publish()
        await world.finish()
        consumer.got.remove(1)
        with pytest.raises(AssertionError, match="was lost"):
            world.judge(consumer)
        world.hub.close()

    asyncio.run(main())


def test_bytes_of_events_are_what_the_store_has() -> None:
    """The fake's bodies are as the log writes them."""
    assert json.loads(event(5, "task.started").body)["sequence"] == f"{5:020d}"
