"""WebSocket: drives one connection over an upgraded request (RFC 6455). The reader is the request's own handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from aiohttp import WebSocketError, WSMsgType, web

from gateway.stream import framing, outlet
from gateway.stream.connection import Connection, Surroundings
from gateway.stream.dialogue import Dialogue
from schemas import stream

log = structlog.get_logger()

#: A connection that went away without a close frame (RFC 6455, section 7.1.5).
ABNORMAL = 1006


def response(around: Surroundings) -> web.WebSocketResponse:
    """A WebSocket that is not prepared yet. Pings are ours, and messages of exactly the greatest size pass."""
    return web.WebSocketResponse(
        protocols=(stream.SUBPROTOCOL,),
        compress=False,
        autoping=False,
        max_msg_size=stream.MAX_COMMAND + 1,
        timeout=around.settings.grace,
    )


async def serve(
    request: web.Request,
    socket: web.WebSocketResponse,
    around: Surroundings,
    admit: Callable[[Connection], Dialogue],
    leave: Callable[[Connection, int], None],
) -> None:
    """Upgrades the request and serves it to its end; `leave` gets the close code."""
    await socket.prepare(request)
    way = (around.settings.direct and outlet.direct(request)) or outlet.of_websocket(request, socket)
    finishing: list[asyncio.Task[None]] = []

    def finish(connection: Connection) -> None:
        if connection.ending is not None:
            closing = _close(socket, way, connection.ending, around.settings.grace)
            finishing.append(asyncio.get_running_loop().create_task(closing, name=f"stream-close-{connection.session}"))

    connection = Connection(around, framing.WEBSOCKET, way, request.remote or "", finish)
    code = ABNORMAL
    try:
        dialogue = admit(connection)
        code = await _read(socket, connection, dialogue)
    finally:
        connection.on_lost()
        try:
            if finishing:
                await asyncio.wait(finishing)
            await connection.settle()
        finally:
            for task in finishing:
                task.cancel()
            leave(connection, connection.ending.code if connection.ending is not None else code)
            await outlet.close(way)


async def _read(socket: web.WebSocketResponse, connection: Connection, dialogue: Dialogue) -> int:
    """Reads until the end; returns the close code that the peer sent, or that aiohttp chose for it."""
    clock = connection.around.clock
    while True:
        message = await socket.receive()
        connection.heard = clock.monotonic()
        match message.type:
            case WSMsgType.TEXT | WSMsgType.BINARY:
                await dialogue.hear(message.data)
            case WSMsgType.PING:
                if not connection.ended and dialogue.afford():
                    _pong(connection, bytes(message.data))
            case WSMsgType.PONG:
                continue
            case WSMsgType.CLOSE:
                return int(message.data or 1005)
            case WSMsgType.ERROR if isinstance(message.data, WebSocketError):
                return int(message.data.code)
            case _:
                return ABNORMAL


def _pong(connection: Connection, payload: bytes) -> None:
    try:
        connection.outlet.write(framing.pong_frame(payload))
    except (OSError, RuntimeError):  # the peer is gone; the reader is about to find out
        connection.on_lost()


async def _close(socket: web.WebSocketResponse, way: outlet.Outlet, close: stream.Close, grace: float) -> None:
    """The closing handshake, bounded; a peer that takes nothing is dropped."""
    try:
        async with asyncio.timeout(grace):
            await outlet.drained(way)
            await socket.close(code=close.code, message=close.reason.encode())
    except TimeoutError:
        way.abort()
    except (OSError, RuntimeError) as error:
        log.debug("stream_close_failed", error=type(error).__name__)
    if way.get_write_buffer_size():
        way.abort()
