"""A simulator per test, a client, and a clock that stands still."""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from gateway import simulators


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self._now = now
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._slept = 0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._slept += 1
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, self._slept, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Moves on; whoever sleeps until then is woken on the way, in order."""
        until = self._now + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            at, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, at)
            if not woken.done():
                woken.set_result(None)
            await self._settle()
        self._now = until

    @staticmethod
    async def _settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)


class Client:
    """A WebSocket client of the test, with deadlines."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def text(self) -> str:
        """The next text frame."""
        return await self.socket.receive_str(timeout=5)

    async def json(self) -> Any:
        """The next text frame as JSON."""
        return json.loads(await self.text())

    async def sse(self) -> tuple[str, Any]:
        """The next text frame, read as the documents' examples read it: line 0 and line 1."""
        lines = (await self.text()).split("\n")
        return lines[0].replace("event: ", ""), json.loads(lines[1].replace("data: ", ""))

    async def end(self) -> int | None:
        """Waits until the server ends the connection, which must come next. Returns the close code."""
        message = await self.socket.receive(timeout=5)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR), message
        return self.socket.close_code


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def connect(http: aiohttp.ClientSession) -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """`await connect(sim, path, query...)` opens a WebSocket."""
    opened: list[aiohttp.ClientWebSocketResponse] = []

    async def connect(sim: simulators.Simulator, path: str, *, autoping: bool = True, **query: str) -> Client:
        socket = await http.ws_connect(f"{sim.url}{path}", params=query, autoping=autoping)
        opened.append(socket)
        return Client(socket)

    yield connect
    for socket in opened:
        await socket.close()


@pytest.fixture
async def simulate() -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """`await simulate(kind, ...)` starts a scripted simulator (rate 0) that ends with the test."""
    started: list[simulators.Simulator] = []

    async def simulate(kind: Any, **options: Any) -> simulators.Simulator:
        sim = await simulators.start(kind, **{"rate": 0, **options})
        started.append(sim)
        return sim

    yield simulate
    for sim in started:
        await sim.stop()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
