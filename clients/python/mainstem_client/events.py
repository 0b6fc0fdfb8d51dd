"""One subscription, kept alive: connections that come and go, and one unbroken sequence of events out of them.

A task of its own reads, so that pings are answered while the program is busy with an event; between it and the program is
a bounded queue, and behind that the gateway's own. A program that is too slow for all of them is cut off by the gateway,
and goes on where it was. Must not know what an event means.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from mainstem_client import event as events
from mainstem_client import retry
from mainstem_client import token as tokens
from mainstem_client.errors import ClientError, Refused
from mainstem_client.event import Event
from mainstem_client.position import Position
from mainstem_client.retry import Reconnect
from mainstem_client.token import Token

log = logging.getLogger("mainstem_client")

#: Name of the one subscription of a connection.
_ID = "events"
#: Seconds: a handshake; an answer to a close; between pings that ask whether the gateway is still there.
_HANDSHAKE, _CLOSE, _HEARTBEAT = 10.0, 1.0, 20.0
#: Seconds between two renewals of a token at least: a function that brings tokens which have ended must not spin.
_RENEWAL = 0.25
#: A connection that lasted so many seconds was a success although it brought nothing.
_STEADY = 30.0
#: Bytes of the longest event, and the number of events that wait for the program.
_LONGEST, _WAITING = 64 << 20, 512


_STATUS = {
    401: "the token is missing or not accepted",
    403: "the token is not for this",
    404: "there is no gateway at this URL",
    429: "too many connections",
    503: "the gateway takes nobody in at the moment",
}


@dataclass(frozen=True, slots=True)
class Connected:
    """The subscription is established.

    Attributes:
        resume: `live`, `replayed`, `snapshot`, or `reset`: then something between is missing, and current states follow.
    """

    resume: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone, or could not be made; another is tried in `retry_in` seconds."""

    error: str
    retry_in: float


State = Connected | Disconnected


@dataclass(frozen=True, slots=True)
class _Ending:
    verdict: retry.Verdict
    code: int | str | None
    error: str
    #: seconds that the gateway asks to wait
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """What the subscriptions of a client have in common."""

    session: aiohttp.ClientSession
    url: str
    token: Token
    reconnect: Reconnect
    rng: random.Random


class Events:
    """An asynchronous iterator of `Event`, made by `Client.events`. Ends only by `aclose`, or by raising.

    Attributes:
        position: where the program is: store it, and pass it as `after` to go on from here. None at the very beginning.

    Raises (while iterating):
        Refused: the gateway does not let this token, filter or position in, and will not.
        ClientError: `Reconnect.give_up` attempts in a row have failed.
    """

    def __init__(
        self,
        setting: Setting,
        wanted: Mapping[str, Sequence[str]],
        *,
        after: str | None,
        snapshot: bool,
        notices: bool,
        on_state: Callable[[State], None] | None,
        on_closed: Callable[[Events], None],
    ) -> None:
        self._setting = setting
        self._wanted = wanted
        self._snapshot = snapshot
        self._notices = notices
        self._on_state = on_state or (lambda state: None)
        self._on_closed = on_closed
        self._read_up_to = Position(after)
        #: what was read, with the position that is reached once it was handled; an error; None at the end
        self._queue: asyncio.Queue[tuple[Event, str | None] | Exception | None] = asyncio.Queue(_WAITING)
        self._reader: asyncio.Task[None] | None = None
        self._over = False
        self._renewed = False
        self._attempt = 0
        self.position = after

    # --- for the program ---

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._over:
            raise StopAsyncIteration
        if self._reader is None:
            self._reader = asyncio.create_task(self._keep(), name="mainstem-client")
        while True:
            item = await self._queue.get()
            if item is None:
                raise StopAsyncIteration
            if isinstance(item, Exception):
                self._over = True
                raise item
            event, self.position = item
            if self._notices or not event.type.startswith("stream."):
                return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connection. Idempotent."""
        self._over = True
        self._on_closed(self)
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        if self._queue.empty():
            self._queue.put_nowait(None)  # somebody may be waiting for the next event

    # --- connections that come and go ---

    async def _keep(self) -> None:
        try:
            while True:
                ending = await self._connect()
                wait = self._judge(ending)
                self._on_state(Disconnected(ending.error, wait))
                await asyncio.sleep(wait)
        except Exception as error:
            await self._queue.put(error)

    def _judge(self, ending: _Ending) -> float:
        """Seconds to wait before the next attempt; raises where there must be none."""
        setting, asked = self._setting, ending.wait
        if ending.verdict == "refused" and ending.code is not None:
            raise Refused(ending.code, ending.error)
        if ending.verdict == "renew":
            if self._renewed or not callable(setting.token):
                raise Refused(ending.code or "token", ending.error)
            self._renewed = True
        attempt, self._attempt = self._attempt, self._attempt + 1
        give_up = setting.reconnect.give_up
        if give_up is not None and self._attempt >= give_up:
            raise ClientError(f"no connection after {self._attempt} attempts: {ending.error}")
        if ending.verdict == "at_once" and attempt == 0:
            return 0.0
        return setting.reconnect.delay(attempt, setting.rng.random(), asked)

    async def _connect(self) -> _Ending:
        """One connection, from the handshake to its end."""
        setting = self._setting
        token = await tokens.bring(setting.token)
        try:
            async with asyncio.timeout(_HANDSHAKE):
                socket = await setting.session.ws_connect(
                    setting.url,
                    params={"subscribe": "none"},
                    headers={} if token is None else {"Authorization": f"Bearer {token}"},
                    protocols=("cloudevents.json",),
                    heartbeat=_HEARTBEAT,
                    max_msg_size=_LONGEST,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE),
                )
        except aiohttp.WSServerHandshakeError as error:
            asked = retry.retry_after(error.headers.get("Retry-After") if error.headers else None, time.time())
            verdict = retry.after_status(error.status)
            return _Ending(
                verdict, error.status, _STATUS.get(error.status, "refused") + f": HTTP {error.status}", asked
            )
        except (aiohttp.ClientError, OSError) as error:
            # aiohttp's own texts may hold the URL
            words = "no answer in time" if isinstance(error, TimeoutError) else f"no connection: {_reason(error)}"
            return _Ending("backoff", None, words)
        renewer: asyncio.Task[None] | None = None
        if token is not None and callable(setting.token):
            renewer = asyncio.create_task(self._renew(socket, token), name="mainstem-client-renewal")
        began = asyncio.get_running_loop().time()
        try:
            ending = await self._read(socket)
        finally:
            if renewer is not None:
                renewer.cancel()
                await asyncio.wait({renewer})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2 * _CLOSE):
                    await socket.close()
        if renewer is not None and not renewer.cancelled():
            renewer.result()
        if asyncio.get_running_loop().time() - began >= _STEADY:
            self._attempt = 0
        return ending

    async def _renew(self, socket: aiohttp.ClientWebSocketResponse, token: str) -> None:
        """Brings a new token before the one in use ends. What the program's callable raises ends the connection."""
        try:
            while (wait := tokens.renewal(token, time.time())) is not None:
                await asyncio.sleep(max(wait, _RENEWAL))
                fresh = await tokens.bring(self._setting.token)
                if fresh is None or fresh == token:
                    return  # it ends as it is; the gateway says so, and the next connect asks again
                token = fresh
                await socket.send_str(json.dumps({"op": "authenticate", "token": token}))
        except (aiohttp.ClientError, ConnectionError):
            return  # the connection is gone: its reader has seen it
        except Exception:
            await socket.close()
            raise

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> _Ending:
        command: dict[str, Any] = {"op": "subscribe", "id": _ID, "filter": self._wanted, "snapshot": self._snapshot}
        if self._read_up_to.text is not None:
            command["after"] = self._read_up_to.text
        closing: Mapping[str, Any] = {}
        try:
            await socket.send_str(json.dumps(command))
        except (aiohttp.ClientError, ConnectionError):
            log.debug("closed before the subscription was asked for")  # why, comes out of `receive`
        while True:
            message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                return _closed(socket, closing)
            try:
                event = events.parse(message.data)
            except ValueError as error:
                return _Ending("backoff", None, f"what answers is no gateway: {error}")
            match event.type:
                case "stream.closing":
                    closing = event.data
                case "stream.error" if event.data.get("id") == _ID:
                    return _Ending("refused", str(event.data.get("code")), str(event.data.get("message")))
                case "stream.error":
                    log.warning("the gateway complains: %s", event.data.get("message"))
                case "stream.subscribed":
                    self._renewed = False
                    self._on_state(Connected(str(event.data.get("resume"))))
            if self._read_up_to.admit(event):
                if event.in_log:
                    self._attempt = 0
                await self._queue.put((event, self._read_up_to.text))


def _closed(socket: aiohttp.ClientWebSocketResponse, closing: Mapping[str, Any]) -> _Ending:
    """What the end of a connection means; `closing` is `data` of the last `stream.closing`."""
    code = socket.close_code
    if code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE:
        code = None
    words = str(closing.get("reason") or "connection lost").replace("_", " ")
    wait = closing.get("reconnect_after_ms")
    asked = wait / 1000 if isinstance(wait, int | float) else None
    verdict = retry.after_close(code)
    return _Ending(verdict, code, words if code is None else f"{words}, close code {code}", asked)


def _reason(error: Exception) -> str:
    """In words that do not repeat the URL."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "host name not found"
    if isinstance(error, aiohttp.ClientSSLError):
        return "TLS handshake failed, or certificate not accepted"
    number = getattr(getattr(error, "os_error", error), "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else type(error).__name__
