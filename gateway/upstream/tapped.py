"""A client that tells a tap what it sends and receives: frames, closes, REST answers. Used by captures alone.

A subclass, and not a hook, so that a gateway that captures nothing pays nothing. What is told may hold anything that an
upstream says; it never holds a query or a header. Must not know what becomes of it.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

import aiohttp

from adapters.api import Adapter, Request
from gateway.clock import Clock
from gateway.upstream.client import Answer, Client, Failure
from gateway.upstream.connection import Connection
from gateway.upstream.limits import Limits
from gateway.upstream.liveness import Liveness

Direction = Literal["in", "out"]
#: `open` and `close` of a connection; its frames, a binary one in base64; a REST request, its answer, or why there is none.
Kind = Literal["open", "text", "binary", "close", "request", "answer", "failure"]


class Line(Protocol):
    """Where a source tells what happens. Waits while the tap is behind: nothing more is read from the socket meanwhile."""

    def __call__(
        self, endpoint: str, connection: int | None, direction: Direction, kind: Kind, text: str
    ) -> Awaitable[None]:
        """Takes note of one thing.

        Args:
            endpoint: path, without query.
            connection: counted from 1 for each source; None for REST.
            direction: `out` is from the gateway.
            kind: what it is.
            text: the frame, the body, the words.
        """


#: Makes the line of a source, given its adapter and what takes its secrets out of a text.
Tap = Callable[[Adapter[Any], Callable[[str], str]], Line]


class TappedClient(Client):
    """Does what `Client` does, and tells."""

    def __init__(self, clock: Clock, limits: Limits, line: Line) -> None:
        super().__init__(clock, limits)
        self._line = line
        self._connections = 0

    async def connect(
        self, request: Request, *, ping_interval: float, idle_timeout: float | None = None
    ) -> Connection | Failure:
        """As `Client.connect`."""
        made = await super().connect(request, ping_interval=ping_interval, idle_timeout=idle_timeout)
        match made:
            case Tapped():
                await self._line(request.endpoint, made.number, "out", "open", "")
            case Failure():
                await self._line(request.endpoint, None, "in", "failure", made.error)
        return made

    def _attend(self, socket: aiohttp.ClientWebSocketResponse, liveness: Liveness, request: Request) -> Connection:
        self._connections += 1
        return Tapped(
            socket, liveness, self._clock, self._limits.close, request.endpoint, self._line, self._connections
        )

    async def get(self, request: Request) -> Answer | Failure:
        """As `Client.get`."""
        await self._line(request.endpoint, None, "out", "request", "")
        answer = await super().get(request)
        if isinstance(answer, Answer):
            await self._line(request.endpoint, None, "in", "answer", answer.body.decode("utf-8", "replace"))
        else:
            await self._line(request.endpoint, None, "in", "failure", answer.error)
        return answer


class Tapped(Connection):
    """A connection that tells what is received."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        liveness: Liveness,
        clock: Clock,
        close_timeout: float,
        endpoint: str,
        line: Line,
        number: int,
    ) -> None:
        super().__init__(socket, liveness, clock, close_timeout, endpoint)
        self._endpoint = endpoint
        self._line = line
        self.number = number

    async def receive(self) -> str | bytes | None:
        """As `Connection.receive`."""
        frame = await super().receive()
        match frame:
            case str():
                await self._line(self._endpoint, self.number, "in", "text", frame)
            case bytes():
                text = base64.b64encode(frame).decode()
                await self._line(self._endpoint, self.number, "in", "binary", text)
            case None if self.closed is not None:
                direction: Direction = "in" if self.closed.by_upstream else "out"
                code = "" if self.closed.code is None else f"{self.closed.code} {self.closed.reason}".rstrip()
                await self._line(self._endpoint, self.number, direction, "close", code)
        return frame
