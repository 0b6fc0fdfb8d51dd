"""What the three simulated upstreams have in common: a port, connections, a passing time, and a script for tests.

Owns the listening socket, the open connections, the records of what clients did, and the task that lets the population
live. Knows no upstream's paths or payloads; those are in `triverse`, `emit` and `catalyst`.
"""

from __future__ import annotations

import abc
import asyncio
import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web

from gateway.simulators.connection import Connection
from gateway.simulators.population import Happening, Plan, Population
from gateway.simulators.settings import Settings
from gateway.simulators.visits import Handshake, Refusals, Request

encode = msgspec.json.Encoder().encode

REMEMBERED = 1_000
"""How many handshakes, requests and received frames are kept for inspection."""


HANDSHAKE = web.RequestKey("handshake", Handshake)
"""On a request that asks for an upgrade: its record."""


class Simulator(abc.ABC):
    """A stand-alone upstream on a port of its own.

    Use as an async context manager, or call `up` and `stop`.

    Attributes:
        credentials: what a client needs to be let in.
        faults: what goes wrong; may be changed while it runs.
        connections: the open ones, oldest first.
        history: the connections that were ever accepted, newest last; the oldest are forgotten.
        handshakes: attempts to open a WebSocket, refused ones included, newest last.
        requests: ordinary HTTP requests, newest last.
        received_frames: data frames from clients with the connection they came on, newest last.
        accepted: how many connections were ever accepted.
        refused: how many handshakes were ever refused.
        requested: how many ordinary HTTP requests ever came.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.faults = settings.faults
        self.clock = settings.clock
        self.credentials: dict[str, Any] = {}
        self.connections: list[Connection] = []
        self.history: deque[Connection] = deque(maxlen=REMEMBERED)
        self.handshakes: deque[Handshake] = deque(maxlen=REMEMBERED)
        self.requests: deque[Request] = deque(maxlen=REMEMBERED)
        self.received_frames: deque[tuple[Connection, str | bytes]] = deque(maxlen=REMEMBERED)
        self.accepted = 0
        self.refused = 0
        self.requested = 0
        # One stream of chance per purpose: a fault or a client's request must not change the lives of the tasks.
        self.chance = random.Random(f"{settings.seed}/tasks")
        self.secrets = random.Random(f"{settings.seed}/secrets")
        self._coin = random.Random(f"{settings.seed}/faults")
        self.population = Population(
            self.plan(),
            random.Random(f"{settings.seed}/lives"),
            now=self.clock.now(),
            rate=settings.rate,
            life=settings.life,
            speed=settings.speed,
            most=settings.most,
        )
        self._topics: dict[Hashable, dict[Connection, None]] = {}
        self._refuse_handshakes = Refusals()
        self._refuse_requests = Refusals()
        self._news = asyncio.Event()
        self._admitted = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._listening: web.SockSite | None = None
        self._socket: socket.socket | None = None
        self._life: asyncio.Task[None] | None = None

    # What an upstream adds

    @abc.abstractmethod
    def plan(self) -> Plan:
        """What the life of one of its tasks is."""

    @abc.abstractmethod
    def routes(self) -> Collection[web.RouteDef]:
        """Its endpoints."""

    @abc.abstractmethod
    def happened(self, happening: Happening) -> None:
        """Something happened to a task of the population: change it and tell those who watch."""

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        """A client sent a data frame. It is kept, and where the upstream documents nothing about it, that is all."""
        self.received_frames.append((connection, message))
        self._news.set()

    def on_closed(self, connection: Connection) -> None:
        """A connection is over."""
        self.connections.remove(connection)
        self._news.set()

    def background(self) -> list[Callable[[], Awaitable[None]]]:
        """What runs for as long as the simulator does, besides the lives of the tasks."""
        return []

    # Running

    @property
    def port(self) -> int:
        """The port it listens on; kept while it is down."""
        if self._socket is None:
            raise RuntimeError("the simulator is not started")
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Base of the WebSocket endpoints, `ws://host:port`."""
        return f"ws://{self._authority}"

    @property
    def http_url(self) -> str:
        """Base of the HTTP endpoints, `http://host:port`."""
        return f"http://{self._authority}"

    async def up(self) -> None:
        """Listens. After `down`, on the same port."""
        if self._runner is None:
            app = web.Application(middlewares=[self._front])
            app.add_routes(self.routes())
            self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await self._runner.setup()
            self._socket = self._bind(self.settings.port)
            self._life = asyncio.create_task(self._run(), name=f"simulator-{type(self).__name__}")
        if self._listening is None and self._socket is not None:
            self._listening = web.SockSite(self._runner, self._socket)
            await self._listening.start()

    async def down(self) -> None:
        """The server dies: every connection is aborted and the port refuses. The tasks live on."""
        if self._listening is None or self._runner is None or self._runner.server is None:
            return
        port = self.port
        await self._listening.stop()
        self._listening = None
        self._socket = self._bind(port)  # bound and not listening: refused, and nobody else can take the port
        for handler in self._runner.server.connections:
            if handler.transport is not None:
                handler.transport.abort()
        await self.wait_for(lambda: not self.connections)

    async def stop(self) -> None:
        """Closes every connection with 1001 and the port.

        Raises:
            Exception: what broke the simulator while it ran, if anything did.
        """
        for connection in list(self.connections):
            connection.close(1001, "going away")
        await self._all_gone(2.0)
        for connection in self.connections:
            connection.abort()
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait({self._life})
        if self._runner is not None:
            await self._runner.cleanup()
        if self._socket is not None:
            self._socket.close()
        self._listening = None
        if self._life is not None and not self._life.cancelled():
            self._life.result()

    async def forever(self) -> None:
        """Returns never; raises what breaks the simulator, if anything does."""
        if self._life is None:
            raise RuntimeError("the simulator is not started")
        await asyncio.shield(self._life)

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # The script

    def push_raw(self, frame: str | bytes, connection: Connection | None = None) -> None:
        """Sends a frame verbatim, on one connection or on all."""
        for each in self._these(connection):
            each.send_raw(frame)

    def drop(self, connection: Connection | None = None) -> None:
        """Aborts one connection, or all, after what is queued for it."""
        for each in self._these(connection):
            each.drop()

    def close(self, code: int = 1000, reason: str = "", connection: Connection | None = None) -> None:
        """Closes one connection, or all, after what is queued for it."""
        for each in self._these(connection):
            each.close(code, reason)

    def stall(self, connection: Connection | None = None, *, answer_pings: bool = True) -> None:
        """Leaves one connection, or all, open and silent."""
        for each in self._these(connection):
            each.stall(answer_pings=answer_pings)

    def refuse_handshakes(
        self, count: int, status: int = 503, *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """The next handshakes get this HTTP status instead of an upgrade."""
        self._refuse_handshakes = Refusals(count, status, b"" if body is None else encode(body), headers or {})

    def refuse_requests(
        self, count: int, status: int = 503, *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """The next ordinary HTTP requests get this status."""
        self._refuse_requests = Refusals(count, status, b"" if body is None else encode(body), headers or {})

    async def flush(self) -> None:
        """Returns once everything queued has been handed to the sockets."""
        await asyncio.gather(*(connection.flush() for connection in self.connections))

    async def wait_for(self, predicate: Callable[[], bool], timeout: float = 10.0) -> None:
        """Returns once the predicate holds; looked at whenever a client does something.

        Raises:
            TimeoutError: it does not come true in time (seconds).
        """
        async with asyncio.timeout(timeout):
            while not predicate():
                self._news.clear()
                await self._news.wait()

    async def wait_connection(self, number: int = 1, timeout: float = 10.0) -> Connection:
        """The connection of that number, counted from the start: 2 waits for the first reconnect.

        It may be over already, if it was short.

        Raises:
            TimeoutError: it does not come in time (seconds).
            IndexError: it came so long ago that it is forgotten.
        """
        await self.wait_for(lambda: self.accepted >= number, timeout)
        return self.history[number - self.accepted - 1]

    async def wait_refused(self, count: int = 1, timeout: float = 10.0) -> None:
        """Returns once so many handshakes have been refused since the start."""
        await self.wait_for(lambda: self.refused >= count, timeout)

    async def wait_request(self, count: int = 1, timeout: float = 10.0) -> Request:
        """The newest ordinary HTTP request once so many have been answered since the start."""
        await self.wait_for(lambda: self.requested >= count, timeout)
        return self.requests[-1]

    # For the upstreams

    def subscribers(self, topic: Hashable) -> list[Connection]:
        """Who watches a topic."""
        return list(self._topics.get(topic, ()))

    def admit(self) -> int:
        """A task created from outside begins to live. Returns its number in the population."""
        number = self.population.admit(self.clock.now())
        self._admitted.set()
        return number

    async def serve(
        self, request: web.Request, topic: Hashable, greet: Callable[[Connection], None] | None = None
    ) -> web.WebSocketResponse:
        """Upgrades, sends what `greet` queues, and serves until it is over.

        Greeting and subscribing are one step, so that nothing is lost or sent twice between them.
        """
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=1 << 20, timeout=2.0)
        await socket.prepare(request)
        handshake = request[HANDSHAKE]
        handshake.status = 101
        self.accepted += 1
        connection = Connection(
            socket,
            request,
            number=self.accepted,
            opened_at=handshake.at,
            faults=self.faults,
            coin=self._coin,
            capacity=self.settings.buffer,
        )
        self.connections.append(connection)
        self.history.append(connection)
        self._topics.setdefault(topic, {})[connection] = None
        if self.faults.strikes("accept_then_close", self._coin):
            connection.close(self.faults.close_code)
        if greet is not None:
            greet(connection)
        self._news.set()
        try:
            await connection.run(lambda message: self.on_message(connection, message))
        finally:
            watchers = self._topics[topic]
            del watchers[connection]
            if not watchers:
                del self._topics[topic]
            self.on_closed(connection)
        return socket

    def _these(self, connection: Connection | None) -> list[Connection]:
        return list(self.connections) if connection is None else [connection]

    @property
    def _authority(self) -> str:
        host = self.settings.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def _bind(self, port: int) -> socket.socket:
        bound = socket.socket(socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((self.settings.host, port))
        except OSError:
            bound.close()
            raise
        return bound

    @web.middleware
    async def _front(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        query, headers = dict(request.query), request.headers.copy()
        if request.headers.get("Upgrade", "").lower() != "websocket":
            asked = Request(request.method, request.path, query, headers, self.clock.now())
            self.requests.append(asked)
            answer = self._refuse_requests.next() or await self._answered(request, handler)
            asked.status = answer.status
            self.requested += 1
            self._news.set()
            return answer
        tried = request[HANDSHAKE] = Handshake(request.path, query, headers, self.clock.now())
        self.handshakes.append(tried)
        refusal: web.StreamResponse | None = self._refuse_handshakes.next()
        if refusal is None and self.faults.strikes("http_500", self._coin):
            refusal = web.Response(status=500)
        if refusal is None:
            refusal = await self._answered(request, handler)
        if tried.status is None:
            tried.status = refusal.status
            self.refused += 1
            self._news.set()
        return refusal

    @staticmethod
    async def _answered(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=error.reason)

    async def _all_gone(self, seconds: float) -> bool:
        try:
            await self.wait_for(lambda: not self.connections, seconds)
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._live(), name="simulator-lives")
            for number, each in enumerate(self.background()):
                tasks.create_task(_forever(each), name=f"simulator-background-{number}")

    async def _live(self) -> None:
        while True:
            due = self.population.next_due()
            if due is None:
                self._admitted.clear()
                await self._admitted.wait()
                continue
            await self.clock.sleep(min(max(due - self.clock.now(), 0.01), 0.05))
            for happening in self.population.advance(self.clock.now()):
                self.happened(happening)


async def _forever(turn: Callable[[], Awaitable[None]]) -> None:
    while True:
        await turn()
