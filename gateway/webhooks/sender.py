"""One attempt: a signed POST and what came of it.

Owns the HTTP client of an endpoint and the reading of hostile answers: the whole attempt has one deadline, of the answer's
body a few bytes are read and never decompressed, redirects are not followed, and the address guard sits where sockets are
made. Must not know lanes, schedules or the store.
"""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, cast

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler

import gateway
from gateway import telemetry
from gateway.clock import Clock
from gateway.webhooks import guard, record, schedule, signing
from gateway.webhooks.config import EndpointConfig

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
#: Bytes of an answer's body that are kept.
EXCERPT = 2048
#: Bytes of an answer that are read, as they are on the wire: headers, interim answers (1xx) and the framing of chunks included.
#: A longer answer costs its connection. Framing is what costs the processor, and there can be any amount of it around a byte.
LONGEST = 1 << 14
#: Larger bodies are sent in pieces of this many bytes, as fast as the receiver takes them.
_PIECE = 1 << 18
#: Answers that may wait to be read on one connection, interim ones (1xx) included. Of one attempt there is one, and a few
#: interim ones at most.
_UNREAD = 64


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What came of an attempt.

    Attributes:
        outcome: constant word for metrics: `delivered`, `http_3xx`, `timeout`, ...
        status: HTTP status; None where no answer came.
        error: why it failed, in words; None: it did not. Repeats nothing of the URL or the headers.
        response: the beginning of the answer's body, secrets masked; None where there is none to show.
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


class _Attempt:
    """One attempt while it lasts: whether it made a connection, and its deadline, which covers all that is inside `with`.

    An attempt that is not over when its time has come is cancelled, and that comes out of the `with` as a `TimeoutError`.
    Being cancelled by somebody else is not hidden.
    """

    __slots__ = ("_cancelling", "_deadlines", "_task", "connected", "due", "expired")

    def __init__(self, deadlines: _Deadlines) -> None:
        self._deadlines = deadlines
        self.connected = False
        self.expired = False
        self.due = 0.0

    def __enter__(self) -> _Attempt:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._deadlines.add(self)
        _ATTEMPT.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.remove(self)
        task = self._task
        # A task that its own context leads to would be garbage that no reference count frees.
        del self._task
        _ATTEMPT.set(None)
        if self.expired and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """The time has come."""
        self.expired = True
        self._task.cancel()


#: The attempt that runs in this context, while it does; where sockets are made, it learns that one was.
_ATTEMPT: ContextVar[_Attempt | None] = ContextVar("attempt")


class _Deadlines:
    """The deadlines of a sender's attempts. All have the same timeout, so that those begun first are due first and one
    timer does for all of them; it costs an attempt next to nothing.

    Args:
        timeout: seconds.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._attempts: dict[_Attempt, None] = {}  # in the order of their deadlines
        self._timer: asyncio.TimerHandle | None = None

    def add(self, attempt: _Attempt) -> None:
        """An attempt begins."""
        attempt.due = self._loop.time() + self._timeout
        self._attempts[attempt] = None
        if self._timer is None:
            self._timer = self._loop.call_at(attempt.due, self._ring)

    def remove(self, attempt: _Attempt) -> None:
        """An attempt is over. The timer stays: it looks who is next when it rings."""
        self._attempts.pop(attempt, None)

    def close(self) -> None:
        """Rings no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        now = self._loop.time()
        self._timer = None
        for attempt in list(self._attempts):
            if attempt.due > now:
                self._timer = self._loop.call_at(attempt.due, self._ring)
                break
            del self._attempts[attempt]
            attempt.expire()


class _Handler(ResponseHandler):
    """A connection that is given up when a receiver sends what nobody asked for.

    aiohttp takes what came between two requests for the answer to the second one, and keeps any amount of it. Where a body
    cannot be read, it lets its reader wait for ever, and loses the answer as well if the two come in one piece.
    """

    _left = LONGEST

    def set_response_params(self, **params: Any) -> None:
        """A request goes out."""
        self._left = LONGEST
        super().set_response_params(**params)

    def is_connected(self) -> bool:
        return super().is_connected() and not self.should_close

    def data_received(self, data: bytes) -> None:
        too_long = len(data) > self._left
        data = data[: self._left]
        self._left -= len(data)
        end = data.find(b"\r\n\r\n") + 4
        if 4 <= end < len(data):
            super().data_received(data[:end])
            data = data[end:]
        if super().is_connected():
            super().data_received(data)
        if self.exception() is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError())
        if (too_long or len(self) > _UNREAD) and self.transport is not None:
            self.transport.abort()


class _Connector(aiohttp.TCPConnector):
    """Makes such connections."""

    def __init__(
        self,
        limit: int,
        make_socket: Callable[[guard.AddressInfo], socket.socket],
        names: AbstractResolver | None,
        *,
        keeps: bool,
    ) -> None:
        super().__init__(limit=limit, socket_factory=make_socket, resolver=names, force_close=not keeps)
        self._factory = functools.partial(cast(type[ResponseHandler], _Handler), loop=asyncio.get_running_loop())


class Sender:
    """The HTTP client of one endpoint. Made and closed inside a running event loop.

    Args:
        config: where to send and with what bounds.
        clock: for timestamps and durations. The deadline runs on the event loop's own clock.
        names: host names to addresses; None: in the event loop's own threads.
    """

    def __init__(self, config: EndpointConfig, clock: Clock, names: AbstractResolver | None = None) -> None:
        self._url = config.target
        self._keys = config.keys
        self._secrets = telemetry.any_form(_secrets(config))
        self._timeout = config.timeout
        self._clock = clock
        self._deadlines = _Deadlines(config.timeout)
        self._config, self._names = config, names
        self._session = self._open(keeps=True)
        self._fresh: aiohttp.ClientSession | None = None

    def _open(self, *, keeps: bool) -> aiohttp.ClientSession:
        """A client that keeps its connections, or makes one for each request."""
        config = self._config
        make = guard.socket_factory(allow_private=config.allow_private, plain=config.private_only)

        def connect(info: guard.AddressInfo) -> socket.socket:
            attempt = _ATTEMPT.get()
            if attempt is not None:
                attempt.connected = True
            return make(info)

        return aiohttp.ClientSession(
            connector=_Connector(config.concurrency, connect, self._names, keeps=keeps),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={name: value.get_secret_value() for name, value in config.headers.items()}
            | {
                "Content-Type": CONTENT_TYPE,
                "User-Agent": f"Mainstem/{gateway.__version__}",
                "Accept-Encoding": "identity",
            },
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=4096,
        )

    async def close(self) -> None:
        """Closes the connections. Idempotent."""
        self._deadlines.close()
        await self._session.close()
        if self._fresh is not None:
            await self._fresh.close()

    async def send(self, message_id: str, body: bytes, former: Sequence[signing.Key] = ()) -> Answer:
        """Makes one attempt; failures of the network and the receiver are answers, not exceptions.

        Args:
            message_id: `webhook-id`.
            body: what is sent.
            former: keys that sign beside the current one, because the receiver may not have that yet.
        """
        at, began = self._clock.now(), self._clock.monotonic()
        response: aiohttp.ClientResponse | None = None
        content = bytearray()
        fault: tuple[str, str] | None = None
        try:
            with _Attempt(self._deadlines) as attempt:
                response = await self._post(attempt, message_id, int(at), body, former)
                await _read(response, content)
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
            response=_text(content, response.headers.get("Content-Encoding"), self._secrets),
            retry_after=schedule.parse_retry_after(response.headers.getall("Retry-After", ()), self._clock.now()),
            at=at,
            duration=duration,
        )

    async def _post(
        self, attempt: _Attempt, message_id: str, timestamp: int, body: bytes, former: Sequence[signing.Key]
    ) -> aiohttp.ClientResponse:
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signing.sign((*self._keys, *former), message_id, timestamp, body),
        }
        if len(body) > _PIECE:
            headers["Content-Length"] = str(len(body))
        try:
            return await self._request(self._session, headers, body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            # A kept connection that the receiver had given up meanwhile says nothing about the receiver: once more, at
            # once, uncounted, on a new one, for the other kept ones may have been given up as well. aiohttp does so itself,
            # but not for POST.
            if attempt.connected or isinstance(error, aiohttp.ClientConnectorError):
                raise
        if self._fresh is None:
            self._fresh = self._open(keeps=False)
        return await self._request(self._fresh, headers, body)

    async def _request(
        self, session: aiohttp.ClientSession, headers: dict[str, str], body: bytes
    ) -> aiohttp.ClientResponse:
        data = body if len(body) <= _PIECE else _pieces(body)
        return await session.post(self._url, data=data, headers=headers, allow_redirects=False)

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


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


async def _read(response: aiohttp.ClientResponse, body: bytearray) -> None:
    """Reads the body as it is on the wire; of an answer there is never more than `LONGEST`."""
    while chunk := await response.content.readany():
        body += chunk


def _secrets(config: EndpointConfig) -> Iterator[str]:
    """What of an endpoint's settings no answer may show; of `Authorization: Bearer x`, receivers often know the `x` alone."""
    for secret in record.secrets_of(record.settings_of(config)):
        yield secret
        yield secret.partition(" ")[2]


def _text(body: bytearray, encoding: str | None, secrets: re.Pattern[str]) -> str | None:
    """The beginning of an answer's body. What a receiver echoes of the request's secrets is masked, before it is cut."""
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        return None  # compressed although identity was asked for: nothing to show
    text, end = body.decode("utf-8", "replace"), len(body[:EXCERPT].decode("utf-8", "replace"))
    end = next((found.end() for found in secrets.finditer(text) if found.start() < end < found.end()), end)
    return secrets.sub(telemetry.MASK, text[:end])
