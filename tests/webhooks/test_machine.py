"""The books of an endpoint under any sequence of events, answers, requests, and crashes: nothing lost, nothing out of order,
nothing twice without a reason."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gateway.errors import Refused
from gateway.metrics import Metrics
from gateway.store.api import LogEvent
from gateway.webhooks import endpoint as endpoint_module
from gateway.webhooks import history, signing
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.dispatcher import Dispatcher
from gateway.webhooks.manager import SECRETS, Manager
from gateway.webhooks.sender import Answer
from tests.webhooks.fakes import ManualClock, MemoryStore, config, event

TASKS = ["jobs/a", "jobs/b", "jobs/c", None]  # None: a notice


def is_delivered(one: LogEvent) -> bool:
    """The endpoint does not ask for what the gateway says of it."""
    return not one.type.startswith("webhook.")


class Flight:
    """An attempt that waits for its answer."""

    def __init__(self, message: str, former: Sequence[signing.Key], config: EndpointConfig) -> None:
        self.sequence, self.former, self.config = int(message[1:]), former, config
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.overtaken: set[int] = set()  # earlier events that were to be delivered only after it had begun


class SteadyClock(ManualClock):
    """Waits for turns of the event loop and for nothing else, so that the same steps always do the same."""

    async def settle(self) -> None:
        await turn()


async def turn() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


class Wire:
    """Stands in for the network: `Sender`s send into it, the test answers."""

    def __init__(self) -> None:
        self.flights: list[Flight] = []
        self.broken = False  # what a dead process had in flight

    def sender(self, clock: ManualClock) -> type:
        wire = self

        class FakeSender:
            def __init__(self, config: EndpointConfig, *_: Any) -> None:
                self._config = config
                self._closed = False

            async def close(self) -> None:
                assert wire.broken or not [one for one in wire.flights if one.config is self._config]
                self._closed = True

            async def send(self, message: str, body: bytes, former: Sequence[signing.Key] = ()) -> Answer:
                assert not self._closed
                flight = Flight(message, former, self._config)
                wire.flights.append(flight)
                try:
                    status = await flight.answer
                finally:
                    wire.flights.remove(flight)
                good = status == 200
                return Answer(
                    "delivered" if good else "http_5xx", status, None if good else f"HTTP {status}", "", None,
                    clock.now(), 0.0,
                )  # fmt: skip

        return FakeSender


class Books(RuleBasedStateMachine):
    """One endpoint beside a list of what was accepted."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.patch = pytest.MonkeyPatch()
        self.clock = SteadyClock()
        self.store = MemoryStore()
        self.accepted: list[int] = []
        self.excuses: Counter[int] = Counter()
        self.exempt: set[int] = set()  # committed while the endpoint was disabled, and the log said so
        self.unsure: set[int] = set()  # of the exempt: a crash took that it was
        self.announced: dict[str, LogEvent] = {}
        self.owed: list[tuple[set[int], int]] = []  # events of a replay, and how many acceptances came before it
        self.secrets: set[str] = set()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    @initialize(room=st.sampled_from([1, 2, 100]))
    def begin(self, room: int) -> None:
        self.store.room = room
        self.run(self.start())

    async def start(self) -> None:
        self.wire = Wire()
        self.patch.setattr("gateway.webhooks.client.Sender", self.wire.sender(self.clock))
        self.patch.setattr(endpoint_module, "LOW", 4)
        self.patch.setattr("gateway.webhooks.cursor.PAGE", 3)
        self.patch.setattr(endpoint_module, "PAGE", 3)
        self.patch.setattr("gateway.webhooks.cursor.ROWS", 4)

        async def announce(id: str, kind: str, subject: str, at: float, data: Any) -> LogEvent:
            if id in self.announced:
                return None
            new = self.announced[id] = msgspec.structs.replace(event(self.store.head + 1, None, kind), id=id)
            self.dispatcher.publish(self.store.append(new))
            return new

        self.announce = announce
        self.dispatcher = Dispatcher(
            self.store,
            [config(retry_schedule=[1, 1], concurrency=3)],
            clock=self.clock,
            rng=random.Random(1),
            metrics=Metrics(),
            announce=announce,
        )
        await self.dispatcher.start()
        self.manager = Manager(self.dispatcher, clock=self.clock, announce=announce)
        await turn()

    @property
    def disabled(self) -> bool:
        return self.dispatcher.status()[0].disabled is not None

    @property
    def known_disabled(self) -> bool:
        notices = self.dispatcher.endpoints["hook"].record.notices
        return self.disabled and not any(notice.type == "webhook.disabled" for notice in notices)

    # What happens

    @rule(tasks=st.lists(st.sampled_from(TASKS), min_size=1, max_size=6))
    def events(self, tasks: list[str | None]) -> None:
        async def commit() -> None:
            new = [event(self.store.head + 1 + n, task) for n, task in enumerate(tasks)]
            if self.known_disabled:
                self.exempt |= {one.sequence for one in new}
            self.dispatcher.publish(self.store.append(*new))
            await turn()

        self.run(commit())

    @precondition(lambda self: self.wire.flights)
    @rule(data=st.data(), status=st.sampled_from([200, 200, 200, 500, 503, 500, 410]))
    def answer(self, data: st.DataObject, status: int) -> None:
        flight = self.wire.flights[data.draw(st.integers(0, len(self.wire.flights) - 1))]
        self.run(self.give(flight, status))

    async def give(self, flight: Flight, status: int) -> None:
        if status == 200:
            self.accept(flight.sequence, flight.overtaken)
        flight.answer.set_result(status)
        await turn()
        if self.disabled:
            self.owed.clear()  # that ends a replay

    def accept(self, sequence: int, overtaken: set[int]) -> None:
        task = self.task(sequence)
        lane = [one.sequence for one in self.store.events if one.task == task and is_delivered(one)]
        for earlier in lane:
            settled = earlier in self.accepted or earlier in self.exempt | overtaken or earlier >= sequence
            assert settled or self.was_dead(earlier), f"{sequence} before {earlier}"
        self.accepted.append(sequence)
        assert self.accepted.count(sequence) <= 1 + self.excuses[sequence], f"{sequence} again"

    def task(self, sequence: int) -> str | None:
        return self.store.events[sequence - 1].task

    def was_dead(self, sequence: int) -> bool:
        worker = self.dispatcher.endpoints["hook"]
        unsaved = worker.books.ledger._unsaved | worker.books.ledger._saving
        row = unsaved[sequence][1] if sequence in unsaved else self.store.rows.get(("hook", sequence))
        return row is not None and any(one["status"] != 200 for one in history.listed(row.attempts))

    @rule(seconds=st.floats(0.1, 3))
    def time_passes(self, seconds: float) -> None:
        async def wait() -> None:
            await self.clock.advance(seconds)
            await turn()

        self.run(wait())

    @rule(closed=st.booleans())
    def store_is_slow(self, closed: bool) -> None:
        (self.store.gate.clear if closed else self.store.gate.set)()
        self.run(turn())

    @rule()
    def crash(self) -> None:
        async def die() -> None:
            survivor = self.store.copy()
            for sequence in set(self.accepted):  # what nobody wrote down
                row = survivor.rows.get(("hook", sequence))
                if row is None or row.state == "pending":
                    self.excuses[sequence] += 1
            worker = self.dispatcher.endpoints["hook"]
            for sequence in worker.books.ledger._unsaved | worker.books.ledger._saving:
                self.excuses[sequence] += 1
            was_disabled = self.disabled
            self.wire.broken = True
            self.store.gate.set()
            await self.dispatcher.close()
            self.store = survivor
            await self.start()
            if (
                was_disabled and not self.disabled
            ):  # that was not written down either, nor what became of what was pending
                self.exempt |= {one.sequence for one in self.store.events}
                self.unsure |= self.exempt

        self.run(die())

    # What is asked for

    def open_store(self) -> None:
        self.store.gate.set()

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        after = data.draw(st.integers(0, self.store.head))
        self.open_store()

        async def ask() -> None:
            await turn()
            flying = {one.sequence for one in self.wire.flights}
            begins = await self.manager.replay("hook", after=after, since=None, by="me")
            record = self.dispatcher.endpoints["hook"].record
            upto = record.replay.upto if record.replay is not None else begins
            wanted = {one.sequence for one in self.store.events if is_delivered(one) and begins < one.sequence <= upto}
            for sequence in wanted | flying:
                self.excuses[sequence] += 1
            for flight in self.wire.flights:
                flight.overtaken |= self.exempt
            self.exempt -= wanted
            self.owed.append((wanted - flying, len(self.accepted)))
            await turn()

        if self.disabled:
            with pytest.raises(Refused, match="disabled"):
                self.run(self.manager.replay("hook", after=after, since=None, by="me"))
        else:
            self.run(ask())

    @precondition(lambda self: self.store.rows)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(sorted(key[1] for key in self.store.rows)))
        self.open_store()
        if not self.disabled:
            self.excuses[sequence] += 1
            self.run(self.manager.retry(f"hook.{sequence}", "me"))
            self.run(turn())

    @rule()
    def retry_dead(self) -> None:
        self.open_store()
        if not self.disabled:
            for (_, sequence), row in self.store.rows.items():
                if row.state == "dead":
                    self.excuses[sequence] += 1
            self.run(self.manager.retry_dead("hook", "me"))
            self.run(turn())

    @rule(concurrency=st.integers(1, 4), progress=st.sampled_from(["every", None]))
    def change(self, concurrency: int, progress: str | None) -> None:
        self.open_store()
        self.run(self.manager.change("hook", {"concurrency": concurrency, "progress": progress}, "me"))
        self.run(turn())

    @rule(overlap=st.sampled_from([0.0, 2.0, 1000.0]))
    def rotate(self, overlap: float) -> None:
        self.open_store()
        view = self.manager.get("hook")
        if overlap and view.secrets == SECRETS:
            with pytest.raises(Refused, match="secrets sign"):
                self.run(self.manager.rotate_secret("hook", None, overlap, "me"))
            assert self.manager.get("hook").config == view.config
            return
        new = self.run(self.manager.rotate_secret("hook", None, overlap, "me"))
        assert new not in self.secrets
        self.secrets.add(new)
        assert self.manager.get("hook").config.secret.get_secret_value() == new

    @rule()
    def enable(self) -> None:
        self.open_store()
        self.run(self.manager.enable("hook", "me"))
        assert not self.disabled
        self.run(turn())

    # What must hold

    def teardown(self) -> None:
        try:
            if hasattr(self, "dispatcher"):
                self.run(self.finish())
        finally:
            self.patch.undo()
            for task in (left := asyncio.all_tasks(self.loop)):
                task.cancel()
            if left:
                self.loop.run_until_complete(asyncio.wait(left))
            self.loop.close()

    async def finish(self) -> None:
        self.store.gate.set()
        await turn()
        if self.disabled:
            await self.manager.enable("hook", "me")
        for _ in range(400):
            by_task = Counter(self.task(one.sequence) for one in self.wire.flights)
            assert all(count == 1 for count in by_task.values())
            for flight in list(self.wire.flights):
                await self.give(flight, 200)
            status = self.dispatcher.status()[0]
            if not status.pending and status.position == self.store.head and status.replay_upto is None:
                break
            await self.clock.advance(2)
        else:
            raise AssertionError(f"it never comes to rest: {self.dispatcher.status()}")
        await self.dispatcher.flush(final=True)
        assert self.dispatcher.failure is None
        counts: dict[str, int] = defaultdict(int)
        for row in self.store.rows.values():
            counts[row.state] += 1
        assert counts["pending"] == 0
        assert self.dispatcher.status()[0].dead == counts["dead"]
        assert self.store.stored_positions["hook"] == self.store.head
        for one in self.store.events:
            if is_delivered(one) and one.sequence not in self.exempt:
                row = self.store.rows.get(("hook", one.sequence))
                assert row is not None, one.sequence
                assert row.state == "dead" or one.sequence in self.accepted
        for sequence in self.exempt - self.unsure:
            assert ("hook", sequence) not in self.store.rows, f"{sequence} was queued for a disabled endpoint"
        for wanted, before in self.owed:
            since = set(self.accepted[before:])
            for sequence in wanted - since:
                assert self.was_dead(sequence), f"{sequence} was not replayed"
        await self.dispatcher.close()


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=50, stateful_step_count=40)
