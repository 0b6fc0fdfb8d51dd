"""SSE: drives one connection as a response that does not end (HTML standard, section 9.2)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import structlog
from aiohttp import HttpVersion11, web

from gateway.stream import framing, outlet
from gateway.stream.connection import Connection, Surroundings
from gateway.stream.dialogue import Dialogue
from gateway.stream.websocket import ABNORMAL

log = structlog.get_logger()

MEDIA_TYPE = "text/event-stream"


async def serve(
    request: web.Request,
    around: Surroundings,
    admit: Callable[[Connection], Dialogue],
    leave: Callable[[Connection, int], None],
) -> web.StreamResponse:
    """Answers the request and serves it to its end; `leave` gets the close code that a WebSocket would have had."""
    response = web.StreamResponse(
        headers={
            "Content-Type": f"{MEDIA_TYPE}; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # nginx would hold events back
        }
    )
    response.force_close()
    await response.prepare(request)
    fast = outlet.direct(request) if around.settings.direct else None
    way = fast or outlet.of_response(request, response)
    chunked = fast is not None and request.version >= HttpVersion11
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finish(connection: Connection) -> None:
        if not done.done():
            done.set_result(None)

    kind = framing.SSE_CHUNKED if chunked else framing.SSE_PLAIN
    connection = Connection(around, kind, way, request.remote or "", finish)
    connection.heard = math.inf  # nothing is ever heard of an SSE client: what it does not take tells
    try:
        admit(connection)
        await done
    finally:
        connection.on_lost()
        try:
            await _finish(response, way, around.settings.patience(connection.ending))
            await connection.settle()
        finally:
            leave(connection, connection.ending.code if connection.ending is not None else ABNORMAL)
            await outlet.close(way)
    return response


async def _finish(response: web.StreamResponse, way: outlet.Outlet, patience: float) -> None:
    """Ends the body, bounded; a client that takes nothing is dropped."""
    try:
        async with asyncio.timeout(patience):
            await outlet.drained(way)
            if not way.is_closing():
                await response.write_eof()
            await outlet.emptied(way)
    except TimeoutError:
        way.abort()
    except (OSError, RuntimeError) as error:
        log.debug("stream_close_failed", error=type(error).__name__)
