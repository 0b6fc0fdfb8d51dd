"""WebSocket: drives one connection over an upgraded request (RFC 6455). The reader is the request's own handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from aiohttp import WebSocketError, WSMsgType, web

from gateway.stream import framing, outlet
from gateway.stream.connection import Connection, Surroundings
from gateway.stream.dialogue import Dialogue
from gateway.stream.handshake import SharedCompression, Socket
from schemas import stream

log = structlog.get_logger()

#: A connection that went away without a close frame (RFC 6455, section 7.1.5).
ABNORMAL = 1006


def response(request: web.Request, around: Surroundings) -> Socket:
    """A WebSocket that is not prepared yet. Pings are ours, and messages of exactly the greatest size pass."""
    shared = around.settings.compression and around.settings.direct and outlet.direct(request) is not None
    return (SharedCompression if shared else Socket)(
        protocols=(stream.SUBPROTOCOL,),
        compress=False,
        autoping=False,
        autoclose=False,
        max_msg_size=stream.MAX_COMMAND + 1,
        timeout=around.settings.grace,
    )


async def serve(
    request: web.Request,
    socket: Socket,
    around: Surroundings,
    admit: Callable[[Connection], Dialogue],
    leave: Callable[[Connection, int], None],
) -> None:
    """Upgrades the request and serves it to its end; `leave` gets the close code."""
    await socket.prepare(request)
    way = (around.settings.direct and outlet.direct(request)) or outlet.of_websocket(request, socket)
    loop = asyncio.get_running_loop()
    deadline: list[asyncio.TimerHandle] = []

    def finish(connection: Connection) -> None:
        """Says why, behind all that was handed down, and gives the peer some time to take it and to answer."""
        close = connection.ending
        if close is not None:
            _write(connection, framing.close_frame(close.code, close.reason))
            deadline.append(loop.call_later(around.settings.patience(close), way.abort))

    form = framing.WEBSOCKET_DEFLATED if socket.compress else framing.WEBSOCKET
    connection = Connection(around, form, way, request.remote or "", finish)

    def may_close() -> bool:
        if connection.ending is not None:
            return False
        connection.on_lost()
        deadline.append(loop.call_later(around.settings.grace, way.abort))
        return True

    socket.may_close = may_close
    code = ABNORMAL
    try:
        dialogue = admit(connection)
        code = await _read(socket, connection, dialogue)
    finally:
        socket.let_go()
        connection.on_lost()
        for timer in deadline:
            timer.cancel()
        try:
            await connection.settle()
        finally:
            leave(connection, connection.ending.code if connection.ending is not None else code)
            await outlet.close(way)
            outlet.hang_up(way, request, around.settings.patience(connection.ending))


async def _read(socket: Socket, connection: Connection, dialogue: Dialogue) -> int:
    """Reads until the end; returns the close code that the peer sent, or that aiohttp chose for it.

    Goes on after our own close until the peer answers it: a connection that is closed with bytes unread is reset, and takes
    the close frame with it.
    """
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
                if connection.ending is None:
                    await socket.close(code=1000, drain=False)  # the answer
                return int(message.data or 1005)
            case WSMsgType.ERROR if isinstance(message.data, WebSocketError):
                return int(message.data.code)
            case _:
                return ABNORMAL


def _pong(connection: Connection, payload: bytes) -> None:
    if not _write(connection, framing.pong_frame(payload)):
        connection.on_lost()


def _write(connection: Connection, frame: bytes) -> bool:
    """Writes a control frame; False where the peer is gone, which the reader is about to find out."""
    try:
        connection.outlet.write(frame)
    except (OSError, RuntimeError):
        return False
    return True
