"""Handshake: aiohttp's WebSocket, with what its public interface has no way to say: shared compression, and who closes.

aiohttp confirms `server_no_context_takeover` only to clients that ask for it. Here its handshake is made without compression
and then extended. Were aiohttp to change what is extended, no compression would be agreed on; `tests/stream` notices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import hdrs, web

from gateway.stream import deflate


def _always() -> bool:
    return True


class Socket(web.WebSocketResponse):
    """A WebSocket that asks before it closes by itself, as it does when a peer breaks the protocol.

    Attributes:
        may_close: asked before. Who says yes writes nothing any more, who has written a close frame says no: nothing may
            follow one (RFC 6455, section 5.5.1).
    """

    __slots__ = ("may_close",)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.may_close: Callable[[], bool] = _always

    def let_go(self) -> None:
        """Asks nobody any more, so that who was asked leads back to nothing."""
        self.may_close = _always

    async def close(self, **options: Any) -> bool:
        """See aiohttp; False where it may not."""
        return self.may_close() and await super().close(**options)


class SharedCompression(Socket):
    """A WebSocket that offers compressed messages to clients that can take shared ones; make it with `compress=False`.

    `compress` tells, once it is prepared, whether that was agreed on: then the reader inflates what the client compressed.
    """

    __slots__ = ()

    def _handshake(self, request: web.BaseRequest) -> Any:
        made: Any = super()._handshake(request)
        if not (isinstance(made, tuple) and len(made) == 4 and made[2:] == (0, False)):
            return made
        headers, protocol, _, _ = made
        agreed = deflate.answer(request.headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ()))
        if agreed is None:
            return made
        headers[hdrs.SEC_WEBSOCKET_EXTENSIONS] = agreed
        return headers, protocol, 15, True
