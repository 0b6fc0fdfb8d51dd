"""The HTTP client of one source: WebSocket handshakes and REST requests, their failures as values.

Owns the `aiohttp.ClientSession`. An aiohttp error carries the whole URL, credentials included, so none of them leaves this
module: a failure becomes a few words and, where there was an answer, its status. Must not know what an answer means.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass, field
from types import SimpleNamespace

import aiohttp

from adapters.api import Request
from gateway import __version__
from gateway.clock import Clock
from gateway.upstream import backoff
from gateway.upstream.connection import Connection
from gateway.upstream.limits import Limits
from gateway.upstream.liveness import Liveness


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A handshake or a request that came to nothing.

    Attributes:
        error: why, in words that show no secret.
        status: HTTP status, where there was an answer.
        retry_after: seconds the upstream asks to wait.
        timed_out: there was no answer in time.
    """

    error: str
    status: int | None = None
    retry_after: float | None = None
    timed_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A 200 answer to a REST request."""

    body: bytes = field(repr=False)


class _Redirected(Exception):
    """An upstream answers with a redirect, which is not followed: it would take the credentials elsewhere."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        super().__init__(response.status)
        self.status = response.status
        self.retry_after = response.headers.get("Retry-After")


class Client:
    """Makes the connections and requests of one source. No cookies, no proxies from the environment, no redirects."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._session_: aiohttp.ClientSession | None = None

    @property
    def _session(self) -> aiohttp.ClientSession:
        """Made on first use: it belongs to the running event loop."""
        if self._session_ is None:
            self._session_ = self._make_session()
        return self._session_

    @staticmethod
    def _make_session() -> aiohttp.ClientSession:
        # `ws_connect` cannot be told not to follow redirects; a trace sees them before they are.
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(_refuse_redirect)
        return aiohttp.ClientSession(
            # the number of connections is bounded by those who ask for them; a pool's limit would block the rest unseen
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"mainstem/{__version__}"},
            timeout=aiohttp.ClientTimeout(total=None),
            trace_configs=[trace],
            trust_env=False,
        )

    async def close(self) -> None:
        """Closes what is left of the pool."""
        if self._session_ is not None:
            await self._session_.close()

    async def connect(
        self, request: Request, *, ping_interval: float, idle_timeout: float | None = None
    ) -> Connection | Failure:
        """A new WebSocket connection."""
        try:
            async with asyncio.timeout(self._limits.connect):
                socket = await self._session.ws_connect(
                    request.url,
                    headers=request.headers,
                    # pongs must be seen and pings judged by `Liveness`: aiohttp's own heartbeat takes a connection for dead
                    # when it is the gateway that has stopped reading
                    autoping=False,
                    compress=0,
                    max_msg_size=self._limits.frame,
                    timeout=aiohttp.ClientWSTimeout(ws_close=self._limits.close),
                )
        except (aiohttp.ClientError, OSError, ValueError, _Redirected) as error:
            return self._failure(error)
        liveness = Liveness(self._clock.monotonic(), ping_interval, idle_timeout)
        return self._attend(socket, liveness, request)

    def _attend(self, socket: aiohttp.ClientWebSocketResponse, liveness: Liveness, request: Request) -> Connection:
        return Connection(socket, liveness, self._clock, self._limits.close, request.endpoint)

    async def get(self, request: Request) -> Answer | Failure:
        """A REST request. Any status but 200 is a failure, as is a body that is too large."""
        try:
            async with (
                asyncio.timeout(self._limits.request),
                self._session.get(
                    request.url,
                    headers={"Accept": "application/json", "Accept-Encoding": "identity", **request.headers},
                    allow_redirects=False,
                ) as response,
            ):
                if response.status != 200:
                    return Failure(
                        error=f"answered with HTTP {response.status}",
                        status=response.status,
                        retry_after=self._retry_after(response.headers.get("Retry-After")),
                    )
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > self._limits.body:
                        response.close()
                        return Failure(error=f"answer larger than {self._limits.body} bytes", status=200)
                return Answer(body=bytes(body))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._failure(error)

    def _retry_after(self, header: str | None) -> float | None:
        return backoff.retry_after(header, self._clock.now())

    def _failure(self, error: Exception) -> Failure:
        if isinstance(error, _Redirected):
            return self._refused(error.status, error.retry_after)
        if isinstance(error, aiohttp.WSServerHandshakeError) and error.status != 101:
            return self._refused(error.status, error.headers.get("Retry-After") if error.headers else None)
        return Failure(error=describe(error), timed_out=isinstance(error, TimeoutError))

    def _refused(self, status: int, header: str | None) -> Failure:
        return Failure(error=f"answered with HTTP {status}", status=status, retry_after=self._retry_after(header))


async def _refuse_redirect(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    params.response.close()
    raise _Redirected(params.response)


def describe(error: Exception) -> str:
    """A client error in a few words, without its URL."""
    match error:
        case TimeoutError():
            return "no answer in time"
        case aiohttp.InvalidURL():
            return "not a valid URL"
        case aiohttp.ClientConnectorDNSError():
            return "host name not found"
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return "TLS certificate not accepted"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return "TLS handshake failed"
        case aiohttp.WSServerHandshakeError():
            return "the WebSocket handshake was not completed"
        case aiohttp.ClientResponseError():
            return "the answer is not valid HTTP"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError():
            return "connection closed before an answer"
        case OSError(errno=int(number)) if number > 0:
            return f"connection failed: {os.strerror(number)}"
        case _:
            return "connection failed"
