"""Clients that do not keep up, and the end of the process."""

from __future__ import annotations

import asyncio
import socket as sockets
import time
from collections import deque
from typing import Any

import pytest

from gateway.stream import framing
from gateway.stream.connection import Connection
from tests.stream.clients import Client, sequences, sse, types, ws
from tests.stream.fakes import House, house

BUFFER = 64 * 1024


def throttle(gateway: House) -> None:
    """Small kernel buffers for connections made from now on, so that a stalled client is felt soon."""
    assert gateway.server.runner is not None
    for site in gateway.server.runner.sites:
        for listener in site._server.sockets:  # type: ignore[attr-defined]
            listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, 4096)


async def stalled(gateway: House, query: str = "", *, accept: str | None = None) -> tuple[Any, Any]:
    """Connects with a small receive buffer, and never reads."""
    raw = sockets.socket()
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", gateway.server.port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1024)
    head = f"GET /v1/stream?{query} HTTP/1.1\r\nHost: x\r\n"
    if accept is None:
        head += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        head += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    else:
        head += f"Accept: {accept}\r\n"
    writer.write(head.encode() + b"\r\n")
    async with asyncio.timeout(5):
        while not gateway.service.connections or not gateway.hub.index:
            await asyncio.sleep(0)
    writer.transport.pause_reading()
    return reader, writer


@pytest.mark.parametrize("accept", [None, "text/event-stream"])
async def test_a_client_that_never_reads_is_cut(accept: str | None) -> None:
    """It costs bounded memory, is closed with 4208, and nobody else notices."""
    async with house(buffer=BUFFER, grace=0.2, silence=1, ping=60) as gateway:
        throttle(gateway)
        _, writer = await stalled(gateway, accept=accept)
        (connection,) = gateway.service._connections
        greatest = 0
        async with ws(gateway.url()) as healthy:
            await healthy.until("stream.synced")
            count = 0
            async with asyncio.timeout(10):
                while not connection.ended:
                    gateway.publish("task.started", pad=1000)
                    count += 1
                    await asyncio.sleep(0)
                    greatest = max(greatest, connection.lane.size + connection.outlet.get_write_buffer_size())
            assert greatest < BUFFER + 8192
            assert sequences([await healthy.next() for _ in range(count)]) == list(range(1, count + 1))
            async with asyncio.timeout(20):  # for the silence of one that never says anything, its close is held back
                while not gateway.metrics.stream_closed.labels("4208")._value.get():
                    await asyncio.sleep(0.01)
            assert connection.outlet.is_closing()
        writer.transport.abort()


async def test_a_client_that_reads_again_is_told_why() -> None:
    """Cut while it stalled for longer than a close takes otherwise; it reads on and finds 4208 behind what was sent before.

    Such clients once saw the connection end in the middle of a frame, with 1006, and could not know that they were too slow.
    """
    async with house(buffer=BUFFER, grace=0.05) as gateway:
        throttle(gateway)
        async with ws(gateway.url(), max_queue=1) as client:
            await client.until("stream.synced")
            (connection,) = gateway.service._connections
            client.socket.transport.pause_reading()
            async with asyncio.timeout(10):
                while not connection.ended:
                    gateway.publish("task.started", pad=1000)
                    await asyncio.sleep(0)
            await asyncio.wait([asyncio.create_task(gateway.until_empty())], timeout=0.2)
            assert gateway.service.connections == 1
            client.socket.transport.resume_reading()
            code, seen = await client.closed()
            assert code == 4208
            assert seen[-1]["type"] == "stream.closing"
            assert seen[-1]["data"]["reconnect_after_ms"] == 0


async def test_progress_is_folded_and_the_end_arrives() -> None:
    """Thousands of progress events for a client that pauses: it is not cut, sees the newest of each task and every end."""
    async with house(buffer=BUFFER) as gateway:
        throttle(gateway)
        async with ws(gateway.url(), max_queue=1) as client:
            await client.until("stream.synced")
            (connection,) = gateway.service._connections
            client.socket.transport.pause_reading()
            async with asyncio.timeout(20):
                for n in range(3000):
                    gateway.publish("task.progressed", f"studio/{n % 5}")
                    await asyncio.sleep(0)
            assert not connection.ended
            assert connection.lane.unsent < BUFFER
            gateway.publish("task.checkpointed", "studio/1")
            for task in range(5):
                gateway.publish("task.succeeded", f"studio/{task}")
            client.socket.transport.resume_reading()
            seen: list[dict[str, Any]] = []
            while types(seen).count("task.succeeded") < 5:
                seen.append(await client.next())
            found = sequences(seen)
            assert found == sorted(set(found))
            skipped = sum(event["data"]["skipped"] for event in seen if event["type"] == "stream.conflated")
            assert skipped + len(found) == 3006
            assert skipped > 1000
            assert gateway.metrics.stream_conflated._value.get() == skipped
            for place, event in enumerate(seen):
                if event["type"] == "stream.conflated":
                    assert seen[place + 1]["partitionkey"] == event["data"]["task"]
            assert types(seen).count("task.checkpointed") == 1
        await gateway.until_empty()
        assert gateway.hub.backlogged == 0


async def test_cut_then_resume() -> None:
    """After 4208 the client comes back with `after` and misses nothing."""
    async with house(buffer=BUFFER, grace=2) as gateway:
        throttle(gateway)
        async with ws(gateway.url(), max_queue=1) as client:
            await client.until("stream.synced")
            (connection,) = gateway.service._connections
            client.socket.transport.pause_reading()
            async with asyncio.timeout(10):
                while not connection.ended:
                    gateway.publish("task.started", pad=500)
                    await asyncio.sleep(0)
            client.socket.transport.resume_reading()
            code, seen = await client.closed()
            assert code == 4208
            assert seen[-1]["data"] == {"reason": "too_slow", "reconnect_after_ms": 0, "code": 4208}
        last = max(sequences(seen), default=0)
        assert sequences(seen) == list(range(1, last + 1))
        async with ws(gateway.url(f"after={last}")) as client:
            assert sequences(await client.until("stream.synced")) == list(range(last + 1, gateway.store.head + 1))


async def test_a_burst_is_not_slowness() -> None:
    """More than the buffer at once, to a client that reads: everything arrives."""
    async with house(buffer=8192) as gateway, ws(gateway.url()) as client, sse(gateway.url("", "http")) as other:
        await client.until("stream.synced")
        await other.until("stream.synced")
        gateway.publish_many([("task.started", f"studio/{n}") for n in range(100)], pad=500)
        assert sequences([await client.next() for _ in range(100)]) == list(range(1, 101))
        assert [int((await other.next())["id"]) for _ in range(100)] == list(range(1, 101))


async def test_a_replay_waits_for_its_client() -> None:
    """A client that stalls in a replay larger than its buffer is not cut for it, and not sent more than it takes."""
    async with house(buffer=BUFFER) as gateway:
        throttle(gateway)
        for _ in range(1000):
            gateway.publish("task.progressed", pad=1000)
        async with ws(gateway.url("after=0"), max_queue=1) as client:
            await client.next()
            client.socket.transport.pause_reading()
            (connection,) = gateway.service._connections
            await until_stuck(connection)
            assert connection.subscriptions["default"].position < 1000
            assert connection.lane.unsent < BUFFER
            client.socket.transport.resume_reading()
            assert sequences(await client.until("stream.synced")) == list(range(1, 1001))


async def until_stuck(connection: Connection) -> None:
    """Waits until the replay has not moved for a while."""
    places: deque[int] = deque(maxlen=20)
    async with asyncio.timeout(5):
        while len(places) < 20 or len(set(places)) > 1:
            places.append(connection.subscriptions["default"].position)
            await asyncio.sleep(0.005)


async def test_stalled_without_traffic() -> None:
    """A peer that leaves a few bytes untaken for long is dropped even where nothing more is sent."""
    async with house(silence=0.2, heartbeat=60, buffer=BUFFER) as gateway:
        throttle(gateway)
        _, writer = await stalled(gateway, accept="text/event-stream")
        (connection,) = gateway.service._connections
        async with asyncio.timeout(5):
            while connection.lane.unsent < BUFFER // 2:
                gateway.publish("task.started", pad=200)
                await asyncio.sleep(0)
        await gateway.until_empty()
        assert connection.ending is None
        writer.transport.abort()


# --- drain ------------------------------------------------------------------------------------------------------------


async def test_a_replay_of_events_larger_than_the_buffer() -> None:
    """Who reads them is not slow: one of them more than the limit may wait. They cost a connection each, once."""
    async with house(buffer=BUFFER) as gateway:
        throttle(gateway)
        for _ in range(40):
            gateway.publish("task.updated", pad=2 * BUFFER)
        async with ws(gateway.url("after=0")) as client:
            seen = await client.until("stream.synced")
    assert sequences(seen) == list(range(1, 41))


_MASK = bytes(4)


@pytest.mark.parametrize(
    ("frame", "codes"),
    [
        (b"\x81\x82" + _MASK + b"\xff\xff", [1007]),
        (b"\x83\x80" + _MASK, [1002]),
    ],
    ids=["no text", "no opcode"],
)
@pytest.mark.parametrize("too_slow", [False, True])
async def test_nothing_follows_a_close_frame(frame: bytes, codes: list[int], too_slow: bool) -> None:
    """A client that does not read breaks the protocol while events go on: once there were two answers, and text between."""
    async with house(buffer=BUFFER, grace=5) as gateway:
        throttle(gateway)
        reader, writer = await stalled(gateway)
        (connection,) = gateway.service._connections
        while connection.outlet.get_write_buffer_size() < (2 * BUFFER if too_slow else 1) and not connection.ended:
            gateway.publish("task.started", pad=1000)
            await asyncio.sleep(0)
        writer.write(frame)
        async with asyncio.timeout(5):
            while not connection.ended:
                await asyncio.sleep(0)
        for _ in range(100):
            gateway.publish("task.started", pad=1000)
            await asyncio.sleep(0)
        writer.transport.resume_reading()
        async with asyncio.timeout(10):
            data = await reader.read()
        writer.transport.abort()
    frames = framing.payloads(data.partition(b"\r\n\r\n")[2])
    closes = [int.from_bytes(payload[:2], "big") for opcode, payload in frames if opcode == 8]
    assert closes == ([4208] if too_slow else codes)
    assert frames[-1][0] == 8


async def test_who_says_goodbye_and_takes_nothing_is_dropped() -> None:
    """The rest of what it asked for waited in its transport for ever, beyond every limit."""
    async with house(buffer=BUFFER, grace=0.2) as gateway:
        throttle(gateway)
        _, writer = await stalled(gateway)
        (connection,) = gateway.service._connections
        while not connection.outlet.get_write_buffer_size():
            gateway.publish("task.started", pad=1000)
            await asyncio.sleep(0)
        writer.write(b"\x88\x82" + _MASK + b"\x03\xe8")
        await gateway.until_empty()
        async with asyncio.timeout(10):
            while connection.outlet.get_write_buffer_size():
                await asyncio.sleep(0.01)
        writer.transport.abort()


async def test_after_a_drain_nobody_is_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shutdown with clients that did not go took the time for it twice, and longer than it may."""

    async def again(window: float) -> None:
        raise AssertionError("it was drained before")

    async with house() as gateway:
        await gateway.service.drain(0)
        monkeypatch.setattr(gateway.service, "drain", again)
        await gateway.service.close()


async def test_drain() -> None:
    """Everybody is told when to come back, all differently, and closed with 1001 within the window; nobody new comes in."""
    async with house(grace=1) as gateway:
        clients = [ws(gateway.url()) for _ in range(20)]
        opened = [await client.__aenter__() for client in clients]
        for client in opened:
            await client.until("stream.synced")
        gateway.publish("task.succeeded")
        began = time.monotonic()
        draining = asyncio.create_task(gateway.service.drain(0.4))
        await asyncio.sleep(0)
        with pytest.raises(Exception, match="503"):
            await ws(gateway.url()).__aenter__()
        ends = []

        async def watch(client: Client) -> tuple[int, list[dict[str, Any]]]:
            result = await client.closed()
            ends.append(time.monotonic() - began)
            return result

        results = await asyncio.gather(*(watch(client) for client in opened))
        await draining
        assert {code for code, _ in results} == {1001}
        assert all(types(seen) == ["task.succeeded", "stream.closing"] for _, seen in results)
        waits = {seen[-1]["data"]["reconnect_after_ms"] for _, seen in results}
        assert len(waits) > 10
        assert max(ends) - min(ends) > 0.2
        assert gateway.service.connections == 0
        for client in clients:
            await client.__aexit__(None, None, None)


async def test_events_flow_until_the_end() -> None:
    """While others are being drained, those who are still there get their events."""
    async with house() as gateway, ws(gateway.url()) as one, ws(gateway.url()) as two:
        await one.until("stream.synced")
        await two.until("stream.synced")
        draining = asyncio.create_task(gateway.service.drain(0.2))
        async with asyncio.timeout(5):
            while gateway.service.connections > 1 and not any(item.ended for item in gateway.service._connections):
                await asyncio.sleep(0)
        gateway.publish("task.succeeded")
        results = [await one.closed(), await two.closed()]
        assert sorted(len(seen) for _, seen in results) == [1, 2]
        await draining
