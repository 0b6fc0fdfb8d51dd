"""What the end-to-end tests share: configuration files, a client of the stream, and a backend that takes webhooks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from schemas.event import validate

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
QUICK = {"reconnect": {"initial": 0.02, "max": 0.2}}


def write(directory: Path, **sections: Any) -> Path:
    """A configuration file; JSON is YAML."""
    path = directory / "config.yaml"
    path.write_text(json.dumps({"server": {"port": 0, "drain_timeout": 2}, **sections}))
    return path


class Stream:
    """A WebSocket client that validates every message and remembers the events."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []

    async def next(self) -> dict[str, Any]:
        """The next message."""
        message = await self.socket.receive(timeout=20)
        assert message.type is aiohttp.WSMsgType.TEXT, f"the stream ended: {message}, {self.socket.close_code}"
        event: dict[str, Any] = json.loads(message.data)
        validate(event)
        self.events.append(event)
        return event

    async def until(self, wanted: Callable[[dict[str, Any]], bool] | str) -> dict[str, Any]:
        """The next message that is wanted: of a type, or by a predicate."""
        matches = (lambda event: event["type"] == wanted) if isinstance(wanted, str) else wanted
        while True:
            event = await self.next()
            if matches(event):
                return event

    def of_task(self, task_id: str) -> list[dict[str, Any]]:
        """The events of a task so far."""
        return [event for event in self.events if event.get("subject") == task_id and event["type"].startswith("task.")]


@asynccontextmanager
async def listening(url: str, query: str = "after=0") -> AsyncIterator[Stream]:
    """A connection to the stream."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/v1/stream?{query}") as socket:
        yield Stream(socket)


async def get(url: str) -> Any:
    """The JSON at a URL."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.json(content_type=None)


async def log_of(url: str) -> list[dict[str, Any]]:
    """Every event in the log, validated."""
    events: list[dict[str, Any]] = []
    after = ""
    while True:
        page = await get(f"{url}/v1/events?limit=1000&after={after}")
        events += page["items"]
        after = page["next"]
        if not after:
            break
    for event in events:
        validate(event)
    return events


class Backend:
    """Takes webhooks, and answers as told."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self._news = asyncio.Condition()
        self.url = ""

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        async with self._news:
            self.requests.append(({name.lower(): value for name, value in request.headers.items()}, body))
            self._news.notify_all()
        return web.Response(status=self.status)

    async def received(self, count: int) -> None:
        """Returns once there were so many requests."""
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(lambda: len(self.requests) >= count)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Backend]:
        """Listens on loopback."""
        app = web.Application()
        app.router.add_post("/hooks", self._receive)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
        try:
            yield self
        finally:
            await runner.cleanup()
