"""One write per connection for what belongs together, whoever gets it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import pytest
import uvloop

from gateway.stream import framing, hub, outlet, ring
from tests.stream.fakes import FakeStore
from tests.stream.test_edges import connect, surroundings
from tests.stream.test_interleavings import Wire


class Counting(Wire):
    """Counts writes, takes everything at once, and remembers the bytes objects."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes, /) -> None:
        self.writes.append(data)


async def _turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_events_of_one_turn_are_one_write() -> None:
    """Two commits in one turn of the loop: one write a connection, and all connections are handed the same bytes."""
    around = surroundings(FakeStore())
    wires = [Counting() for _ in range(3)]
    for wire in wires:
        connect(around, wire)
    await _turns()
    for wire in wires:
        wire.writes.clear()
    _publish(around, 1)
    _publish(around, 2)
    await _turns()
    (first,) = wires[0].writes
    assert all(len(wire.writes) == 1 and wire.writes[0] is first for wire in wires)
    assert first.count(b'"specversion"') == 3
    around.hub.close()


async def test_a_connection_with_more_to_say_gets_its_own_bytes() -> None:
    """What one connection has waiting beside the event goes to that one alone, in order."""
    around = surroundings(FakeStore())
    wires = [Counting() for _ in range(3)]
    connections = [connect(around, wire) for wire in wires]
    await _turns()
    for wire in wires:
        wire.writes.clear()
    connections[1].tell("stream.pong", {})
    _publish(around, 1)
    await _turns()
    counts = [[data.count(b"stream.pong") for data in wire.writes] for wire in wires]
    assert counts == [[0], [1], [0]]
    assert wires[1].writes[0].endswith(wires[0].writes[0])
    assert wires[2].writes == wires[0].writes
    around.hub.close()


async def test_many_connections_gather_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a write to everybody takes long, an event of the next turn goes out with it; nothing is left lying."""
    monkeypatch.setattr(hub, "_MANY", 2)
    monkeypatch.setattr(hub, "_GATHER", 0.02)
    around = surroundings(FakeStore())
    wires = [Counting() for _ in range(2)]
    for wire in wires:
        connect(around, wire)
    await _turns()
    for wire in wires:
        wire.writes.clear()
    _publish(around, 1)
    await _turns()
    assert not wires[0].writes
    _publish(around, 1)
    async with asyncio.timeout(5):
        while not wires[-1].writes:
            await asyncio.sleep(0.001)
    assert [wire.writes[0].count(b'"specversion"') for wire in wires] == [2, 2]
    _publish(around, 1)
    around.hub.close()
    await asyncio.sleep(0.03)
    assert [len(wire.writes) for wire in wires] == [1, 1]


def _publish(around: Any, count: int) -> None:
    around.hub.publish([around.store.append("task.progressed") for _ in range(count)])


async def test_an_event_that_cannot_be_shown_fails_where_it_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a callback that nobody waits for, where it once would have kept the hub from ever writing again."""
    around = surroundings(FakeStore())
    wire = Counting()
    connect(around, wire)
    await _turns()
    wire.writes.clear()
    with monkeypatch.context() as patch:
        patch.setattr(ring.Entry, "frame", lambda self, form: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _publish(around, 1)
    _publish(around, 1)
    await _turns()
    around.hub.close()
    assert _said(wire) == ["task.progressed"]


def _on_each_loop(test: Callable[[], Awaitable[None]]) -> Callable[..., None]:
    """On asyncio's own loop and on the one that the gateway runs on, whose transports are not of asyncio's types."""

    @pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    @wraps(test)
    def run(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(test())  # type: ignore[arg-type]

    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would take it for a coroutine without parameters
    return run


@asynccontextmanager
async def _peer() -> AsyncIterator[tuple[asyncio.WriteTransport, socket.socket]]:
    """A TCP transport with small buffers and the blocking socket at its other end."""
    accepted: asyncio.Future[asyncio.WriteTransport] = asyncio.get_running_loop().create_future()

    class Accept(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
            accepted.set_result(transport)  # type: ignore[arg-type]

    server = await asyncio.get_running_loop().create_server(Accept, "127.0.0.1", 0)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    try:
        await asyncio.to_thread(client.connect, server.sockets[0].getsockname())
        transport = await accepted
        yield transport, client
        transport.abort()
    finally:
        client.close()
        server.close()
        await server.wait_closed()


def _read(client: socket.socket, last: int) -> list[dict[str, Any]]:
    """The messages up to the event of a position, which has come to its end."""
    data = b""
    while True:
        piece = client.recv(65536)
        data += piece
        if not piece or f"{last:020d}".encode() in data:
            payloads = [payload for _, payload in framing.payloads(data)]
            with contextlib.suppress(ValueError):  # a part of the last one is still on its way
                return [json.loads(payload) for payload in payloads]
            assert piece, "the connection ended within a message"


@_on_each_loop
async def test_what_the_operating_system_does_not_take_at_once_is_sent_later_in_order() -> None:
    """Past the lane, straight to the socket: a part of a frame, then nothing at all; every frame arrives whole, once."""
    async with _peer() as (transport, client):
        around = surroundings(FakeStore())
        connect(around, transport)
        await _turns()
        count = 200
        for _ in range(count):
            around.hub.publish([around.store.append("task.updated", pad=3000)])  # type: ignore[list-item,arg-type,attr-defined]
            await _turns()
        bodies = await asyncio.to_thread(_read, client, count)
        around.hub.close()
    assert [body["type"] for body in bodies[:2]] == ["stream.subscribed", "stream.synced"]
    assert [body["sequence"] for body in bodies[2:]] == [f"{number:020d}" for number in range(1, count + 1)]


@_on_each_loop
async def test_a_socket_that_is_gone_takes_nobody_along() -> None:
    """The peer resets its connection: it is forgotten, and those before and behind it get what they are owed."""
    async with _peer() as (transport, client):
        around = surroundings(FakeStore())
        before, behind = Counting(), Counting()
        connect(around, before)
        gone = connect(around, transport)
        connect(around, behind)
        await _turns()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.to_thread(client.close)
        before.writes.clear()
        behind.writes.clear()
        _publish(around, 1)
        around.hub._flush()  # before the loop hears of the reset
        assert gone.ended
        assert [len(wire.writes) for wire in (before, behind)] == [1, 1]
        around.hub.close()


@_on_each_loop
async def test_a_descriptor_is_used_only_where_bytes_go_out_as_they_are() -> None:
    """TLS, and outlets that are no transports, are written to by their own methods."""
    async with _peer() as (transport, _):
        assert outlet.descriptor(transport) == transport.get_extra_info("socket").fileno() >= 0

    class Tls(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return object()

    assert outlet.descriptor(Tls()) == -1  # type: ignore[arg-type]
    assert outlet.descriptor(Counting()) == -1


async def test_who_comes_and_goes_within_a_turn_gets_what_is_theirs() -> None:
    """An event is for those who were there when it was published, in the place where it was."""
    around = surroundings(FakeStore())
    leaving, staying, coming = Counting(), Counting(), Counting()
    gone, stays = connect(around, leaving), connect(around, staying)
    await _turns()
    leaving.writes.clear()
    staying.writes.clear()
    _publish(around, 1)
    gone.unsubscribe("default")
    stays.tell("stream.pong", {})
    connect(around, coming)
    _publish(around, 1)
    await _turns()
    around.hub.close()
    assert _said(leaving) == ["task.progressed", "stream.unsubscribed"]
    assert _said(staying) == ["task.progressed", "stream.pong", "task.progressed"]
    assert _said(coming) == ["stream.subscribed", "stream.synced", "task.progressed"]


def _said(wire: Counting) -> list[str]:
    return [json.loads(payload)["type"] for data in wire.writes for _, payload in framing.payloads(data)]
