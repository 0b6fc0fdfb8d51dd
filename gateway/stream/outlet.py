"""Outlet: how bytes leave, the only place that touches the transport of a request.

aiohttp has no way to send the same prepared bytes to many connections; its documented `request.transport` does. What aiohttp
would do on the way is done here or by the owner of the lane: looking whether the transport is closing, and bounding what it
has not sent yet. Pings, pongs and close frames that aiohttp writes go to the same transport, so whole frames stay in order.
Where a transport lacks what is needed, frames go through aiohttp's own methods, by one task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import WSMsgType, web

from gateway.stream import framing

#: Seconds between two looks at what a closing connection has not taken yet.
_LOOK = 0.05


class Outlet(Protocol):
    """Where a connection's bytes go. Named as in `asyncio.WriteTransport`, so that a transport is an outlet itself."""

    def write(self, data: bytes, /) -> None:
        """Hands bytes over; never blocks. Raises RuntimeError or OSError where the peer is gone."""

    def get_write_buffer_size(self) -> int:
        """Bytes handed over and not yet taken by the operating system."""

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""

    def abort(self) -> None:
        """Drops the connection and what it has not sent."""


class QueuedOutlet:
    """Through a coroutine that sends what it is given, by a task of its own."""

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[None]],
        transport: asyncio.BaseTransport | None,
        name: str,
    ) -> None:
        self._send = send
        self._transport = transport
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._failed = False
        self._task: asyncio.Task[None] | None = asyncio.get_running_loop().create_task(self._run(), name=name)

    def write(self, data: bytes) -> None:
        """See `Outlet`."""
        self._pieces.append(data)
        self._size += len(data)
        self._wake.set()
        self._empty.clear()

    def get_write_buffer_size(self) -> int:
        """See `Outlet`."""
        return self._size

    def is_closing(self) -> bool:
        """See `Outlet`."""
        return self._failed or (self._transport is not None and self._transport.is_closing())

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._pieces:
                    data = self._pieces.popleft()
                    await self._send(data)
                    self._size -= len(data)
                self._empty.set()
        except (OSError, RuntimeError):  # the peer is gone, which `is_closing` tells
            self._failed = True
            self._empty.set()

    def abort(self) -> None:
        """See `Outlet`."""
        self._failed = True
        self._pieces.clear()
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            getattr(self._transport, "abort", self._transport.close)()

    async def drained(self) -> None:
        """Returns once everything was sent, or cannot be any more."""
        await self._empty.wait()

    async def close(self) -> None:
        """Ends the task; the connection is closed by its driver. Idempotent."""
        task, self._task = self._task, None  # not kept: the error that it ends with knows this outlet
        if task is not None:
            task.cancel()
            await asyncio.wait([task])


def direct(request: web.Request) -> Outlet | None:
    """The fast outlet: the transport of the request itself, where it has what is needed."""
    transport = request.transport
    needed = ("write", "get_write_buffer_size", "is_closing", "abort")
    if transport is None or not all(hasattr(transport, name) for name in needed):
        return None
    return transport


def descriptor(outlet: Outlet) -> int:
    """The file descriptor of a plain TCP transport; -1: there is none that bytes could be written to as they are.

    Writing to it is as good as `write`, and cheaper, while the transport is not closing (so that the descriptor is its own)
    and has nothing buffered (so that nothing is overtaken). What the operating system does not take goes to `write`.
    """
    tell = getattr(outlet, "get_extra_info", None)  # not by type: transports of uvloop are none of asyncio's
    if tell is None or tell("sslcontext") is not None:
        return -1
    socket = tell("socket")
    return -1 if socket is None else int(socket.fileno())


async def drained(outlet: Outlet) -> None:
    """Returns once nothing waits that aiohttp's own methods would overtake."""
    if isinstance(outlet, QueuedOutlet):
        await outlet.drained()


async def emptied(outlet: Outlet) -> None:
    """Returns once the operating system has taken everything; transports do not tell, so it is looked for."""
    while outlet.get_write_buffer_size():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(_LOOK)


async def close(outlet: Outlet) -> None:
    """Lets go of what the outlet itself holds; the connection is closed by its driver."""
    if isinstance(outlet, QueuedOutlet):
        await outlet.close()


def hang_up(outlet: Outlet, request: web.Request, patience: float) -> None:
    """Closes the connection of a request. What its peer has not taken after so many seconds is dropped: a transport would
    wait for it for ever."""
    transport = request.transport
    if transport is None:
        return
    transport.close()
    if getattr(transport, "get_write_buffer_size", int)():
        asyncio.get_running_loop().call_later(patience, outlet.abort)


def of_websocket(request: web.Request, socket: web.WebSocketResponse) -> QueuedOutlet:
    """The outlet that sends frames by the methods of the WebSocket."""

    async def send(frame: bytes) -> None:
        for opcode, payload in framing.payloads(frame):
            await socket.send_frame(payload, WSMsgType(opcode))

    return QueuedOutlet(send, request.transport, "stream-outlet")


def of_response(request: web.Request, response: web.StreamResponse) -> QueuedOutlet:
    """The outlet that sends blocks by the methods of the response."""
    return QueuedOutlet(response.write, request.transport, "stream-outlet")
