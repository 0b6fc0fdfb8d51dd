"""One attempt: a signed POST and what came of it.

Owns the HTTP client of an endpoint and the reading of hostile answers: the whole attempt has one deadline, of the answer's
body a few bytes are read and never decompressed, redirects are not followed, and the address guard sits where sockets are
made. Must not know lanes, schedules or the store.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from dataclasses import dataclass

import aiohttp
import yarl

import gateway
from gateway.clock import Clock
from gateway.webhooks import guard, schedule, signing
from gateway.webhooks.config import EndpointConfig

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
#: Bytes of an answer's body that are read and kept.
EXCERPT = 2048
#: aiohttp warns about larger bodies unless they come as a file.
_LARGE = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt.

    Attributes:
        outcome: constant word for metrics: `delivered`, `http_3xx`, `timeout`, ...
        status: HTTP status; None where no answer came.
        error: why it failed, in words; None: it did not. Repeats nothing of the URL or the headers.
        response: the beginning of the answer's body; None where there is none to show.
        retry_after: seconds that the receiver asked to wait.
        at: when the attempt began, seconds since 1970 (UTC).
        duration: seconds.
    """

    outcome: str
    status: int | None
    error: str | None
    response: str | None
    retry_after: float | None
    at: float
    duration: float


class _Probe:
    """Learns from aiohttp's tracing whether a request went out on a connection that was used before."""

    __slots__ = ("reused",)

    def __init__(self) -> None:
        self.reused = False


async def _on_reuse(session: object, context: object, params: object) -> None:
    context.trace_request_ctx.reused = True  # type: ignore[attr-defined]  # the namespace aiohttp makes per request


class Sender:
    """The HTTP client of one endpoint. Made and closed inside a running event loop.

    Args:
        config: where to send and with what bounds.
        clock: for timestamps and durations. The deadline runs on the event loop's own clock.
    """

    def __init__(self, config: EndpointConfig, clock: Clock) -> None:
        self._url = yarl.URL(config.url)
        self._keys = config.keys
        self._timeout = config.timeout
        self._clock = clock
        self._headers = {name: value.get_secret_value() for name, value in config.headers.items()} | {
            "Content-Type": CONTENT_TYPE,
            "User-Agent": f"Mainstem/{gateway.__version__}",
            "Accept-Encoding": "identity",
        }
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(_on_reuse)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=config.concurrency,
                socket_factory=guard.socket_factory(allow_private=config.allow_private, plain=config.private_only),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trace_configs=[tracing],
            auto_decompress=False,
            trust_env=False,
            read_bufsize=4096,
        )

    async def close(self) -> None:
        """Closes the connections. Idempotent."""
        await self._session.close()

    async def send(self, message_id: str, body: bytes) -> Answer:
        """Makes one attempt; failures of the network and the receiver are answers, not exceptions."""
        at, began = self._clock.now(), self._clock.monotonic()
        response: aiohttp.ClientResponse | None = None
        excerpt = bytearray()
        fault: tuple[str, str] | None = None
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._post(message_id, int(at), body)
                await _read(response, excerpt)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            fault = self._explain(error)
        finally:
            if response is not None:
                response.close()  # gives back the connection where the body was read to its end
        duration = self._clock.monotonic() - began
        if response is None:
            outcome, words = fault or ("protocol", "no answer")
            return Answer(outcome, None, words, None, None, at, duration)
        # The status has come, so that the receiver has decided: a body that is cut short or never ends changes nothing.
        status = response.status
        good = 200 <= status < 300
        return Answer(
            outcome="delivered" if good else f"http_{status // 100}xx",
            status=status,
            error=None if good else f"HTTP {status}",
            response=_text(excerpt, response.headers.get("Content-Encoding")),
            retry_after=schedule.parse_retry_after(response.headers.get("Retry-After"), self._clock.now()),
            at=at,
            duration=duration,
        )

    async def _post(self, message_id: str, timestamp: int, body: bytes) -> aiohttp.ClientResponse:
        headers = self._headers | {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signing.sign(self._keys, message_id, timestamp, body),
        }
        probe = _Probe()
        try:
            return await self._request(headers, body, probe)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # A kept connection that the receiver had given up meanwhile says nothing about the receiver: once more, at
            # once, uncounted. aiohttp does so itself, but not for POST.
            if not probe.reused:
                raise
        return await self._request(headers, body, _Probe())

    async def _request(self, headers: dict[str, str], body: bytes, probe: _Probe) -> aiohttp.ClientResponse:
        data = body if len(body) <= _LARGE else io.BytesIO(body)
        return await self._session.post(
            self._url, data=data, headers=headers, allow_redirects=False, trace_request_ctx=probe
        )

    def _explain(self, error: Exception) -> tuple[str, str]:
        """An outcome and words for a failure. aiohttp's own texts are not used: some contain the URL."""
        if isinstance(error, TimeoutError):
            return "timeout", f"no complete answer within {self._timeout:g} s"
        if isinstance(error, aiohttp.ClientConnectorDNSError | UnicodeError):
            return "dns", "the host name could not be resolved"
        if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError | aiohttp.ServerFingerprintMismatch):
            return "tls", f"TLS: {_reason(error)}"
        if isinstance(error, aiohttp.ClientConnectorError):
            return _explain_connect(error.os_error)
        if isinstance(error, aiohttp.ServerDisconnectedError | OSError):
            return "disconnected", "the connection was closed before an answer came"
        return "protocol", "the answer is not HTTP that can be read"


def _reason(error: BaseException) -> str:
    """OpenSSL's word for what is wrong with a certificate or a handshake."""
    cause = error.__cause__ or error
    return str(getattr(cause, "verify_message", None) or getattr(cause, "reason", None) or "handshake failed")


def _explain_connect(error: OSError) -> tuple[str, str]:
    if guard.REFUSED in str(error):
        return "address_refused", str(error).removeprefix("Multiple exceptions: ")
    if isinstance(error, ConnectionRefusedError):
        return "connection_refused", "connection refused"
    return "unreachable", f"no connection: {error.strerror or type(error).__name__}"


async def _read(response: aiohttp.ClientResponse, excerpt: bytearray) -> None:
    """Fills the excerpt with the beginning of the body as it is on the wire."""
    while len(excerpt) <= EXCERPT:
        chunk = await response.content.read(EXCERPT + 1 - len(excerpt))
        if not chunk:
            return
        excerpt += chunk


def _text(excerpt: bytearray, encoding: str | None) -> str | None:
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        return None  # compressed although identity was asked for: nothing to show
    return bytes(excerpt[:EXCERPT]).decode("utf-8", "replace")
