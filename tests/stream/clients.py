"""Clients nobody here wrote, with the reading of the stream's messages around them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from schemas.event import validate
from schemas.stream import NOTICES


def check(event: dict[str, Any]) -> dict[str, Any]:
    """Every message is what the contract promises, to our models and to the CloudEvents SDK alike."""
    validate(event)
    if event["type"].startswith("stream."):
        NOTICES[event["type"]].model_validate(event["data"])
    body = json.dumps(event).encode()
    parsed = from_structured_event(HTTPMessage({"content-type": "application/cloudevents+json"}, body), JSONFormat())
    assert parsed.get_id() == event["id"]
    return event


class Client:
    """A WebSocket client."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def next(self, *, skip: tuple[str, ...] = ()) -> dict[str, Any]:
        """The next message whose type is not skipped."""
        while True:
            async with asyncio.timeout(5):
                event = check(json.loads(await self.socket.recv()))
            if event["type"] not in skip:
                return event

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """All messages up to and including the first of a type."""
        seen = []
        while True:
            seen.append(await self.next())
            if seen[-1]["type"] == kind:
                return seen

    async def send(self, **command: Any) -> None:
        """Sends a command."""
        await self.socket.send(json.dumps(command))

    async def closed(self) -> tuple[int, list[dict[str, Any]]]:
        """The close code, and what came before it."""
        seen: list[dict[str, Any]] = []
        with pytest.raises(ConnectionClosed) as caught:
            await self._read_on(seen)
        assert caught.value.rcvd is not None
        return caught.value.rcvd.code, seen

    async def _read_on(self, seen: list[dict[str, Any]]) -> None:
        while True:
            async with asyncio.timeout(5):
                seen.append(check(json.loads(await self.socket.recv())))

    def cut(self) -> None:
        """Drops the connection without a close frame."""
        self.socket.transport.abort()


@asynccontextmanager
async def ws(url: str, **options: Any) -> AsyncIterator[Client]:
    """Connects."""
    async with connect(url, proxy=None, max_size=None, **options) as socket:
        yield Client(socket)


class SSE:
    """An SSE response, read by the rules of the HTML standard."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.comments = 0

    async def next(self) -> dict[str, str]:
        """The fields of the next event; several `data` lines joined."""
        fields: dict[str, list[str]] = {}
        while True:
            async with asyncio.timeout(5):
                line = (await self.response.content.readline()).decode()
            if not line:
                raise EOFError
            line = line.rstrip("\n")
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                fields.setdefault(name, []).append(value)
            elif fields:
                joined = {name: "\n".join(values) for name, values in fields.items()}
                check(json.loads(joined["data"]))
                return joined

    async def until(self, kind: str) -> list[dict[str, str]]:
        """All events up to and including the first of a type."""
        seen = []
        while True:
            seen.append(await self.next())
            if seen[-1]["event"] == kind:
                return seen


@asynccontextmanager
async def sse(url: str, **headers: str) -> AsyncIterator[SSE]:
    """Asks for SSE."""
    async with aiohttp.ClientSession() as session:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        async with session.get(url, headers={"Accept": "text/event-stream", **headers}) as response:
            assert response.status == 200, await response.text()
            yield SSE(response)


def types(events: list[dict[str, Any]]) -> list[str]:
    """Their types."""
    return [event["type"] for event in events]


def sequences(events: list[dict[str, Any]]) -> list[int]:
    """Positions of those that are in the log."""
    return [int(event["sequence"]) for event in events if not event["type"].startswith(("stream.", "task.snapshot"))]
