"""What a connection leaves behind is freed by reference counts: the search for garbage does not look at what has come to stay."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

from tests.garbage import circles
from tests.stream.fakes import House, house

Client = Callable[[House], Awaitable[None]]

_UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
_SSE = "Accept: text/event-stream\r\n"


def client(query: str, headers: str, leave: str, *frames: bytes) -> Client:
    """Connects, says something, reads a little, and leaves: by a close frame, a reset, or without a word."""

    async def visit(gateway: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.server.port)
        writer.write(f"GET /v1/stream{query} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() + b"".join(frames))
        await reader.read(100)
        if leave == "close":
            writer.write(b"\x88\x82\0\0\0\0\x03\xe8")
            await reader.read()
        elif leave == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    return visit


def command(text: str) -> bytes:
    """A masked text frame."""
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text.encode()


CLIENTS = {
    "live, closed": client("", _UPGRADE, "close"),
    "live, reset": client("", _UPGRADE, "reset"),
    "live, gone": client("", _UPGRADE, "drop"),
    "replay, closed": client("?after=0", _UPGRADE, "close"),
    "replay, reset": client("?after=0", _UPGRADE, "reset"),
    "replay, gone": client("?after=0", _UPGRADE, "drop"),
    "snapshot, reset": client("?snapshot=true", _UPGRADE, "reset"),
    "server-sent events": client("", _SSE, "drop"),
    "server-sent events, replay": client("?after=0", _SSE, "reset"),
    "refused": client("?token=nonsense", _UPGRADE, "drop"),
    "subscriptions": client(
        "", _UPGRADE, "drop",
        command('{"op":"subscribe","id":"a","filter":{},"after":"0"}'), command('{"op":"unsubscribe","id":"a"}'),
        command('{"op":"subscribe","id":"b","filter":{"kind":["x"]}}'), command('{"op":"nonsense"}'),
    ),
    "a token later": client("?subscribe=none", _UPGRADE, "reset", command('{"op":"authenticate","token":"admin"}')),
}  # fmt: skip


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "queued"])
@pytest.mark.parametrize("kind", CLIENTS)
async def test_who_has_left_is_no_garbage(kind: str, direct: bool) -> None:
    """However they came and went."""
    async with house(direct=direct) as gateway:
        for _ in range(300):
            gateway.publish("task.updated")
        await CLIENTS[kind](gateway)  # whatever is made once is made now
        await gateway.until_empty()
        before = asyncio.all_tasks()
        async with circles() as found:
            for _ in range(5):
                await CLIENTS[kind](gateway)
            await gateway.until_empty()
            ending = asyncio.all_tasks() - before
            if ending:
                await asyncio.wait(ending, timeout=10)
            del ending
    assert found == {}
