"""The stream: `GET /v1/stream`, as a WebSocket or as Server-Sent Events.

Owns who may come in (limits, tokens, scopes), the shared timer, and the drain. The composition root calls `Hub.publish`
after each commit; connections are cursors on the log.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import structlog
from aiohttp import web

from gateway.access import Grant
from gateway.clock import Clock
from gateway.errors import Refused
from gateway.metrics import Metrics
from gateway.store.api import Store, TaskRow
from gateway.stream import query, sse, websocket
from gateway.stream.connection import Connection, Surroundings, may_see
from gateway.stream.dialogue import Dialogue
from gateway.stream.handshake import Socket
from gateway.stream.hub import Hub
from gateway.stream.settings import StreamSettings
from schemas import stream

log = structlog.get_logger()

#: Seconds between two steps of a drain.
_STEP = 0.02
#: Connections that are judged anew between two chances for others to run.
_JUDGED_AT_ONCE = 50
#: Close codes that are worth a label of their own: ours, and those of RFC 6455 that clients use.
_LABELS = frozenset({*stream.CLOSES, 1000, 1001, 1002, 1003, 1005, 1006, 1007, 1011})


@lru_cache(maxsize=1024)
def _shared(grant: Grant) -> Grant:
    """The same object for equal grants: thousands of connections hold them."""
    return grant


class Authenticator(Protocol):
    """Tells who a token stands for."""

    async def authenticate(self, token: str | None) -> Grant:
        """What the holder may do.

        Raises:
            gateway.errors.Refused: 401 where there is no token or a bad one.
        """


class StreamService:
    """All stream connections of the process."""

    def __init__(
        self,
        *,
        store: Store,
        hub: Hub,
        authenticator: Authenticator,
        token_of: Callable[[web.Request], str | None],
        snapshot_data: Callable[[TaskRow], bytes],
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        settings: StreamSettings | None = None,
        permits: Callable[[str, str], bool] | None = None,
    ) -> None:
        """Args:
        token_of: the token that a request presents.
        snapshot_data: a task's row → JSON of the `data` of its snapshot event.
        permits: whether a page of an origin may connect to a host; None where something in front has judged.
        """
        self._settings = settings or StreamSettings()
        self._around = Surroundings(hub, store, clock, rng, snapshot_data, self._settings)
        self._hub = hub
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._authenticator = authenticator
        self._token_of = token_of
        self._permits = permits
        #: how many connections there have been
        self.admitted = 0
        self._connections: dict[Connection, Dialogue] = {}
        #: how often tokens have come to mean something else
        self._judgements = 0
        self._judging: set[asyncio.Task[None]] = set()
        self._holders: dict[Connection, str] = {}
        self._per_holder: Counter[str] = Counter()
        self._per_address: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False
        self._sweeper: asyncio.Task[None] | None = None

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts the hub and the shared timer."""
        self._hub.start()
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="stream-sweep")

    async def drain(self, window: float) -> None:
        """Takes nobody in any more and ends every connection, spread evenly over `window` seconds in random order."""
        self._draining = True
        waiting = list(self._connections)
        self._rng.shuffle(waiting)
        steps = max(1, min(len(waiting), int(window / _STEP)))
        for step in range(steps):
            for connection in waiting[step::steps]:
                connection.end(stream.SHUTTING_DOWN)
            if step + 1 < steps:
                await self._clock.sleep(window / steps)
        try:
            async with asyncio.timeout(self._settings.grace + 1):
                await self._empty.wait()
        except TimeoutError:
            log.warning("stream_drain_incomplete", connections=len(self._connections))

    async def close(self) -> None:
        """Ends what is left, at once. Idempotent."""
        if not self._draining:  # else everybody has had the time to go
            await self.drain(0)
        for connection in self._connections:
            connection.outlet.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
            self._sweeper = None
        judging = list(self._judging)
        for task in judging:
            task.cancel()
        if judging:
            await asyncio.wait(judging)
        self._hub.close()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def judge(self) -> int:
        """Tokens mean something else from now on: every connection may what its token now stands for, or ends.

        Returns:
            How many it has ended: with 4001 where the token is refused, 4003 where it is not enough any more.
        """
        self._judgements += 1
        ended = 0
        for index, (connection, dialogue) in enumerate(list(self._connections.items())):
            if not connection.ended:
                await dialogue.judge()
                ended += connection.ending is not None
            if not index % _JUDGED_AT_ONCE:
                await asyncio.sleep(0)
        return ended

    async def _sweep(self) -> None:
        """The one timer behind deadlines, pings, heartbeats and expiry."""
        while True:
            await self._clock.sleep(self._settings.sweep)
            now, wall = self._clock.monotonic(), self._clock.now()
            for connection in list(self._connections):
                if not connection.ended:
                    connection.tick(now, wall)

    # --- coming in ----------------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serves one request to its end.

        Raises:
            gateway.errors.Refused: before anything was answered: 400, 401, 403, 406, 426, 429 or 503.
        """
        socket = self._wanted(request)
        address = request.remote or ""
        self._check_room(address)
        self._per_address[address] += 1
        try:
            self._check_origin(request)
            token, judgements = self._token_of(request), self._judgements
            grant = await self._identify(token, websocket=socket is not None)
            ask = self._read_query(request, websocket=socket is not None)
            if grant is not None:
                self._check_scope(grant, ask)
            self._check_draining()

            def admit(connection: Connection) -> Dialogue:
                dialogue = self._admit(connection, grant, token, ask)
                if judgements != self._judgements:  # since its token was looked at: `judge` has not seen it
                    self._judge_late(dialogue)
                return dialogue

            if socket is None:
                return await sse.serve(request, self._around, admit, self._leave)
            await websocket.serve(request, socket, self._around, admit, self._leave)
            return socket
        finally:
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    def _wanted(self, request: web.Request) -> Socket | None:
        """The WebSocket that the request asks for, or None where it asks for SSE."""
        if request.method != "GET":
            raise Refused(405, "method_not_allowed", "The stream is read with GET.")
        if request.headers.get("Upgrade", "").strip().lower() == "websocket":
            socket = websocket.response(request, self._around)
            if not socket.can_prepare(request):
                raise Refused(400, "bad_handshake", "The WebSocket handshake is not valid (RFC 6455, section 4.2.1).")
            return socket
        accepted = {item.partition(";")[0].strip().lower() for item in request.headers.get("Accept", "").split(",")}
        if accepted.isdisjoint({sse.MEDIA_TYPE, "text/*"}):
            raise Refused(426, "upgrade_required", f"Open a WebSocket, or ask with Accept: {sse.MEDIA_TYPE}.")
        return None

    def _check_draining(self) -> None:
        if self._draining:
            raise Refused(503, "draining", "The gateway is shutting down.")

    def _check_room(self, address: str) -> None:
        self._check_draining()
        if len(self._connections) >= self._settings.connections:
            raise Refused(503, "full", "The gateway has as many stream connections as it may have.")
        most = self._settings.per_address
        if most is not None and self._per_address[address] >= most:
            raise Refused(429, "too_many_connections", "There are too many connections from this address.")

    def _check_origin(self, request: web.Request) -> None:
        origin = request.headers.get("Origin")
        if (
            origin is not None
            and self._permits is not None
            and not self._permits(origin, request.headers.get("Host", ""))
        ):
            raise Refused(403, "origin_refused", "Pages of this Origin may not call the gateway.")

    async def _identify(self, token: str | None, *, websocket: bool) -> Grant | None:
        """Whose request it is; None for a WebSocket that is yet to authenticate."""
        try:
            return _shared(await self._authenticator.authenticate(token))
        except Refused as refusal:
            if token is None and websocket and refusal.status == 401:
                return None
            raise

    def _read_query(self, request: web.Request, *, websocket: bool) -> query.Ask:
        try:
            last = None if websocket else request.headers.get("Last-Event-ID")
            return query.parse(request.query.items(), last)
        except query.Unreadable as error:
            raise Refused(400, "invalid_query", str(error)) from None

    def _check_scope(self, grant: Grant, ask: query.Ask) -> None:
        if not grant.allows("events:read:progress"):
            raise Refused(403, "not_allowed", "The token's scope does not include reading events.")
        if ask.implicit and not may_see(grant, ask.wanted):
            raise Refused(403, "not_allowed", "The token's scope is for single tasks: a task filter is required.")
        if self._per_holder[grant.holder] >= self._settings.per_holder:
            raise Refused(429, "too_many_connections", "There are too many connections with this token.")

    # --- bookkeeping --------------------------------------------------------------------------------------------------

    def _admit(self, connection: Connection, grant: Grant | None, token: str | None, ask: query.Ask) -> Dialogue:
        dialogue = Dialogue(connection, ask, self._authenticator.authenticate, self._claim)
        self._connections[connection] = dialogue
        self.admitted += 1
        self._empty.clear()
        self._metrics.stream_connections.set(len(self._connections))
        if self._draining:  # it began while this request was being upgraded
            connection.tell_opened()
            connection.end(stream.SHUTTING_DOWN)
        else:
            dialogue.greet(grant, token)
        return dialogue

    def _judge_late(self, dialogue: Dialogue) -> None:
        task = asyncio.get_running_loop().create_task(dialogue.judge(), name="stream-judge")
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    def _claim(self, connection: Connection, grant: Grant) -> bool:
        """Counts a connection among those of a holder; False where that would be too many."""
        if self._holders.get(connection) == grant.holder:
            return True
        if self._per_holder[grant.holder] >= self._settings.per_holder:
            return False
        self._release(connection)
        self._per_holder[grant.holder] += 1
        self._holders[connection] = grant.holder
        return True

    def _release(self, connection: Connection) -> None:
        holder = self._holders.pop(connection, None)
        if holder is not None:
            self._per_holder[holder] -= 1
            if not self._per_holder[holder]:
                del self._per_holder[holder]

    def _leave(self, connection: Connection, code: int) -> None:
        self._release(connection)
        self._connections.pop(connection, None)
        self._metrics.stream_connections.set(len(self._connections))
        self._metrics.stream_closed.labels(str(code) if code in _LABELS else "other").inc()
        if not self._connections:
            self._empty.set()
