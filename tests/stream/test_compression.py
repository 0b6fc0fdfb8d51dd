"""permessage-deflate over real sockets: agreed on only where it is switched on, and compressed once for everybody."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.stream import framing
from gateway.stream.handshake import SharedCompression
from tests.stream.clients import Client, check, sequences, ws
from tests.stream.fakes import house

EXTENSIONS = "Sec-WebSocket-Extensions"
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
#: More than a message of this many characters is compressed.
PAD = framing.SMALL


def extensions(client: Client) -> str | None:
    """What the server has agreed to."""
    assert client.socket.response is not None
    return client.socket.response.headers.get(EXTENSIONS)


async def test_shared() -> None:
    """The client inflates events, and compresses what it says itself."""
    async with house(compression=True) as gateway, ws(gateway.url()) as client:
        assert extensions(client) == AGREED
        await client.until("stream.synced")
        made = [gateway.publish("task.progressed", pad=PAD) for _ in range(20)]
        events = [await client.next() for _ in made]
        assert events == [json.loads(item.body) for item in made]
        await client.send(op="subscribe", id="x" * 100, filter={"task": [f"studio/{index}" for index in range(99)]})
        assert (await client.until("stream.synced"))[-1]["data"]["id"] == "x" * 100


@pytest.mark.parametrize("compression", [False, True])
async def test_aiohttp_client(compression: bool) -> None:
    """The same with another client's inflating; switched off, its offer is not taken up."""
    async with (
        house(compression=compression) as gateway,
        aiohttp.ClientSession() as session,
        session.ws_connect(gateway.url(), compress=15) as socket,
    ):
        assert bool(socket.compress) is compression
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["type"] != "stream.synced":
            seen.append(check(await socket.receive_json(timeout=5)))
        gateway.publish_many([("task.progressed", "studio/1"), ("task.succeeded", "studio/1")], pad=PAD)
        seen = [check(await socket.receive_json(timeout=5)) for _ in range(2)]
        assert sequences(seen) == [1, 2]
        await socket.send_str(json.dumps({"op": "ping"}))
        assert check(await socket.receive_json(timeout=5))["type"] == "stream.pong"


async def test_off_and_unable() -> None:
    """Nothing is agreed on where it is off, where the client does not offer it, or where frames go through aiohttp."""
    async with house() as gateway, ws(gateway.url()) as client:
        assert extensions(client) is None
    async with house(compression=True) as gateway, ws(gateway.url(), compression=None) as client:
        assert extensions(client) is None
        await client.until("stream.synced")
        gateway.publish("task.started", pad=PAD)
        assert (await client.next())["type"] == "task.started"
    async with house(compression=True, direct=False) as gateway, ws(gateway.url()) as client:
        assert extensions(client) is None
        await client.until("stream.synced")
        gateway.publish("task.started", pad=PAD)
        assert (await client.next())["type"] == "task.started"


async def test_once_per_event_and_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five connections with two views: two compressions an event, and the progress view stays the progress view."""
    compressed: list[bytes] = []
    real = framing._compress
    monkeypatch.setattr(framing, "_compress", lambda body: (compressed.append(body), real(body))[1])
    monkeypatch.setattr(framing, "SMALL", 0)
    async with house(compression=True) as gateway:
        clients = []
        async with asyncio.timeout(10), AsyncExitStack() as stack:
            for token in ("full", "full", "full", "progress", "progress"):
                client = await stack.enter_async_context(ws(gateway.url(f"token={token}&task=studio/1")))
                await client.until("stream.synced")
                clients.append(client)
            compressed.clear()
            gateway.publish("task.progressed", pad=PAD)
            events = [await client.next() for client in clients]
            assert len(compressed) == 2
            assert [event["data"]["redacted"] for event in events] == [False, False, False, True, True]
            assert "secret-input" not in json.dumps(events[3])


async def test_replay_and_snapshot() -> None:
    """What is not live is compressed the same way."""
    async with house(compression=True) as gateway:
        for _ in range(30):
            gateway.publish("task.progressed", pad=PAD)
        async with ws(gateway.url("after=0")) as client:
            assert sequences(await client.until("stream.synced")) == list(range(1, 31))
        async with ws(gateway.url("snapshot=true")) as client:
            assert "task.snapshot" in [event["type"] for event in await client.until("stream.synced")]


async def test_a_small_message_that_inflates_beyond_the_limit() -> None:
    """The limit of 64 KiB is one of the inflated message: 1009."""
    async with house(compression=True) as gateway, ws(gateway.url()) as client:
        await client.until("stream.synced")
        await client.socket.send(" " * 1_000_000)
        code, _ = await client.closed()
        assert code == 1009


def test_another_handshake_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were aiohttp's handshake to answer something else, nothing would be added to it."""
    monkeypatch.setattr(web.WebSocketResponse, "_handshake", lambda self, request: ("something", "else"))
    request = make_mocked_request("GET", "/", headers={EXTENSIONS: "permessage-deflate"})
    assert SharedCompression(compress=False)._handshake(request) == ("something", "else")
