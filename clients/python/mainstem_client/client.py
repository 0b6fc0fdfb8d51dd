"""The client of one gateway: what a program holds, and the subscriptions that it opens.

Each subscription is a connection of its own: it resumes by itself, and a program that is slow in one does not hold up
another.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from mainstem_client.errors import ClientError
from mainstem_client.event import Event
from mainstem_client.events import Events, Setting, State
from mainstem_client.retry import Reconnect
from mainstem_client.token import Token

_PATH = "/v1/stream"
_WEBSOCKET = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}

Values = str | Sequence[str]


def connect(
    url: str, *, token: Token = None, reconnect: Reconnect | None = None, rng: random.Random | None = None
) -> Client:
    """A client, to be used with `async with`. Opens no connection before it is iterated.

    Args:
        url: of the gateway: `http://`, `https://`, `ws://` or `wss://`, a path below which it is served included.
        token: what to present, or a function, asynchronous or not, that brings it: called before every connect, and
            shortly before a JWT expires. What the function raises comes out of the iterator.
        reconnect: how long to wait between attempts.
        rng: chance, for the jitter of waits.

    Raises:
        ValueError: the URL is none of a gateway.
    """
    return Client(_stream_url(url), token, reconnect or Reconnect(), rng or random.Random())


def _stream_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in _WEBSOCKET or not parts.hostname:
        raise ValueError("the URL of a gateway starts with http://, https://, ws:// or wss:// and has a host")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("the URL of a gateway has no query, fragment or user: filters and tokens are arguments")
    path = parts.path.rstrip("/").removesuffix(_PATH) + _PATH
    return urlunsplit((_WEBSOCKET[parts.scheme], parts.netloc, path, "", ""))


class Client:
    """See `connect`. Leaving `async with` closes every subscription."""

    def __init__(self, url: str, token: Token, reconnect: Reconnect, rng: random.Random) -> None:
        self._url = url
        self._token = token
        self._reconnect = reconnect
        self._rng = rng
        self._session: aiohttp.ClientSession | None = None
        self._open: set[Events] = set()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # bounded by who subscribes; a pool's limit would block unseen
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        try:
            for events in list(self._open):
                await events.aclose()
            self._open.clear()
        finally:
            if session is not None:
                await session.close()

    def events(
        self,
        *,
        source: Values = (),
        task: Values = (),
        kind: Values = (),
        status: Values = (),
        type: Values = (),
        after: str | int | None = None,
        snapshot: bool = False,
        notices: bool = False,
        on_state: Callable[[State], None] | None = None,
    ) -> Events:
        """Events as they happen, through any number of reconnects: none missing, none twice, in the order of the log.

        Values of one filter are alternatives, filters restrict each other; none accepts everything.

        Args:
            source: names of sources.
            task: task keys, `<source name>/<task id>`.
            kind: kinds of tasks.
            status: canonical statuses.
            type: event types, exact or a prefix ending in `*`.
            after: what `Events.position` said, or a `sequence`: first everything since then. Where the gateway's log does
                not reach back that far, current states come instead (`task.snapshot`), and `on_state` hears `reset`.
            snapshot: first the current states, as `task.snapshot`; again after a cut that came before they were complete.
            notices: also the stream's own notices (`stream.*`), such as `stream.conflated`.
            on_state: told when the subscription is established and when its connection is gone.

        Raises:
            ClientError: the client is not open.
            ValueError: `after` is no position.
        """
        if self._session is None:
            raise ClientError("the client is not open: use it with `async with`")
        given = {"source": source, "task": task, "kind": kind, "status": status, "type": type}
        wanted = {name: [value] if isinstance(value, str) else list(value) for name, value in given.items() if value}
        setting = Setting(self._session, self._url, self._token, self._reconnect, self._rng)
        events = Events(
            setting,
            wanted,
            after=None if after is None else str(after),
            snapshot=snapshot,
            notices=notices,
            on_state=on_state,
            on_closed=self._open.discard,
        )
        self._open.add(events)
        return events

    def task(self, key: str) -> TaskHandle:
        """One task, by `<source name>/<task id>`. A token with `events:read:progress` is enough for it."""
        return TaskHandle(self, key)


class TaskHandle:
    """One task. Iterating gives its current state, then its events, and ends when the task does."""

    def __init__(self, client: Client, key: str) -> None:
        self._client = client
        self.key = key

    async def __aiter__(self) -> AsyncIterator[Event]:
        async with self._client.events(task=self.key, snapshot=True) as events:
            async for event in events:
                yield event
                if event.task is not None and event.task.finished:
                    return

    async def done(self) -> Event:
        """The event that says how the task ended; its snapshot where it had ended before. Bound it with `asyncio.timeout`.

        Raises:
            Refused: the token may not see this task.
        """
        async with self._client.events(task=self.key, snapshot=True) as events:
            async for event in events:
                if event.task is not None and event.task.finished:
                    return event
        raise ClientError("the client was closed before the task was done")
