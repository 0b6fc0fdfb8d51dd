"""What the tests of the upstream room share: a clock that is moved by hand, an intake that writes down what it gets, a
store with just enough in it, and a scripted upstream on a real socket."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from adapters.api import Observation, Stream
from gateway.metrics import Metrics
from gateway.store.api import Reach, TaskRow
from gateway.upstream.limits import Limits
from gateway.upstream.sources import Sources
from gateway.upstream.supervisor import Supervisor
from schemas.event import FINISHED
from tests.upstream.toy import Toy, ToyConfig

#: Longest real time that anything here may take.
DEADLINE = 10.0
START = 1_800_000_000.0


class ManualClock:
    """Time passes when it is told to. `slept` lists every sleep that was asked for, in order."""

    def __init__(self) -> None:
        self._now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = itertools.count()
        self.slept: list[float] = []

    def now(self) -> float:
        return START + self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._number), woken))
        await woken

    @property
    def sleeping(self) -> int:
        """How many are asleep."""
        return sum(1 for _, _, woken in self._sleepers if not woken.done())

    async def pass_time(self, seconds: float) -> None:
        """Lets so much time go by; whoever sleeps that long is woken at its own moment."""
        until = self._now + seconds
        await turns()
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                self._now = max(self._now, due)
                woken.set_result(None)
                await turns()
        self._now = until

    async def until(self, condition: Callable[[], object], step: float = 0.5) -> None:
        """Lets time go by, and sockets do their work, until something is so."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await asyncio.sleep(0.002)
                if not condition():
                    await self.pass_time(step)


async def turns(count: int = 10) -> None:
    """Lets whatever is ready to run do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Waits for something to become so while the manual clock stands still."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # conditions of objects that do not know that they are watched
            await asyncio.sleep(0.002)


class FakeStore:
    """The part of a store that the upstream room reads."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.known: dict[str, TaskRow] = {}
        self.broken: Exception | None = None

    def put(self, task_id: str, status: str, stream: str | None = "all", created_at: str | None = None) -> None:
        self.known[task_id] = TaskRow("toy", task_id, None, status, status in FINISHED, created_at, stream, 0.0, b"")

    async def cursors(self, source: str) -> dict[str, bytes]:
        return dict(self.rows)

    async def tasks(self, source: str, ids: Sequence[str]) -> list[TaskRow]:
        return [self.known[task_id] for task_id in ids if task_id in self.known]

    async def reach(self, source: str, stream: str | None) -> Reach:
        if self.broken is not None:
            raise self.broken
        rows = [row for row in self.known.values() if stream is None or row.stream == stream]
        created = [row.created_at for row in rows if row.created_at]
        unfinished = [row for row in rows if not row.finished]
        oldest = min((row.created_at for row in unfinished if row.created_at), default=None)
        return Reach([row.id for row in unfinished], oldest, max(created, default=None))


class FakeIntake:
    """Writes down what it is handed. `gate` closed means that the log is behind."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.observed: list[Observation] = []
        self.submits: list[tuple[str, list[str], dict[str, Any] | None]] = []
        self.notices: list[tuple[str, dict[str, Any]]] = []
        self.up: list[tuple[str, bool]] = []

    async def submit(
        self,
        source: str,
        stream: Stream,
        items: Sequence[Observation],
        *,
        received: float,
        cursor: dict[str, Any] | None = None,
    ) -> None:
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        self.observed.extend(items)
        self.submits.append((stream.key, [item.task_id for item in items], cursor))
        for item in items:
            self._store.put(item.task_id, str(item.status), stream.key)
        if cursor is not None:
            self._store.rows[stream.key] = msgspec.json.encode(cursor)

    async def notice(self, source: str, adapter: str, type: str, data: dict[str, object]) -> None:
        assert (source, adapter) == ("toy", "toy")
        self.notices.append((type, dict(data)))

    async def flush(self) -> None:
        await asyncio.sleep(0)

    async def remember(self, source: str, key: str, value: dict[str, Any] | None) -> None:
        if value is None:
            self._store.rows.pop(key, None)
        else:
            self._store.rows[key] = msgspec.json.encode(value)

    def attached(self, source: str, stream_key: str, up: bool) -> None:
        self.up.append((stream_key, up))

    def named(self, type: str) -> list[dict[str, Any]]:
        """The data of the notices of a type."""
        return [data for name, data in self.notices if name == type]

    @property
    def tasks(self) -> list[tuple[str, str]]:
        """Task and status of what was observed, in order."""
        return [(item.task_id, str(item.status)) for item in self.observed]


Script = Callable[[web.WebSocketResponse, int], Awaitable[None]]


class Upstream:
    """A scripted server. A script gets the socket and the number of the connection (from 1) on its path; when it returns,
    the server closes the socket."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.answers: dict[str, Callable[[web.Request, int], web.StreamResponse]] = {}
        self.connects: dict[str, int] = {}
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.received: list[Any] = []
        self.open = 0
        self.most_open = 0
        self.autoping = True
        self.handshake: Callable[[web.Request], Awaitable[web.StreamResponse | None]] | None = None
        app = web.Application()
        app.router.add_get("/{path:.*}", self._handle)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.server.port}"

    def on(self, path: str) -> Callable[[Script], Script]:
        """Registers a script."""

        def register(script: Script) -> Script:
            self.scripts[path] = script
            return script

        return register

    def answer(self, path: str, status: int = 200, body: object = None, headers: dict[str, str] | None = None) -> None:
        """What a REST path, or a handshake, is answered with."""
        text = body if isinstance(body, str) else msgspec.json.encode(body).decode()
        self.answers[path] = lambda request, number: web.Response(status=status, text=text, headers=headers)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        number = self.connects[path] = self.connects.get(path, 0) + 1
        self.requests.append(request.path_qs)
        self.headers.append(dict(request.headers))
        if self.handshake is not None:
            refused = await self.handshake(request)
            if refused is not None:
                return refused
        if path in self.answers:
            return self.answers[path](request, number)
        if path not in self.scripts:
            return web.Response(status=404)
        socket = web.WebSocketResponse(autoping=self.autoping, compress=False)
        await socket.prepare(request)
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            await self.scripts[path](socket, number)
            await socket.close()
        finally:
            self.open -= 1
        return socket

    async def listen(self, socket: web.WebSocketResponse, number: int = 0) -> None:
        """The script of an upstream that has nothing to say: answers pings until the gateway goes."""
        async for message in socket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self.received.append(message.data)

    def says(self, *frames: object, then: Script | None = None) -> Script:
        """A script: these frames on every connect, then (by default) silence."""

        async def script(socket: web.WebSocketResponse, number: int) -> None:
            for frame in frames:
                await socket.send_json(frame)
            await (then or self.listen)(socket, number)

        return script


async def hang_up(socket: web.WebSocketResponse, number: int) -> None:
    """A script that does nothing more."""


class Rig:
    """A gateway's upstream room with one toy source, on a scripted upstream."""

    def __init__(self, *streams: Stream, limits: Limits | None = None, **config: Any) -> None:
        self.clock = ManualClock()
        self.store = FakeStore()
        self.intake = FakeIntake(self.store)
        self.upstream = Upstream()
        self.metrics = Metrics()
        self.limits = limits or Limits(close=0.2, stop=2.0, request=0.3, probe=0.3, connect=2.0)
        self._streams = streams
        self._config = {"ping_interval": 3600.0, "reconnect": {"initial": 1.0, "max": 60.0}, **config}
        self.adapter: Toy
        self.sources: Sources

    @property
    def supervisor(self) -> Supervisor:
        return self.sources.get("toy")

    def metric(self, name: str, **labels: str) -> float | None:
        """A sample of the metrics."""
        return self.metrics.registry.get_sample_value(f"mainstem_{name}", {"source": "toy", **labels})

    def assemble(self) -> None:
        """A new process, on the same store."""
        config = ToyConfig.model_validate({"name": "toy", "url": self.upstream.url, **self._config})
        previous = getattr(self, "adapter", None)
        self.adapter = Toy(config, *self._streams)
        if previous is not None:
            for ability in ("lists", "looks_up", "probes", "authorizes"):
                setattr(self.adapter, ability, getattr(previous, ability))
        self.sources = Sources(
            [self.adapter],
            self.intake,
            self.store,  # type: ignore[arg-type]
            self.clock,
            random.Random(1),
            self.metrics,
            self.limits,
        )

    async def restart(self) -> None:
        """Stops this process, and starts another on the same store."""
        await self.sources.stop()
        self.assemble()
        await self.sources.start()


@asynccontextmanager
async def rig(*streams: Stream, limits: Limits | None = None, **config: Any) -> AsyncIterator[Rig]:
    """A rig whose upstream listens, and which leaves no task and no socket behind. `sources.start()` is up to the test."""
    before = asyncio.all_tasks()
    it = Rig(*streams, limits=limits, **config)
    await it.upstream.server.start_server()
    it.assemble()
    try:
        yield it
    finally:
        await asyncio.wait_for(it.sources.stop(), DEADLINE)
        await until(lambda: it.upstream.open == 0)
        await it.upstream.server.close()
    try:
        await until(lambda: not asyncio.all_tasks() - before)
    except TimeoutError:
        raise AssertionError(f"left behind: {asyncio.all_tasks() - before}") from None
    assert it.metric("source_up") == 0
