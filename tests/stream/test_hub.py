"""One write per connection for what belongs together, whoever gets it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.stream import hub
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
