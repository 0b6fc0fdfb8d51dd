"""The listening socket: address, limits, and the order of stopping.

Stopping has two steps, because what is streaming must be told in between: `refuse` lets nobody new in, then the caller closes
its streams, then `stop` waits for the requests that are left. Must not know the application's routes.
"""

from __future__ import annotations

import logging
import ssl

from aiohttp import web

#: Seconds that an idle connection is kept; proxies in front usually keep theirs for 60.
KEEPALIVE = 75.0
#: Bytes of the request line, and of one header: a URL or an `Authorization` may carry a long token.
LINE_LIMIT = 16 * 1024
FIELD_LIMIT = 16 * 1024
HEADERS = 100
#: Connections that wait to be accepted: a restart brings all consumers back at once.
BACKLOG = 1024
#: Seconds to go on reading a body that nobody wants, so that the client gets to read the answer.
LINGER = 5.0


class _Discreet(logging.Filter):
    """aiohttp logs a malformed request with its bytes, which may hold a token: the kind of error is all that may stay."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, web.HTTPException | ConnectionError) or _malformed(error):
            return False  # the client's fault, answered with 400, or it went away; anybody could fill the log with them
        if error is not None:
            record.msg, record.args = "http_connection_failed: %s", (type(error).__name__,)
            record.exc_info = record.exc_text = None
        return True


def _malformed(error: BaseException | None) -> bool:
    return error is not None and type(error).__module__.startswith("aiohttp.http")


_logger = logging.getLogger("mainstem.http")
_logger.addFilter(_Discreet())


class Server:
    """Serves an application at one address."""

    def __init__(
        self,
        app: web.Application,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        patience: float = 10.0,
    ) -> None:
        """`port` 0 takes a free one. `patience` is how many seconds `stop` waits for requests that are under way."""
        self._host, self._port, self._tls = host, port, tls
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            handler_cancellation=True,  # who has gone needs no answer; an abandoned stream ends at once
            access_log=None,  # URLs may carry tokens
            logger=_logger,
            shutdown_timeout=patience,
            keepalive_timeout=KEEPALIVE,
            max_line_size=LINE_LIMIT,
            max_field_size=FIELD_LIMIT,
            max_headers=HEADERS,
            lingering_time=LINGER,
        )
        self._site: web.TCPSite | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens at.

        Raises:
            RuntimeError: it does not.
        """
        if not self._runner.addresses:
            raise RuntimeError("the server does not listen")
        host, port = self._runner.addresses[0][:2]
        return str(host), int(port)

    @property
    def url(self) -> str:
        """Base URL of the server."""
        host, port = self.address
        return f"{'https' if self._tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    async def start(self) -> None:
        """Listens from now on.

        Raises:
            OSError: the address cannot be used. Nothing is left open.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls, backlog=BACKLOG)
        try:
            await site.start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self._site = site

    async def refuse(self) -> None:
        """Lets nobody new in; connections that are open stay. Idempotent."""
        site, self._site = self._site, None
        if site is not None:
            await site.stop()

    async def stop(self) -> None:
        """Waits for requests that are under way, as long as `patience` lasts, then closes every connection. Idempotent."""
        await self.refuse()
        await self._runner.cleanup()
