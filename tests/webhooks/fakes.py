"""What the webhook tests stand on: a store in memory, a clock that moves when told, a receiver on loopback."""

from __future__ import annotations

import asyncio
import base64
import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.clock import SystemClock
from gateway.errors import StoreError
from gateway.metrics import Metrics
from gateway.store.api import Deliveries, DeliveryRow, LogEvent, Page
from gateway.webhooks import history
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.dispatcher import Dispatcher
from schemas.filter import Filter

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
DEADLINE = 10.0


def event(
    sequence: int, task: str | None = "jobs/1", type_: str = "task.updated", *, size: int = 0, source: str = "jobs"
) -> LogEvent:
    body = msgspec.json.encode({"id": f"e{sequence}", "sequence": f"{sequence:020d}", "pad": "x" * size})
    return LogEvent(sequence, f"e{sequence}", type_, source, task, None, None, 1000.0 + sequence, body)


def config(url: str = "http://127.0.0.1:9/", **more: Any) -> EndpointConfig:
    given = {"name": "hook", "url": url, "secret": SECRET, "allow_private": True} | more
    return EndpointConfig(**given)


class MemoryStore:
    """The part of a store that webhooks use. What `deliver` has returned for survives; a crash is to stop using it."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []
        self.rows: dict[tuple[str, int], DeliveryRow] = {}
        self.stored_positions: dict[str, int] = {}
        self.records: dict[str, bytes] = {}
        self.floor = 0
        self.writes = 0
        self.room = 1_000_000  # events that a page has bytes for
        self.refuse = 0  # so many of the next reads fail
        self.refuse_writes = 0
        self.gate = asyncio.Event()  # writes wait for it
        self.gate.set()
        self.epoch = "0" * 12

    def copy(self) -> MemoryStore:
        """What there would be after a crash."""
        survivor = MemoryStore()
        survivor.events, survivor.rows = list(self.events), dict(self.rows)
        survivor.stored_positions, survivor.records = dict(self.stored_positions), dict(self.records)
        return survivor

    @property
    def head(self) -> int:
        return self.events[-1].sequence if self.events else 0

    def append(self, *events: LogEvent) -> list[LogEvent]:
        self.events.extend(events)
        return list(events)

    def _trouble(self) -> None:
        if self.refuse > 0:
            self.refuse -= 1
            raise StoreError("no")

    async def read(self, after: int, limit: int, where: Sequence[Filter] = (), upto: int | None = None) -> Page:
        await asyncio.sleep(0)
        self._trouble()
        wanted = [one.compile() for one in where]
        end = self.head if upto is None else upto
        matching = (e for e in self.events if after < e.sequence <= end and all(match(e) for match in wanted))
        events = list(itertools.islice(matching, min(limit, self.room)))
        return Page(events, max(after, end) if next(matching, None) is None else events[-1].sequence)

    async def deliver(self, results: Deliveries) -> None:
        await self.gate.wait()
        if self.refuse_writes > 0:
            self.refuse_writes -= 1
            raise StoreError("no")
        self.writes += 1
        for row in results.rows:
            self.rows[row.endpoint, row.sequence] = row
        self.stored_positions |= results.positions
        self.records |= results.records

    async def positions(self) -> dict[str, int]:
        return dict(self.stored_positions)

    async def endpoints(self) -> dict[str, bytes]:
        return dict(self.records)

    async def deliveries(
        self,
        endpoint: str,
        state: str | None = None,
        *,
        after: int = 0,
        upto: int | None = None,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[DeliveryRow]:
        await asyncio.sleep(0)
        self._trouble()
        rows = sorted((row for row in self.rows.values() if row.endpoint == endpoint), key=lambda row: row.sequence)
        found = [row for row in rows if row.sequence > after and (upto is None or row.sequence <= upto)]
        return [row for row in (reversed(found) if newest else found) if state in (None, row.state)][:limit]

    async def count_deliveries(self, endpoint: str, state: str) -> int:
        return sum(row.endpoint == endpoint and row.state == state for row in self.rows.values())

    async def types(self, sequences: Sequence[int]) -> dict[int, str]:
        return {event.sequence: event.type for event in self.events if event.sequence in sequences}

    async def position_at(self, moment: float) -> int:
        return max((event.sequence for event in self.events if event.received < moment), default=0)

    async def last_settled(self) -> float:
        return max((row.updated for row in self.rows.values() if row.state != "pending"), default=0.0)

    async def delivery(self, endpoint: str, sequence: int) -> DeliveryRow | None:
        return self.rows.get((endpoint, sequence))

    async def forget_endpoint(self, endpoint: str) -> None:
        self.stored_positions.pop(endpoint, None)
        self.records.pop(endpoint, None)
        self.rows = {key: row for key, row in self.rows.items() if key[0] != endpoint}

    def state(self, sequence: int, endpoint: str = "hook") -> str | None:
        row = self.rows.get((endpoint, sequence))
        return row.state if row else None

    def attempts(self, sequence: int, endpoint: str = "hook") -> list[dict[str, Any]]:
        row = self.rows.get((endpoint, sequence))
        return history.listed(row.attempts) if row else []


class ManualClock:
    """Time stands still until `advance`."""

    def __init__(self) -> None:
        self._time = 1000.0
        self.epoch = 1_700_000_000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    def now(self) -> float:
        return self._time + self.epoch

    def monotonic(self) -> float:
        return self._time

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:  # its time passed before it began, as on a real clock
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._time + seconds, next(self._count), future))
        await future

    async def advance(self, seconds: float) -> None:
        end = self._time + seconds
        while self._sleepers and self._sleepers[0][0] <= end + 1e-9:
            at, _, future = heapq.heappop(self._sleepers)
            self._time = max(self._time, at)
            if not future.done():
                future.set_result(None)
            for _ in range(10):
                await asyncio.sleep(0)
        self._time = end
        await self.settle()

    async def settle(self) -> None:
        """Lets what the time brought about happen, as far as it needs no longer than a moment."""
        await asyncio.sleep(0.001)


class Receiver:
    """A webhook receiver: `answer` decides, everything received is kept in order."""

    def __init__(self, answer: Callable[[web.Request, str], Any] | None = None) -> None:
        self.answer = answer
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.active = self.most_active = 0
        self._news = asyncio.Condition()
        self.url = ""

    @property
    def ids(self) -> list[str]:
        return [one[0] for one in self.received]

    @property
    def by_task(self) -> dict[str, list[str]]:
        tasks: dict[str, list[str]] = defaultdict(list)
        for one, _, body in self.received:
            tasks[msgspec.json.decode(body).get("task", "")].append(one)
        return tasks

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.active += 1
        self.most_active = max(self.active, self.most_active)
        try:
            body = await request.read()
            name = request.headers.get("webhook-id", "")
            self.received.append((name, dict(request.headers), body))
            async with self._news:
                self._news.notify_all()
            answer: Any = self.answer(request, name) if self.answer else 200
            if isinstance(answer, Awaitable):
                answer = await answer
            return web.Response(status=answer) if isinstance(answer, int) else answer
        finally:
            self.active -= 1

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE), self._news:
            await self._news.wait_for(lambda: len(self.received) >= count)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Receiver]:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{tail:.*}", self.handle)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server()
        self.url = str(server.make_url("/hook"))
        try:
            yield self
        finally:
            await server.close()


@asynccontextmanager
async def raw_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that may do anything, one call of `talk` a connection; its URL."""
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}/"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One request with a Content-Length: its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return await reader.readexactly(length)


async def until(condition: Callable[[], bool], pump: Callable[[], Awaitable[None]] | None = None) -> None:
    """Waits until something holds, looking often; fails after the deadline."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await (pump() if pump else asyncio.sleep(0.002))


@asynccontextmanager
async def dispatching(
    store: Any, *configs: EndpointConfig, clock: Any = None, seed: int = 1
) -> AsyncIterator[Dispatcher]:
    """A dispatcher at work; what breaks inside it fails the test."""
    dispatcher = Dispatcher(store, configs, clock=clock or SystemClock(), rng=random.Random(seed), metrics=Metrics())
    await dispatcher.start()
    try:
        yield dispatcher
        assert dispatcher.failure is None
    finally:
        await dispatcher.close()
