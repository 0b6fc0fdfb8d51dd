"""One WebSocket connection to an upstream: frames out of it, pings into it, one close.

Owns the socket and the watchdog that asks `Liveness` what is due. Never sends a data frame. Must not know what a frame says,
which adapter reads it, or what happens after the close.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import aiohttp
from aiohttp import WSMsgType

from gateway.clock import Clock
from gateway.upstream.liveness import Dead, Liveness, Ping

#: RFC 6455, section 7.1.5: the close frame had no code.
NO_STATUS = 1005

_PROTOCOL_ERRORS: dict[int, str] = {
    aiohttp.WSCloseCode.PROTOCOL_ERROR: "the upstream broke the WebSocket protocol",
    aiohttp.WSCloseCode.INVALID_TEXT: "a text frame is not UTF-8",
    aiohttp.WSCloseCode.MESSAGE_TOO_BIG: "a frame is too large",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """How a connection ended.

    Attributes:
        by_upstream: the upstream hung up, or the network did; not this side.
        code: of the upstream's close frame, or of the error that this side found; None where the connection just broke off.
        reason: the upstream's own words.
        error: what happened, in ours.
    """

    by_upstream: bool
    code: int | None = None
    reason: str = ""
    error: str


class Connection:
    """An open connection. `receive` must be called again and again: pings are answered and pongs seen only there.

    Attributes:
        closed: how it ended, once `receive` has returned None.
        liveness: what was last heard, and when.
    """

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        liveness: Liveness,
        clock: Clock,
        close_timeout: float,
        endpoint: str,
    ) -> None:
        self._socket = socket
        self._clock = clock
        self._close_timeout = close_timeout
        self._verdict: Closed | None = None
        self.closed: Closed | None = None
        self.liveness = liveness
        self._watchdog = asyncio.create_task(self._watch(), name=f"liveness {endpoint}")

    async def receive(self) -> str | bytes | None:
        """The next data frame; None when the connection is over."""
        while self.closed is None:
            self.liveness.reading(self._clock.monotonic())
            message = await self._socket.receive()
            match message.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    self.liveness.data(self._clock.monotonic())
                    return message.data  # type: ignore[no-any-return]
                case WSMsgType.PING:
                    self.liveness.heard(self._clock.monotonic())
                    await self._pong(message.data)
                case WSMsgType.PONG:
                    self.liveness.heard(self._clock.monotonic())
                case kind:
                    if kind is WSMsgType.CLOSE:
                        self.liveness.heard(self._clock.monotonic())
                    self.closed = self._verdict or _closed(message)
        return None

    async def hang_up(self, error: str) -> None:
        """Ends the connection from this side: `receive` returns None, and `closed` has `error`."""
        self._verdict = self._verdict or Closed(by_upstream=False, error=error)
        await self._close()

    async def close(self) -> None:
        """Lets go of the socket, with a close frame where that still makes sense. Bounded; idempotent."""
        self._watchdog.cancel()
        try:
            await self._close()
        finally:
            await asyncio.wait({self._watchdog})
        if not self._watchdog.cancelled():
            self._watchdog.result()

    def heard_at(self) -> float:
        """When anything was last received, in seconds since 1970, UTC."""
        return self._clock.now() - (self._clock.monotonic() - self.liveness.heard_at)

    async def _close(self) -> None:
        # aiohttp bounds the wait for the peer's close frame, not the sending of ours: a peer that reads nothing blocks that
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._close_timeout):
                await self._socket.close()

    async def _pong(self, payload: bytes) -> None:
        try:
            await self._socket.pong(payload)
        except (aiohttp.ClientError, OSError):
            # the transport has gone meanwhile; the next receive says so, after what had still arrived
            return

    async def _watch(self) -> None:
        """Pings when a ping is due, and hangs up on a peer that is not there."""
        while True:
            match self.liveness.next(self._clock.monotonic()):
                case Dead(reason):
                    await self.hang_up(reason)
                    return
                case Ping():
                    if not await self._ping():
                        await self.hang_up("a ping could not be sent")
                        return
                case wait:
                    await self._clock.sleep(wait.seconds)

    async def _ping(self) -> bool:
        try:
            async with asyncio.timeout(self.liveness.pong_wait):
                await self._socket.ping()
        except (aiohttp.ClientError, OSError):
            return False
        return True


def _closed(message: aiohttp.WSMessage) -> Closed:
    if message.type is WSMsgType.CLOSE:
        code, reason = message.data or NO_STATUS, message.extra or ""
        return Closed(
            by_upstream=True, code=code, reason=reason, error=f"closed by the upstream: {code} {reason}".rstrip()
        )
    if message.type is WSMsgType.ERROR and isinstance(message.data, aiohttp.WebSocketError):
        code = message.data.code
        return Closed(
            by_upstream=False, code=code, error=_PROTOCOL_ERRORS.get(code, "the upstream broke the WebSocket protocol")
        )
    return Closed(by_upstream=True, error="connection lost")
