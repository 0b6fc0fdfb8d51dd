"""Endpoints at work: order, isolation, retries, restarts, 410, limits; over real sockets and a store in memory."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.errors import ConfigError
from gateway.metrics import Metrics
from gateway.webhooks import endpoint as endpoint_module
from gateway.webhooks import stock
from gateway.webhooks.dispatcher import Dispatcher
from gateway.webhooks.ledger import LAG
from tests.webhooks.fakes import (
    SECRET,
    ManualClock,
    MemoryStore,
    Receiver,
    config,
    dispatching,
    event,
    until,
)

FAST = [0.01, 0.01, 0.01]


async def test_events_go_out_and_are_recorded() -> None:
    """Each matching event is posted once, as stored; rows and the position say so."""
    store = MemoryStore()
    async with (
        Receiver().serve() as receiver,
        dispatching(store, config(receiver.url, type="task.succeeded", source="jobs")) as dispatcher,
    ):
        events = store.append(
            event(1, type_="task.succeeded"), event(2, type_="task.failed"),
            event(3, "jobs/2", "task.succeeded"), event(4, "studio/2", "task.succeeded", source="studio"),
        )  # fmt: skip
        dispatcher.publish(events)
        await receiver.wait(2)
        await until(lambda: store.state(3) == "delivered" and store.state(1) == "delivered")
        assert dispatcher.status()[0].pending == 0
    assert sorted(receiver.ids) == ["e1", "e3"]
    assert {body for _, _, body in receiver.received} == {events[0].body, events[2].body}
    assert store.stored_positions == {"hook": 4}
    (attempt,) = store.attempts(1)
    assert set(attempt) == {"at", "status", "duration_ms", "error", "response"}
    assert (attempt["status"], attempt["error"], attempt["response"]) == (200, None, "")
    assert attempt["at"].endswith("Z")


async def test_new_endpoint_begins_with_the_next_event() -> None:
    """What was in the log before an endpoint existed is not sent to it, not even after a crash right at the start."""
    store = MemoryStore()
    store.append(event(1), event(2))
    async with Receiver().serve() as receiver, dispatching(store, config(receiver.url)) as dispatcher:
        assert store.stored_positions == {"hook": 2}
        dispatcher.publish(store.append(event(3)))
        await receiver.wait(1)
    assert receiver.ids == ["e3"]


async def test_order_per_task_under_failures() -> None:
    """With every second attempt failing, each task's events arrive in sequence, each until it is accepted."""
    store, rng = MemoryStore(), random.Random(7)
    accepted: dict[str, list[int]] = defaultdict(list)
    events = [event(n, f"jobs/{n % 5}") for n in range(1, 101)]
    tasks = {e.id: e.task for e in events}

    def answer(request: web.Request, name: str) -> int:
        if rng.random() < 0.5:
            return rng.choice([500, 404, 302])
        accepted[tasks[name]].append(int(name[1:]))
        return 200

    async with (
        Receiver(answer).serve() as receiver,
        dispatching(store, config(receiver.url, retry_schedule=[0.001] * 32)) as dispatcher,
    ):
        for start in range(0, 100, 10):
            dispatcher.publish(store.append(*events[start : start + 10]))
            await asyncio.sleep(0)
        await until(lambda: sum(map(len, accepted.values())) == 100)
        await until(lambda: dispatcher.status()[0].position == 100 and not dispatcher.status()[0].pending)
    assert all(sequences == sorted(sequences) for sequences in accepted.values())
    assert all(store.state(n) == "delivered" for n in range(1, 101))


async def test_failing_event_parks_its_task_only() -> None:
    """Other tasks go on while one waits for its retry; its followers wait in the store and come after it."""
    store, clock, bad = MemoryStore(), ManualClock(), True

    def answer(request: web.Request, name: str) -> int:
        return 500 if name == "e1" and bad else 200

    async with (
        Receiver(answer).serve() as receiver,
        dispatching(store, config(receiver.url), clock=clock) as dispatcher,
    ):
        dispatcher.publish(store.append(*[event(n, "jobs/bad" if n < 4 else "jobs/good") for n in range(1, 7)]))
        await until(lambda: store.state(6) == "delivered" and store.state(3) == "pending")
        assert receiver.ids[0:1] + sorted(receiver.ids[1:]) == ["e1", "e4", "e5", "e6"]
        assert store.stored_positions["hook"] == 6
        assert [store.rows["hook", n].tries for n in (1, 2, 3)] == [1, 0, 0]
        assert 5 <= store.rows["hook", 1].due - clock.now() <= 6
        assert store.rows["hook", 2].due is None
        bad = False
        await clock.advance(4.9)
        assert len(receiver.ids) == 4
        await clock.advance(1.2)
        await until(lambda: store.state(3) == "delivered")
    assert receiver.ids[4:] == ["e1", "e2", "e3"]
    assert [a["status"] for a in store.attempts(1)] == [500, 200]


async def test_default_schedule_to_dead_letter() -> None:
    """Ten attempts with the delays of the contract, then a dead letter, and the task's next event goes out."""
    store, clock = MemoryStore(), ManualClock()
    times: list[float] = []

    def answer(request: web.Request, name: str) -> int:
        if name == "e2":
            return 200
        times.append(clock.monotonic())
        return 500

    async with (
        Receiver(answer).serve() as receiver,
        dispatching(store, config(receiver.url), clock=clock) as dispatcher,
    ):
        dispatcher.publish(store.append(event(1), event(2)))
        for n in range(1, 11):
            await until(lambda n=n: len(store.attempts(1)) == n)
            if n < 10:
                await clock.advance(store.rows["hook", 1].due - clock.now() + 0.001)
        await until(lambda: store.state(2) == "delivered")
        assert store.state(1) == "dead"
        assert dispatcher.status()[0].dead == 1
        assert dispatcher.status()[0].last_error == "HTTP 500"
    waits = [b - a for a, b in itertools.pairwise(times)]
    for wait, delay in zip(waits, [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400], strict=True):
        assert delay <= wait <= delay * 1.2 + 0.01
    assert store.rows["hook", 1].tries == 10


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_retry_after_is_a_lower_bound(status: int) -> None:
    """The retry comes no earlier than the receiver asked for; where it is overwhelmed, nothing else comes either."""
    store, clock = MemoryStore(), ManualClock()
    answers = iter([web.Response(status=status, headers={"Retry-After": "30"})])
    async with (
        Receiver(lambda *_: next(answers, 200)).serve() as receiver,
        dispatching(store, config(receiver.url, retry_schedule=[1, 1]), clock=clock) as dispatcher,
    ):
        dispatcher.publish(store.append(event(1, "jobs/1")))
        await until(lambda: store.state(1) == "pending")
        assert store.rows["hook", 1].due - clock.now() == 30
        dispatcher.publish(store.append(event(2, "jobs/2")))
        if status == 500:
            await receiver.wait(2)
        else:
            assert dispatcher.status()[0].paused_until == clock.now() + 30
            await clock.advance(29)
            assert receiver.ids == ["e1"]
        await clock.advance(1 if status != 500 else 30)
        await until(lambda: store.state(1) == store.state(2) == "delivered")


async def test_what_a_receiver_asked_for_holds_after_a_restart() -> None:
    """`Retry-After` is a lower bound for the receiver, which knows nothing of restarts."""
    store, clock = MemoryStore(), ManualClock()
    answers = iter([web.Response(status=429, headers={"Retry-After": "30"})])
    async with Receiver(lambda *_: next(answers, 200)).serve() as receiver:
        async with dispatching(store, config(receiver.url), clock=clock) as dispatcher:
            dispatcher.publish(store.append(event(1, "jobs/1")))
            await until(lambda: store.state(1) == "pending")
        async with dispatching(store, config(receiver.url), clock=clock) as dispatcher:
            dispatcher.publish(store.append(event(2, "jobs/2")))
            assert dispatcher.status()[0].paused_until == clock.now() + 30
            await clock.advance(29)
            assert receiver.ids == ["e1"]
            await clock.advance(2)
            await receiver.wait(2)


async def test_429_storm_slows_the_endpoint_down() -> None:
    """An endpoint that answers 429 to everything is asked ever less often."""
    store, clock = MemoryStore(), ManualClock()
    async with (
        Receiver(lambda *_: 429).serve() as receiver,
        dispatching(store, config(receiver.url, concurrency=1, retry_schedule=[9e4]), clock=clock) as dispatcher,
    ):
        dispatcher.publish(store.append(*[event(n, f"jobs/{n}") for n in range(1, 101)]))
        asked = []
        for n in range(4, 10):
            await until(lambda n=n: len(store.attempts(n)) == 1)
            asked.append(dispatcher.status()[0].paused_until - clock.now())
            await clock.advance(asked[-1] + 1e-6)
    assert asked == [pytest.approx(n) for n in (5, 10, 20, 40, 60, 60)]


async def test_dead_endpoint_is_left_alone_but_for_probes() -> None:
    """Once everything has failed for a while, nothing new is tried but a probe now and then; the first success lets
    everything go."""
    store, clock = MemoryStore(), ManualClock()
    async with (
        Receiver(lambda *_: 500).serve() as receiver,
        dispatching(store, config(receiver.url, retry_schedule=[9e4], concurrency=1), clock=clock) as dispatcher,
    ):
        dispatcher.publish(store.append(*[event(n, f"jobs/{n}") for n in range(1, 20)]))
        await until(lambda: store.state(19) == "pending")
        await clock.advance(11)
        assert dispatcher.status()[0].breaker == "closed"
        dispatcher.publish(store.append(*[event(n, f"jobs/{n}") for n in range(20, 131)]))
        await until(lambda: dispatcher.status()[0].breaker == "open")
        assert dispatcher.status()[0].state == "paused"
        waits = []
        for n in range(21, 26):
            waits.append(dispatcher.status()[0].paused_until - clock.now())
            await clock.advance(waits[-1] - 0.01)
            assert store.attempts(n) == []
            await clock.advance(0.011)
            await until(lambda n=n: len(store.attempts(n)) == 1)
        assert waits == [pytest.approx(wait, abs=0.1) for wait in (5, 10, 20, 40, 60)]
        receiver.answer = None
        await clock.advance(61)
        await until(lambda: all(store.state(n) == "delivered" for n in range(26, 131)))
        assert dispatcher.status()[0].breaker == "closed"


async def test_a_503_for_one_task_holds_up_no_other_and_follows_its_schedule() -> None:
    """One task that the receiver cannot take once stopped all of an endpoint for minutes, against `retry_schedule`."""
    store, clock = MemoryStore(), ManualClock()
    async with (
        Receiver(lambda _, name: 503 if name == "e1" else 200).serve() as receiver,
        dispatching(store, config(receiver.url, retry_schedule=[1] * 20), clock=clock) as dispatcher,
    ):
        dispatcher.publish(store.append(*[event(n, f"jobs/{n}") for n in range(1, 51)]))
        await until(lambda: store.state(1) == "pending")
        for tries in range(2, 12):
            await clock.advance(1.21)
            await until(lambda tries=tries: len(store.attempts(1)) >= tries)
        await until(lambda: all(store.state(n) == "delivered" for n in range(2, 51)))


async def test_slow_and_dead_endpoints_delay_no_other() -> None:
    """With one endpoint hanging and one refusing, the third gets everything at once."""
    store, hang = MemoryStore(), asyncio.Event()

    async def stuck(request: web.Request, name: str) -> int:
        await hang.wait()
        return 200

    slow = Receiver(stuck)
    async with slow.serve(), Receiver().serve() as good:
        configs = [
            config(slow.url, name="slow"),
            config("http://127.0.0.1:1/", name="dead"),
            config(good.url, name="good"),
        ]
        async with dispatching(store, *configs) as dispatcher:
            dispatcher.publish(store.append(*[event(n, f"jobs/{n % 50}") for n in range(1, 501)]))
            await good.wait(500)
            by_name = {one.name: one for one in dispatcher.status()}
            assert by_name["slow"].in_flight == 16
            assert by_name["slow"].pending <= 2 * endpoint_module.LOW
            assert by_name["dead"].last_error == "connection refused"
            hang.set()
    assert sorted(good.ids) == sorted(f"e{n}" for n in range(1, 501))


async def test_410_disables() -> None:
    """After 410 nothing more is sent or queued; what was pending, in memory or only in the log, is a dead letter."""
    store, clock, hold = MemoryStore(), ManualClock(), asyncio.Event()

    async def answer(request: web.Request, name: str) -> int:
        if name == "e1":
            return 500
        await hold.wait()
        return 410

    async with Receiver(answer).serve() as receiver:
        async with dispatching(store, config(receiver.url, concurrency=1), clock=clock) as dispatcher:
            dispatcher.publish(store.append(event(1, "jobs/bad")))
            await until(lambda: store.state(1) == "pending")
            dispatcher.publish(store.append(*[event(n, f"jobs/{n}") for n in range(2, 902)]))
            await receiver.wait(2)
            hold.set()
            await until(lambda: store.state(901) == "dead")
            dispatcher.publish(store.append(event(902)))
            await until(lambda: dispatcher.status()[0].position == 902)
            status = dispatcher.status()[0]
            assert (status.disabled, status.pending, status.dead) == ("it answered 410", 0, 901)
        assert all(store.state(n) == "dead" for n in range(1, 902))
        assert store.state(902) is None
        assert [a["error"] for a in store.attempts(1)] == ["HTTP 500", "the endpoint is disabled"]
        assert [a["error"] for a in store.attempts(2)] == ["HTTP 410"]
        assert [a["error"] for a in store.attempts(901)] == ["the endpoint is disabled"]
        assert receiver.ids == ["e1", "e2"]

        async with dispatching(store, config(receiver.url)) as dispatcher:
            dispatcher.publish(store.append(event(903)))
            await until(lambda: dispatcher.status()[0].position == 903)
            await until(lambda: dispatcher.status()[0].dead == 901)
            receiver.answer = None
            await dispatcher.endpoints["hook"].enable("me")
            assert dispatcher.status()[0].disabled is None
            dispatcher.publish(store.append(event(904)))
            await receiver.wait(3)
        async with dispatching(store, config(receiver.url)) as dispatcher:
            assert dispatcher.status()[0].disabled is None
    assert receiver.ids[2:] == ["e904"]


async def test_disabled_by_configuration() -> None:
    """`enabled: false`: what was pending becomes a dead letter, nothing new is queued."""
    store = MemoryStore()
    async with Receiver(lambda *_: 500).serve() as receiver:
        async with dispatching(store, config(receiver.url)) as dispatcher:
            dispatcher.publish(store.append(event(1), event(2)))
            await until(lambda: store.state(2) == "pending")
        count = len(receiver.ids)
        async with dispatching(store, config(receiver.url, enabled=False)) as dispatcher:
            dispatcher.publish(store.append(event(3)))
            await until(lambda: store.state(1) == store.state(2) == "dead")
            await until(lambda: dispatcher.status()[0].position == 3)
    assert store.state(3) is None
    assert len(receiver.ids) == count


async def test_restart_takes_up_where_it_stood() -> None:
    """A crash loses nothing and repeats only what was in flight; retries keep their time and their count."""
    store, clock = MemoryStore(), ManualClock()
    hold = asyncio.Event()

    async def answer(request: web.Request, name: str) -> int:
        if name == "e1":
            return 500
        if name == "e3":
            await hold.wait()
        return 200

    async with Receiver(answer).serve() as receiver:
        async with dispatching(store, config(receiver.url), clock=clock) as dispatcher:
            tasks = {1: "jobs/bad", 2: "jobs/bad", 3: "jobs/slow", 4: "jobs/4", 5: "jobs/slow", 6: "jobs/6"}
            dispatcher.publish(store.append(*[event(n, task) for n, task in tasks.items()]))
            await until(lambda: store.state(6) == store.state(4) == "delivered" and store.state(2) == "pending")
            assert store.stored_positions["hook"] == 2
            crashed = MemoryStore()
            crashed.events, crashed.rows = list(store.events), dict(store.rows)
            crashed.stored_positions = dict(store.stored_positions)
        hold.set()
        receiver.received.clear()
        receiver.answer = None
        crashed.append(event(7, "jobs/bad"))
        async with dispatching(crashed, config(receiver.url), clock=clock) as dispatcher:
            dispatcher.publish([])
            dispatcher.publish(crashed.append(event(8, "jobs/8")))
            await receiver.wait(3)
            await until(lambda: crashed.state(8) == "delivered")
            assert sorted(receiver.ids) == ["e3", "e5", "e8"] or sorted(receiver.ids)[:2] == ["e3", "e5"]
            assert crashed.state(7) == "pending"
            await clock.advance(6.1)
            await until(lambda: crashed.state(7) == "delivered")
    assert [name for name in receiver.ids if name in ("e1", "e2", "e7")] == ["e1", "e2", "e7"]
    assert receiver.ids.index("e3") < receiver.ids.index("e5")
    assert Counter(receiver.ids).most_common(1)[0][1] == 1
    assert crashed.rows["hook", 1].tries == 2


@pytest.mark.parametrize("room", [10, 100, 1000])
async def test_backlog_is_read_from_the_log(room: int) -> None:
    """What was committed while nobody delivered goes out after a start, in pages, cut by number or by bytes, without anything
    being published."""
    store = MemoryStore()
    store.room = room
    store.stored_positions["hook"] = 0
    store.append(*[event(n, f"jobs/{n % 7}") for n in range(1, 1001)])
    async with Receiver().serve() as receiver, dispatching(store, config(receiver.url)) as dispatcher:
        await receiver.wait(1000)
        await until(lambda: dispatcher.status()[0].position == 1000)
    assert Counter(receiver.ids) == {f"e{n}": 1 for n in range(1, 1001)}
    assert store.writes < 900


async def test_notices_without_a_task_keep_their_order_per_source() -> None:
    """Events without a task form a lane per source, also after a restart."""
    store, clock = MemoryStore(), ManualClock()
    async with Receiver(lambda request, name: 500 if name == "e1" else 200).serve() as receiver:
        notices = [event(1, None, "source.connected"), event(2, None, "source.disconnected")]
        other = event(3, None, "source.connected", source="studio")
        async with dispatching(store, config(receiver.url), clock=clock) as dispatcher:
            dispatcher.publish(store.append(*notices, other))
            await until(lambda: store.state(3) == "delivered" and store.state(2) == "pending")
        receiver.answer = None
        async with dispatching(store, config(receiver.url), clock=clock) as dispatcher:
            dispatcher.publish(store.append(event(4, None, "source.connected")))
            await until(lambda: store.state(4) == "pending")
            await clock.advance(6.1)
            await until(lambda: store.state(4) == "delivered")
    assert receiver.ids[2:] == ["e1", "e2", "e4"]


async def test_event_that_retention_removed_is_a_dead_letter() -> None:
    """A pending delivery whose event is gone ends with a clear error; its task goes on."""
    store, clock = MemoryStore(), ManualClock()
    async with (
        Receiver(lambda *_: 500).serve() as receiver,
        dispatching(store, config(receiver.url), clock=clock) as dispatcher,
    ):
        dispatcher.publish(store.append(event(1), event(2)))
        await until(lambda: store.state(2) == "pending")
        store.events, store.floor = store.events[1:], 1
        receiver.answer = None
        await clock.advance(6.1)
        await until(lambda: store.state(2) == "delivered")
        assert store.state(1) == "dead"
    assert store.attempts(1)[-1]["error"] == "the log no longer has this event"


async def test_concurrency_is_bounded() -> None:
    """Never more in flight than configured."""
    store, gate = MemoryStore(), asyncio.Event()

    async def answer(request: web.Request, name: str) -> int:
        await gate.wait()
        return 200

    async with (
        Receiver(answer).serve() as receiver,
        dispatching(store, config(receiver.url, concurrency=3)) as dispatcher,
    ):
        dispatcher.publish(store.append(*[event(n, f"jobs/{n}") for n in range(1, 31)]))
        await receiver.wait(3)
        assert dispatcher.status()[0].in_flight == 3
        gate.set()
        await receiver.wait(30)
    assert receiver.most_active == 3


async def test_rate_limit() -> None:
    """Requests a second are bounded by the clock, not by the receiver."""
    store, clock = MemoryStore(), ManualClock()
    async with (
        Receiver().serve() as receiver,
        dispatching(store, config(receiver.url, rate_limit=2), clock=clock) as dispatcher,
    ):
        dispatcher.publish(store.append(*[event(n, f"jobs/{n}") for n in range(1, 6)]))
        for n in range(1, 6):
            await receiver.wait(n)
            await clock.advance(0.4)
            assert len(receiver.received) == n
            await clock.advance(0.1001)


async def test_progress_none_and_latest() -> None:
    """`none` sends no progress; `latest` only the newest of those that wait, and every other event."""
    store, gate = MemoryStore(), asyncio.Event()

    async def answer(request: web.Request, name: str) -> int:
        await gate.wait()
        return 200

    types = ["task.started", *["task.progressed"] * 5, "task.succeeded"]
    events = [event(n, type_=kind) for n, kind in enumerate(types, 1)]
    async with Receiver(answer).serve() as latest, Receiver().serve() as none:
        configs = [config(latest.url, name="a", progress="latest"), config(none.url, name="b", progress="none")]
        async with dispatching(store, *configs) as dispatcher:
            dispatcher.publish(store.append(*events))
            await latest.wait(1)
            gate.set()
            await latest.wait(3)
            await none.wait(2)
            await until(lambda: all(one.position == 7 and not one.pending for one in dispatcher.status()))
    assert latest.ids == ["e1", "e6", "e7"]
    assert none.ids == ["e1", "e7"]


async def test_what_gave_way_does_not_come_back_after_a_crash() -> None:
    """Behind a slow delivery of another task the position stands still, and what gave way had no row: after a crash it was
    sent behind the newer progress, and behind the end of its task."""
    store, held = MemoryStore(), asyncio.Event()

    async def answer(request: web.Request, name: str) -> int:
        if name in ("e1", "e2"):
            await held.wait()
        return 200

    types = ["task.started", *["task.progressed"] * 5, "task.succeeded"]
    events = [event(1, "jobs/slow"), *(event(n, type_=kind) for n, kind in enumerate(types, 2))]
    async with Receiver(answer).serve() as receiver:
        async with dispatching(store, config(receiver.url, progress="latest")) as dispatcher:
            dispatcher.publish(store.append(*events))
            await receiver.wait(2)
            await until(lambda: [store.state(n) for n in range(3, 7)] == ["skipped"] * 4)
            crashed = store.copy()
        assert crashed.stored_positions.get("hook", 0) == 0
        held.set()
        async with dispatching(crashed, config(receiver.url, progress="latest")) as dispatcher:
            await until(lambda: dispatcher.status()[0].position == 8 and not dispatcher.status()[0].pending)
    assert sorted(receiver.ids[2:4]) == ["e1", "e2"]
    assert receiver.ids[4:] == ["e7", "e8"]


async def test_latest_folds_behind_a_failed_delivery_too() -> None:
    """Progress that waits in the store gives way as well: its row says that it was skipped."""
    store, clock = MemoryStore(), ManualClock()
    async with (
        Receiver(lambda *_: 500).serve() as receiver,
        dispatching(store, config(receiver.url, progress="latest"), clock=clock) as dispatcher,
    ):
        dispatcher.publish(store.append(event(1, type_="task.started")))
        await until(lambda: store.state(1) == "pending")
        for n in (2, 3):
            dispatcher.publish(store.append(event(n, type_="task.progressed")))
            await until(lambda n=n: store.state(n) == "pending")
        assert store.state(2) == "skipped"
        receiver.answer = None
        await clock.advance(6.1)
        await until(lambda: store.state(3) == "delivered")
    assert receiver.ids == ["e1", "e1", "e3"]


async def test_memory_is_bounded_by_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that gets nothing through holds a limited number of deliveries and few bodies; the rest waits in the log."""
    monkeypatch.setattr(endpoint_module, "WINDOW", 300)
    monkeypatch.setattr(stock, "BODY_BYTES", 50_000)
    store, clock = MemoryStore(), ManualClock()
    async with (
        Receiver(lambda *_: 500).serve() as receiver,
        dispatching(store, config(receiver.url), clock=clock) as dispatcher,
    ):
        for start in range(1, 2001, 100):
            dispatcher.publish(store.append(*[event(n, f"jobs/{n % 3}", size=1000) for n in range(start, start + 100)]))
            await asyncio.sleep(0)
        worker = dispatcher.endpoints["hook"]
        await until(lambda: dispatcher.status()[0].pending >= 300)
        assert dispatcher.status()[0].pending <= 300 + endpoint_module.PAGE
        assert worker._stock.size <= 50_000
        receiver.answer = None
        await until(lambda: store.state(2000) == "delivered", lambda: clock.advance(1))
    assert [n for n in range(1, 2001) if store.state(n) != "delivered"] == []
    assert worker._stock.size == 0


async def test_drain_finishes_what_is_in_flight() -> None:
    """Draining begins nothing new, waits for answers, and stores them."""
    store, gate = MemoryStore(), asyncio.Event()

    async def answer(request: web.Request, name: str) -> int:
        await gate.wait()
        return 200

    async with (
        Receiver(answer).serve() as receiver,
        dispatching(store, config(receiver.url, concurrency=1)) as dispatcher,
    ):
        dispatcher.publish(store.append(event(1, "jobs/1"), event(2, "jobs/2")))
        await receiver.wait(1)
        draining = asyncio.create_task(dispatcher.drain(5))
        await asyncio.sleep(0)
        gate.set()
        assert await draining is True
        assert store.state(1) == "delivered"
        assert store.stored_positions["hook"] == 1
    assert receiver.ids == ["e1"]


async def test_drain_is_bounded() -> None:
    """A receiver that hangs does not keep the gateway from ending; its delivery is sent again after the next start."""
    store, gate = MemoryStore(), asyncio.Event()

    async def answer(request: web.Request, name: str) -> int:
        await gate.wait()
        return 200

    async with Receiver(answer).serve() as receiver:
        async with dispatching(store, config(receiver.url)) as dispatcher:
            dispatcher.publish(store.append(event(1)))
            await receiver.wait(1)
            assert await dispatcher.drain(0.05) is False
        gate.set()
        async with dispatching(store, config(receiver.url)):
            await receiver.wait(2)
    assert receiver.ids == ["e1", "e1"]


async def test_store_trouble_is_waited_out() -> None:
    """While the store refuses, results wait and are stored later; nothing is lost and it is said once each way."""
    store, clock = MemoryStore(), ManualClock()
    with capture_logs() as logs:
        async with Receiver().serve() as receiver, dispatching(store, config(receiver.url), clock=clock) as dispatcher:
            store.refuse_writes = 3
            dispatcher.publish(store.append(event(1)))
            await receiver.wait(1)
            await until(lambda: store.state(1) == "delivered", lambda: clock.advance(1))
    names = [one["event"] for one in logs]
    assert names.count("webhook_results_not_stored") == names.count("webhook_results_stored") == 1


async def test_unreadable_store_is_waited_out() -> None:
    """Reading the backlog is tried again until the store lets it."""
    store, clock = MemoryStore(), ManualClock()
    store.stored_positions["hook"] = 0
    store.append(event(1))
    async with Receiver().serve() as receiver, dispatching(store, config(receiver.url), clock=clock) as dispatcher:
        store.refuse = 3
        dispatcher.publish(store.append(event(2, "jobs/2")))
        await until(lambda: store.state(1) == store.state(2) == "delivered", lambda: clock.advance(1))
    assert sorted(receiver.ids) == ["e1", "e2"]


async def test_a_delivery_is_in_flight_until_its_result_is_stored() -> None:
    """Nothing more is sent meanwhile: all of it would be repeated after a crash, once a hundred deliveries with four in flight."""
    store = MemoryStore()
    async with Receiver().serve() as receiver, dispatching(store, config(receiver.url, concurrency=4)) as dispatcher:
        store.gate.clear()
        dispatcher.publish(store.append(*[event(n, f"jobs/{n}") for n in range(1, 51)]))
        await receiver.wait(4)
        await until(lambda: dispatcher.status()[0].in_flight == 0)
        assert len(receiver.received) == 4
        store.gate.set()
        await receiver.wait(50)
        await until(lambda: dispatcher.status()[0].position == 50)
    assert Counter(receiver.ids) == {f"e{n}": 1 for n in range(1, 51)}


async def test_a_busy_task_hides_no_other() -> None:
    """A thousand events of a task whose receiver takes its time; the one event of another task behind them goes out at once."""
    store, hold = MemoryStore(), asyncio.Event()

    async def answer(name: str) -> int:
        if name != "e1001":
            await hold.wait()
        return 200

    async with (
        Receiver(lambda request, name: answer(name)).serve() as receiver,
        dispatching(store, config(receiver.url)) as dispatcher,
    ):
        dispatcher.publish(store.append(*[event(n, "jobs/busy") for n in range(1, 1001)], event(1001, "jobs/other")))
        await receiver.wait(2)
        assert receiver.ids == ["e1", "e1001"]
        hold.set()


async def test_position_moves_without_deliveries() -> None:
    """Where nothing matches the position is written now and then, and at the end."""
    store = MemoryStore()
    async with dispatching(store, config(type="task.failed")) as dispatcher:
        dispatcher.publish(store.append(*[event(n) for n in range(1, LAG + 1)]))
        await until(lambda: store.stored_positions["hook"] == LAG)
        dispatcher.publish(store.append(event(LAG + 1)))
        await until(lambda: dispatcher.status()[0].position == LAG + 1)
        assert store.stored_positions["hook"] == LAG
    assert store.stored_positions["hook"] == LAG + 1


async def test_endpoint_that_is_gone_from_the_configuration_is_forgotten() -> None:
    """Its position would keep the log from shrinking."""
    store = MemoryStore()
    store.stored_positions["old"] = 3
    async with dispatching(store, config()):
        assert set(store.stored_positions) == {"hook"}


async def test_same_name_twice() -> None:
    """Names are labels and keys: two endpoints cannot share one."""
    with pytest.raises(ConfigError, match="hook"):
        Dispatcher(MemoryStore(), [config(), config()], clock=SystemClock(), rng=random.Random(), metrics=Metrics())


async def test_fault_of_the_gateway_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug inside does not pass in silence: `failure` says so, for readiness."""
    store = MemoryStore()
    dispatcher = Dispatcher(store, [config()], clock=SystemClock(), rng=random.Random(), metrics=Metrics())
    await dispatcher.start()

    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(dispatcher.endpoints["hook"]._client, "send", broken)
    with capture_logs() as logs:
        dispatcher.publish(store.append(event(1)))
        await until(lambda: dispatcher.failure is not None)
    await dispatcher.close()
    assert dispatcher.failure == "RuntimeError in webhooks"
    assert [one["event"] for one in logs] == ["webhook_task_failed"]


async def test_metrics_and_logs() -> None:
    """Attempts by outcome, pending and dead are counted; an endpoint's failing and recovery are said once; no secrets."""
    store, metrics = MemoryStore(), Metrics()
    secret_url = "?token=s3cr3t"
    async with Receiver(lambda request, name: 500 if name != "e3" else 200).serve() as receiver:
        configs = [config(receiver.url + secret_url, retry_schedule=[0.001], headers={"authorization": "t0ken"})]
        dispatcher = Dispatcher(store, configs, clock=SystemClock(), rng=random.Random(), metrics=metrics)
        with capture_logs() as logs:
            await dispatcher.start()
            dispatcher.publish(store.append(event(1), event(2), event(3)))
            await until(lambda: store.state(3) == "delivered")
            await dispatcher.close()
            await dispatcher.close()
    text = generate_latest(metrics.registry).decode()
    assert 'mainstem_delivery_attempts_total{endpoint="hook",outcome="http_5xx"} 4.0' in text
    assert 'mainstem_delivery_attempts_total{endpoint="hook",outcome="delivered"} 1.0' in text
    assert 'mainstem_deliveries_dead{endpoint="hook"} 2.0' in text
    assert 'mainstem_deliveries_pending{endpoint="hook"} 0.0' in text
    assert "mainstem_delivery_duration_seconds_count 5.0" in text
    names = Counter(one["event"] for one in logs)
    assert names["webhook_endpoint_failing"] == names["webhook_endpoint_recovered"] == 1
    everything = text + repr(logs) + repr(store.rows)
    assert not any(secret in everything for secret in ("s3cr3t", "t0ken", SECRET[6:]))


async def test_store_trouble_before_a_retry_costs_no_attempt() -> None:
    """A retry whose event cannot be read waits a moment and is made then; only real attempts are counted."""
    store, clock = MemoryStore(), ManualClock()
    async with (
        Receiver(lambda *_: 500).serve() as receiver,
        dispatching(store, config(receiver.url), clock=clock) as dispatcher,
    ):
        dispatcher.publish(store.append(event(1)))
        await until(lambda: store.state(1) == "pending")
        receiver.answer = None
        store.refuse = 1
        await clock.advance(6.1)
        await until(lambda: store.refuse == 0)
        assert receiver.ids == ["e1"]
        await until(lambda: store.state(1) == "delivered", lambda: clock.advance(1))
    assert store.rows["hook", 1].tries == 2


@pytest.mark.parametrize("trouble", [False, True])
async def test_attempt_that_was_only_beginning_when_the_endpoint_was_disabled(trouble: bool) -> None:
    """A retry that is still reading its event when a 410 comes is not sent any more: it is a dead letter."""
    store, clock = MemoryStore(), ManualClock()
    reading, go = asyncio.Event(), asyncio.Event()
    read = store.read

    async def slow(*args: Any) -> list[Any]:
        reading.set()
        await go.wait()
        if trouble and not store.refuse:
            store.refuse = 1
        return await read(*args)

    async with (
        Receiver(lambda request, name: 500 if name == "e1" else 410).serve() as receiver,
        dispatching(store, config(receiver.url), clock=clock) as dispatcher,
    ):
        dispatcher.publish(store.append(event(1, "jobs/1")))
        await until(lambda: store.state(1) == "pending")
        store.read = slow  # type: ignore[method-assign]
        await clock.advance(6.1)
        await reading.wait()
        dispatcher.publish(store.append(event(2, "jobs/2")))
        await until(lambda: dispatcher.status()[0].disabled is not None)
        go.set()
        await until(lambda: store.state(1) == "dead", lambda: clock.advance(1))
    assert receiver.ids == ["e1", "e2"]
    assert store.attempts(1)[-1]["error"] == "the endpoint is disabled"
