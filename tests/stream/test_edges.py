"""What happens at the edges: peers that vanish mid-write, rights that change mid-snapshot, limits of the process."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import aiohttp
import pytest

from gateway.access import Grant
from gateway.clock import SystemClock
from gateway.metrics import Metrics
from gateway.stream import connection as connections
from gateway.stream import framing, hub, outlet
from gateway.stream.settings import StreamSettings
from schemas.filter import Filter
from tests.stream.clients import ws
from tests.stream.fakes import FakeStore, house, snapshot_data
from tests.stream.test_interleavings import Wire

FULL = Grant(holder="x", scopes=frozenset({"events:read"}))


def surroundings(store: FakeStore) -> connections.Surroundings:
    made = hub.Hub(store, SystemClock(), Metrics())  # type: ignore[arg-type]
    made.start()
    return connections.Surroundings(made, store, SystemClock(), random.Random(1), snapshot_data, StreamSettings())  # type: ignore[arg-type]


def connect(around: connections.Surroundings, wire: Any, *, snapshot: bool = False) -> connections.Connection:
    made = connections.Connection(around, framing.WEBSOCKET, wire, "", lambda connection: None)
    made.entitle(FULL)
    made.subscribe("default", Filter(), None, snapshot=snapshot)
    return made


class Broken(Wire):
    """The peer went away between the look and the write."""

    def write(self, data: bytes, /) -> None:
        raise RuntimeError("the handler is closed")


async def test_a_peer_that_goes_mid_write_takes_nobody_along() -> None:
    """One connection's write fails: it is forgotten, the next one gets its event."""
    around = surroundings(FakeStore())
    broken, fine = connect(around, Broken()), connect(around, Wire())
    around.hub.publish([around.store.append("task.started")])  # type: ignore[list-item,arg-type]
    await asyncio.sleep(0)
    assert broken.ended
    assert not fine.ended
    assert fine.outlet.take()["type"] == "stream.subscribed"  # type: ignore[attr-defined]
    assert fine.outlet.take()["type"] == "stream.synced"  # type: ignore[attr-defined]
    assert fine.outlet.take()["type"] == "task.started"  # type: ignore[attr-defined]
    assert len(around.hub.index) == 1
    around.hub.close()


async def test_an_end_that_cannot_be_written() -> None:
    """Neither a closed outlet nor one that raises disturbs the end of a connection."""
    around = surroundings(FakeStore())
    broken, cut = connect(around, Broken()), connect(around, Wire())
    cut.outlet.abort()
    for connection in (broken, cut):
        connection.end(connections.stream.SHUTTING_DOWN)
        assert connection.ended
    broken = connect(around, Broken())
    broken.tick(around.clock.monotonic() + 21, 0)
    assert broken.ended
    around.hub.close()


async def test_rights_that_shrink_during_a_snapshot() -> None:
    """What a renewed token does not cover any more is not sent, although its page was read before."""
    store = FakeStore()
    for n in range(3):
        store.append("task.started", f"jobs/{n}")
    store.append("task.started", "studio/1")
    around = surroundings(store)
    wire = Wire()
    connection = connect(around, wire, snapshot=True)
    connection.entitle(Grant(holder="x", scopes=FULL.scopes, bounds=Filter(source=("studio",))))
    for _ in range(5):
        await asyncio.sleep(0)
    seen = [wire.take() for _ in range(len(wire.untaken))]
    assert [item["subject"] for item in seen if item["type"] == "task.snapshot"] == ["1"]
    around.hub.close()


async def test_queued_outlet_fails_quietly() -> None:
    """A peer that goes away during a send shows in `is_closing`; an aborted outlet holds nothing."""

    async def send(data: bytes) -> None:
        raise ConnectionResetError

    failing = outlet.QueuedOutlet(send, None, "stream-outlet")
    failing.write(b"x")
    async with asyncio.timeout(5):
        await failing.drained()
    assert failing.is_closing()
    await failing.close()

    async def never(data: bytes) -> None:
        await asyncio.Event().wait()

    stuck = outlet.QueuedOutlet(never, None, "stream-outlet")
    stuck.write(b"x")
    await asyncio.sleep(0)
    assert stuck.get_write_buffer_size() == 1
    stuck.abort()
    await stuck.close()
    assert stuck.is_closing()


async def test_the_process_is_full() -> None:
    """503, because it is not the client's fault."""
    async with house(connections=1) as gateway, ws(gateway.url()) as client, aiohttp.ClientSession() as session:
        await client.next()
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(gateway.url())
        assert caught.value.status == 503


async def test_a_drain_that_begins_during_an_upgrade() -> None:
    """Who was on the way in is told to come back."""
    async with house(open_door=False) as gateway:
        drained: list[asyncio.Task[None]] = []
        check = gateway.service._check_draining

        def checked() -> None:
            check()
            if not drained and gateway.tokens.asked:
                drained.append(asyncio.get_running_loop().create_task(gateway.service.drain(0)))

        gateway.service._check_draining = checked  # type: ignore[method-assign]
        async with ws(gateway.url("token=full")) as client:
            code, seen = await client.closed()
            assert code == 1001
            assert [event["type"] for event in seen][-1] == "stream.closing"
        await drained[0]


async def test_renewal_beyond_a_limit() -> None:
    """A renewal moves the connection to the new holder, whose limit counts; a scope that cannot listen ends it."""
    async with (
        house(open_door=False, per_holder=1) as gateway,
        ws(gateway.url("token=full")) as one,
        ws(gateway.url("token=admin")) as two,
    ):
        await one.next()
        await two.until("stream.synced")
        await two.send(op="authenticate", token="full")
        assert (await two.closed())[0] == 4129
        await one.send(op="authenticate", token="other")
        assert (await one.until("stream.closing"))[-1]["data"]["code"] == 4003
