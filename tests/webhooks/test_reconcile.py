"""The books are balanced: killed with SIGKILL over and over, what was committed, delivered, refused and stored agrees."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from gateway.clock import SystemClock
from gateway.metrics import Metrics
from gateway.store.api import DeliveryRow, LogEvent
from gateway.store.sqlite import SqliteStore
from gateway.webhooks import signing
from tests.store.samples import read
from tests.webhooks.fakes import DEADLINE, Receiver
from tests.webhooks.reconcile_child import TYPES

ROOT = Path(__file__).parents[2]
KILLS = 20
#: events that a process appends at most before it is killed; the last one appends few and finishes everything
MANY, FEW = 3_000, 30
#: the run from which on the dead receiver lives
REVIVED = 12
#: retries that are not exhausted while it is dead, however slow this machine is, and that do not keep the end waiting
PATIENT = [0.05, 0.1, 0.2, 0.5, *[2.0] * 28]


@dataclass
class Party:
    """An endpoint, the receiver behind it, and what that accepted: (run, id) in order of arrival."""

    name: str
    receiver: Receiver
    more: dict[str, Any]
    accepted: list[tuple[int, str]] = field(default_factory=list)
    forged: list[str] = field(default_factory=list)

    @property
    def secret(self) -> str:
        return signing.encode_secret(self.name.encode().ljust(32, b"."))

    def settings(self, run: int) -> dict[str, Any]:
        url = f"{self.receiver.url}?run={run}"
        common = {"name": self.name, "url": url, "secret": self.secret, "allow_private": True, "concurrency": 6}
        return common | {"retry_schedule": [0.02] * 32, "timeout": 5} | self.more


class World:
    """Receivers of several characters, seeded."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.run = 0
        self.parties = [
            self._party("good", lambda name: (200, 0)),
            self._party("flaky", lambda name: (200 if self.rng.random() < 0.7 else 503, self.rng.choice([0, 0, 0.01]))),
            self._party("slow", lambda name: (200, 0.02)),
            self._party("dead", lambda name: (200 if self.run >= REVIVED else 500, 0), retry_schedule=PATIENT),
            self._party("picky", lambda name: (200, 0), type=["task.succeeded"]),
            self._party(
                "hopeless", lambda name: (500 if int(name[1:]) % 7 == 0 else 200, 0), retry_schedule=[0.01, 0.01]
            ),
        ]

    def _party(self, name: str, character: Any, **more: Any) -> Party:
        async def answer(request: web.Request, event: str) -> int:
            body = await request.read()
            try:
                Webhook(party.secret).verify(body.decode(), dict(request.headers))
            except Exception:  # whatever a verifier objects to
                party.forged.append(event)
            status, delay = character(event)
            if status == 200:
                party.accepted.append(
                    (int(request.query["run"]), event)
                )  # it has decided, even if nobody hears the answer
            await asyncio.sleep(delay)
            return int(status)

        party = Party(name, Receiver(answer), more)
        return party


async def spawn(path: Path, count: int, first: int, world: World) -> asyncio.subprocess.Process:
    settings = json.dumps([party.settings(world.run) for party in world.parties])
    command = [sys.executable, "-m", "tests.webhooks.reconcile_child", str(path), str(count), str(first), settings]
    child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    async with asyncio.timeout(3 * DEADLINE):
        assert await child.stdout.readline() == b"ready\n"
    return child


async def stored(path: Path) -> tuple[list[LogEvent], dict[str, dict[str, DeliveryRow]]]:
    """The log, and the rows of each endpoint by the id of their event."""
    store = SqliteStore(path, durability="process", clock=SystemClock(), metrics=Metrics())
    await store.open()
    try:
        log = await read(store, 0, 1_000_000)
        rows = {
            name: {row.event_id: row for row in await store.deliveries(name, limit=1_000_000)}
            for name in await store.positions()
        }
    finally:
        await store.close()
    return log, rows


@pytest.mark.parametrize("seed", [7])
async def test_books_balance_after_many_kills(tmp_path: Path, seed: int) -> None:
    """Every committed event that an endpoint wants is accepted at least once or a dead letter; what is stored as delivered is
    never sent again, and without a crash nothing is sent twice; the events of a task arrive in sequence; all is signed."""
    world, path = World(seed), tmp_path / "log.db"
    settled: list[dict[str, set[str]]] = []  # after each run: what is stored as delivered or dead
    async with AsyncExitStack() as stack:
        for party in world.parties:
            await stack.enter_async_context(party.receiver.serve())
        for world.run in range(KILLS):
            child = await spawn(path, MANY, world.run * MANY, world)
            if wanted := world.rng.choice([0, 1, 5, 40, 80, 120]):  # 0: killed while it takes up its work
                receiver = world.rng.choice(world.parties[:3]).receiver  # of those that get much
                await receiver.wait(len(receiver.received) + wanted)
            child.kill()
            await child.wait()
            _, rows = await stored(path)
            settled.append(
                {
                    name: {id for id, row in of.items() if row.state in ("delivered", "dead")}
                    for name, of in rows.items()
                }
            )
        world.run = KILLS
        child = await spawn(path, FEW, KILLS * MANY, world)
        async with asyncio.timeout(6 * DEADLINE):
            assert await child.wait() == 0

    log, rows = await stored(path)
    assert len(log) > KILLS * 10
    duplicates = 0
    for party in world.parties:
        wanted_types = party.more.get("type", TYPES)
        committed = {event.id: event for event in log if event.type in wanted_types}
        accepted = {id for _, id in party.accepted}
        states = {id: row.state for id, row in rows[party.name].items()}
        dead = {id for id, state in states.items() if state == "dead"}
        assert states == {
            id: "dead" if id in dead else "delivered" for id in committed
        }  # a row for each, and none pending
        assert accepted == committed.keys() - dead
        assert dead == ({id for id in committed if int(id[1:]) % 7 == 0} if party.name == "hopeless" else set())
        assert party.forged == []

        assert len(set(party.accepted)) == len(party.accepted)  # in one run nothing is delivered twice
        for run, id in party.accepted:
            assert run == 0 or id not in settled[run - 1].get(
                party.name, ()
            )  # what is stored as settled is not sent again
        duplicates += len(party.accepted) - len(accepted)

        order: dict[str | None, list[int]] = defaultdict(list)
        for id in dict.fromkeys(id for _, id in party.accepted):
            order[committed[id].task].append(committed[id].sequence)
        assert all(sequences == sorted(sequences) for sequences in order.values())
    assert duplicates > 0, "no kill hit a delivery between its answer and its row: this test proves less than it says"
