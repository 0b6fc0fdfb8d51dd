"""Deliveries survive kill -9: with the real store, in a process of its own."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
from aiohttp import web

from gateway.clock import SystemClock
from gateway.metrics import Metrics
from gateway.store.api import Batch, Deliveries
from gateway.store.sqlite import SqliteStore
from tests.store.samples import read
from tests.webhooks.child import draft
from tests.webhooks.fakes import DEADLINE, Receiver, config, dispatching, until

ROOT = Path(__file__).parents[2]
KILLS = 3


async def spawn(*arguments: object) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "tests.webhooks.child", *map(str, arguments)]
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL)


async def test_kill_9_loses_nothing(tmp_path: Path) -> None:
    """Killed again and again amid deliveries and retries: every committed event is accepted at least once under its own id,
    the events of a task for the first time in sequence, and what arrives twice was in flight or not yet written down."""
    rng = random.Random(11)
    accepted: list[str] = []

    def answer(request: web.Request, name: str) -> int:
        if rng.random() < 0.2:
            return 500
        accepted.append(name)
        return 200

    path = tmp_path / "log.db"
    async with Receiver(answer).serve() as receiver:
        first = 0
        for _ in range(KILLS):
            child = await spawn(path, receiver.url, 5000, first)
            seen = len(receiver.received)
            await receiver.wait(seen + rng.randint(100, 300))
            child.kill()
            await child.wait()
            first += 5000
        child = await spawn(path, receiver.url, 10, first)
        async with asyncio.timeout(6 * DEADLINE):
            assert await child.wait() == 0

    store = SqliteStore(path, durability="process", clock=SystemClock(), metrics=Metrics())
    await store.open()
    committed = await read(store, 0, 100_000)
    pending = await store.deliveries("hook", "pending")
    delivered = await store.deliveries("hook", "delivered", limit=100_000)
    await store.close()
    assert len(committed) > KILLS * 100
    assert {event.id for event in committed} == set(accepted)
    assert (len(pending), len(delivered)) == (0, len(committed))
    order = {event.id: (event.sequence, event.task) for event in committed}
    by_task: dict[str | None, list[int]] = defaultdict(list)
    for name in dict.fromkeys(accepted):
        by_task[order[name][1]].append(order[name][0])
    assert all(sequences == sorted(sequences) for sequences in by_task.values())
    assert sum(count - 1 for count in Counter(accepted).values()) <= KILLS * (8 + 64)


async def test_rows_in_the_real_store(tmp_path: Path) -> None:
    """What the rows hold comes back from the store as it was written; retention keeps an endpoint's own row."""
    store = SqliteStore(tmp_path / "log.db", durability="process", clock=SystemClock(), metrics=Metrics())
    await store.open()
    async with Receiver(lambda request, name: 500 if name == "e0" else 200).serve() as receiver:
        async with dispatching(store, config(receiver.url)) as dispatcher:
            committed = await store.append(Batch([draft(n) for n in (0, 1, 13)]))
            dispatcher.publish(committed.events)
            await until(lambda: dispatcher.status()[0].position == 3)
            await dispatcher.drain(5)
        rows = await store.deliveries("hook")
        assert [(row.event_id, row.state, row.tries) for row in rows] == [
            ("e0", "pending", 1), ("e1", "delivered", 1), ("e13", "pending", 0),
        ]  # fmt: skip
        assert msgspec.json.decode(rows[0].attempts)[0]["status"] == 500

        receiver.answer = lambda request, name: 410
        rows[0].due = 0.0
        await store.deliver(Deliveries([rows[0]]))
        await store.append(Batch([draft(2)]))
        async with dispatching(store, config(receiver.url)) as dispatcher:
            await until(lambda: dispatcher.status()[0].dead == 3)
        await store.trim(4_000_000_000.0)
        async with dispatching(store, config(receiver.url)) as dispatcher:
            assert dispatcher.status()[0].disabled == "it answered 410"
    await store.close()
