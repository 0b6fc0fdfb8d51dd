"""One WebSocket that a client has opened: what is queued for it, what came from it, and how it ends.

Owns the socket after the upgrade. Knows no upstream: frames arrive here encoded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum, auto

from aiohttp import WSMsgType, web

from gateway.simulators.faults import Coin, Faults

REMEMBERED = 1_000
"""How many of a client's messages are kept."""


class _End(Enum):
    DROP = auto()


class Connection:
    """A client's open WebSocket. What is sent, closed or dropped here takes effect in the order of the calls.

    Attributes:
        number: 1 for the first connection of this simulator, then 2, ...
        path: of the upgrade request.
        query: its query parameters.
        headers: its headers.
        opened_at: seconds since 1970.
        received: data frames from the client, newest last.
        pings: how many pings came from the client.
        sent: how many data frames were handed to the socket.
        close_code: how it ended: the code of the close frame, 1006 where there was none, None while it is open.
        closed: set when it is over.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        request: web.Request,
        *,
        number: int,
        opened_at: float,
        faults: Faults,
        coin: Coin,
        capacity: int,
    ) -> None:
        self.number = number
        self.path = request.path
        self.query: Mapping[str, str] = dict(request.query)
        self.headers: Mapping[str, str] = request.headers.copy()
        self.opened_at = opened_at
        self.received: deque[str | bytes] = deque(maxlen=REMEMBERED)
        self.pings = 0
        self.sent = 0
        self.close_code: int | None = None
        self.closed = asyncio.Event()
        self._socket = socket
        self._transport = request.transport
        self._faults = faults
        self._coin = coin
        self._capacity = capacity
        self._outbox: deque[tuple[WSMsgType, bytes] | tuple[int, str] | _End] = deque()
        self._queued = 0
        self._held: bytes | None = None
        self._ending = False  # nothing more is taken
        self._closing = False  # the close handshake has begun
        self._stalled = False
        self._answers_pings = True
        self._wake = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()

    def __repr__(self) -> str:
        return f"<Connection {self.number} {self.path}>"  # the query holds the key

    def send(self, frame: bytes) -> None:
        """Queues a text frame as the upstream would send it; faults may befall it."""
        strikes = self._faults.strikes
        if strikes("stall", self._coin):
            self.stall(answer_pings=self._faults.stalled_answers_pings)
        if strikes("malformed", self._coin):
            self._put(WSMsgType.TEXT, frame[: len(frame) // 2])
        if self._held is None and strikes("out_of_order", self._coin):
            self._held = frame
            return
        self._put(WSMsgType.TEXT, frame)
        if strikes("duplicate", self._coin):
            self._put(WSMsgType.TEXT, frame)
        if self._held is not None:
            self._put(WSMsgType.TEXT, self._held)
            self._held = None
        if strikes("drop", self._coin):
            self.drop()

    def send_raw(self, frame: str | bytes) -> None:
        """Queues a frame verbatim, out of reach of the faults: text for `str`, binary for `bytes`."""
        if isinstance(frame, str):
            self._put(WSMsgType.TEXT, frame.encode())
        else:
            self._put(WSMsgType.BINARY, frame)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes the WebSocket after what is queued."""
        if self._held is not None:
            self._put(WSMsgType.TEXT, self._held)
            self._held = None
        self._end((code, reason))

    def drop(self) -> None:
        """Aborts the TCP connection after what is queued, without a close frame."""
        self._end(_End.DROP)

    def stall(self, *, answer_pings: bool = True) -> None:
        """Stays open and says nothing any more. What is sent to it from now on is lost."""
        self._stalled = True
        self._answers_pings = answer_pings

    def abort(self) -> None:
        """Aborts the TCP connection now, whatever is queued."""
        self._ending = True
        if self._transport is not None:
            self._transport.abort()

    async def flush(self) -> None:
        """Returns once everything queued has been handed to the socket, or the connection is over."""
        if self.closed.is_set():
            return
        waits = [asyncio.ensure_future(self._written.wait()), asyncio.ensure_future(self.closed.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def run(self, on_message: Callable[[str | bytes], None]) -> None:
        """Serves the socket until it is over."""
        writer = asyncio.create_task(self._write(), name=f"simulator-writer-{self.number}")
        try:
            async for message in self._socket:
                if message.type is WSMsgType.PING:
                    self.pings += 1
                    if self._answers_pings:
                        await self._pong(message.data)
                elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    self.received.append(message.data)
                    on_message(message.data)
            if not self._closing:
                writer.cancel()
            await asyncio.wait({writer}, timeout=5.0)  # a close handshake in progress is let finish
        finally:
            self._ending = True
            writer.cancel()
            self._outbox.clear()
            self.close_code = self._socket.close_code or 1006
            self.closed.set()
            self._written.set()
        if writer.done() and not writer.cancelled():
            writer.result()

    def _put(self, kind: WSMsgType, data: bytes) -> None:
        if self._ending or self._stalled:
            return
        if self._queued + len(data) > self._capacity:
            self.abort()  # a client that does not read; the real upstreams do not keep frames for it either
            return
        self._queued += len(data)
        self._outbox.append((kind, data))
        self._written.clear()
        self._wake.set()

    def _end(self, how: tuple[int, str] | _End) -> None:
        if not self._ending:
            self._ending = True
            self._outbox.append(how)
            self._wake.set()

    async def _write(self) -> None:
        try:
            while True:
                while not self._outbox:
                    self._written.set()
                    self._wake.clear()
                    await self._wake.wait()
                item = self._outbox.popleft()
                if isinstance(item, _End):
                    self.abort()
                    return
                if isinstance(item[1], str):
                    self._closing = True
                    await self._socket.close(code=item[0], message=item[1].encode())
                    return
                self._queued -= len(item[1])
                await self._socket.send_frame(item[1], WSMsgType(item[0]))
                self.sent += 1
        except ConnectionError:
            return  # the client has gone; the reader sees it as well and ends the connection

    async def _pong(self, data: bytes) -> None:
        try:
            await self._socket.pong(data)
        except ConnectionError:
            return  # the client did not wait for the answer
