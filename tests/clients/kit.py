"""What tests of foreign clients share: an upstream that speaks when told to, a started gateway, programs that may be missing."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.kit import QUICK, write
from tests.process import Process

#: Seconds that a browser may take to start, and anything else to happen.
PATIENCE = 45

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NODE = shutil.which("node")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"
)
needs_node = pytest.mark.skipif(NODE is None, reason="Node is not installed (Debian: apt-get install nodejs node-ws)")


def free_port() -> int:
    """A port that nobody uses now; for a gateway that has to come back at the same address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Upstream:
    """emit.run with one space."""

    def __init__(self) -> None:
        self._socket: web.WebSocketResponse | None = None
        self._joined = asyncio.Condition()
        self._said = 0
        self.url = ""

    async def _space(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async with self._joined:
            self._socket = socket
            self._joined.notify_all()
        async for _ in socket:
            pass
        async with self._joined:
            self._socket = None
            self._joined.notify_all()
        return socket

    async def left(self) -> None:
        """Returns once nobody is connected: what is said to a gateway that has gone is said to nobody."""
        async with asyncio.timeout(PATIENCE), self._joined:
            await self._joined.wait_for(lambda: self._socket is None)

    async def say(self, count: int) -> None:
        """Progress of one job, so many times, long enough to be compressed; waits for the gateway to be connected."""
        async with asyncio.timeout(PATIENCE), self._joined:
            await self._joined.wait_for(lambda: self._socket is not None)
        assert self._socket is not None
        for _ in range(count):
            self._said += 1
            data = {"percent": self._said % 100, "step": f"schöner Schritt {self._said}", "log": "line\\n" * 80}
            message = {
                "jobId": "job-1", "jobName": "render", "type": "progress", "status": "running", "data": data,
                "timestamp": f"2026-01-02T03:04:{self._said % 60:02d}.000Z",
            }  # fmt: skip
            await self._socket.send_str(json.dumps(message))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Upstream]:
        """Listens on loopback."""
        app = web.Application()
        app.router.add_get("/api/v1/realtime/spaces/s", self._space)
        async with serving(app) as self.url:
            yield self


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """The base URL of an application on loopback."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Gateway:
    """`mainstem run`, which can be stopped and started again at the same address; its upstream sees that too."""

    def __init__(self, config: Path, upstream: Upstream | None = None) -> None:
        self._config, self._upstream = config, upstream
        self._process: Process | None = None
        self.url = ""

    async def start(self) -> None:
        """Returns once it listens."""
        self._process = await Process.start(self._config)
        self.url = await self._process.url()

    async def stop(self) -> None:
        """A drain, as an operator would ask for it."""
        assert self._process is not None
        self._process.signal(signal.SIGTERM)
        assert await self._process.ended() == 0
        await self._missed()

    async def kill(self) -> None:
        """Idempotent."""
        if self._process is not None:
            await self._process.kill()
            await self._missed()

    async def _missed(self) -> None:
        if self._upstream is not None:
            await self._upstream.left()


@asynccontextmanager
async def gateway(directory: Path, upstream: Upstream, **server: Any) -> AsyncIterator[Gateway]:
    """A started gateway that reads the upstream."""
    source = {
        "name": "jobs",
        "adapter": "emit",
        "url": upstream.url.replace("http", "ws"),
        "token": "t",
        "spaces": ["s"],
    }
    config = write(directory, server={"port": free_port(), "drain_timeout": 1, **server}, sources=[{**source, **QUICK}])
    made = Gateway(config, upstream)
    try:
        await made.start()
        yield made
    finally:
        await made.kill()


class Reports:
    """What a client reported, in order, by the name of what it speaks of."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self._news = asyncio.Condition()

    async def add(self, report: dict[str, Any]) -> None:
        """Takes one report."""
        async with self._news:
            self.all.append(report)
            self._news.notify_all()

    def of(self, name: str, kind: str = "message") -> list[Any]:
        """What was said of a name: the values of reports of a kind."""
        return [report["value"] for report in self.all if report["name"] == name and report["kind"] == kind]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The messages, decoded."""
        return [json.loads(text) for text in self.of(name)]

    def logged(self, name: str) -> list[dict[str, Any]]:
        """Those that are in the log."""
        return [event for event in self.events(name) if not event["type"].startswith(("stream.", "task.snapshot"))]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once something is so."""
        try:
            async with asyncio.timeout(PATIENCE), self._news:
                await self._news.wait_for(condition)
        except TimeoutError:
            raise AssertionError(f"reported until now: {self.all}") from None
