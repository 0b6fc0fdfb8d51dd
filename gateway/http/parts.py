"""What the HTTP application is put together from.

Owns the interfaces that it needs of the other rooms, so that it can be built and tested without any of them. Must not
name a concrete engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web
from msgspec import Raw

from adapters.api import Item, Stream
from gateway.access import Grant
from gateway.clock import Clock
from gateway.http.route import Route
from gateway.metrics import Metrics
from gateway.store.api import Store, TaskRow
from gateway.webhooks.manager import DeliveryView, EndpointView


class Authenticator(Protocol):
    """Tells who a request is from."""

    async def authenticate(self, token: str | None) -> Grant:
        """What the holder of a token may do; in mode `none`, everything.

        Raises:
            gateway.errors.Refused: with status 401 (no token, or a bad one) or 403, and a message for the client.
        """


class Knowledge(Protocol):
    """The pure part of a source that the API asks directly: see `adapters.api.Adapter`."""

    def watch(self, task_id: str) -> Stream | None:
        """The single-task watch of a task, None where the upstream has none; ValueError: no such id is possible."""

    def created(self, payload: bytes) -> list[Item]:
        """What a task creation response says."""


class Download(Protocol):
    """What came of asking an upstream for a download."""

    @property
    def status(self) -> int:
        """HTTP status to answer with: 200, 404, 502 or 504."""

    @property
    def body(self) -> Raw | None:
        """On 200, a JSON object."""

    @property
    def code(self) -> str | None:
        """Otherwise, a short constant for programs."""

    @property
    def message(self) -> str | None:
        """Otherwise, what is wrong, in words."""


class Source(Protocol):
    """One configured source. Its methods raise `gateway.errors.Refused` where something cannot be done as asked."""

    @property
    def adapter(self) -> Knowledge:
        """What is known of its upstream."""

    async def watch(self, task_id: str) -> Mapping[str, Any]:
        """Starts the watch of a task, or finds it running; returns it as in `Sources.watches`."""

    async def created(self, payload: bytes) -> Mapping[str, Any]:
        """Makes a task known from what its creation was answered with, then as `watch`."""

    async def unwatch(self, task_id: str) -> None:
        """Stops the watch of a task."""

    def watches(self) -> Sequence[Mapping[str, Any]]:
        """A JSON object a watch, with at least `source`, `task_id` and `state`, which is `finished` or `failed` where it is
        over."""

    async def fetch_download(self, task_id: str) -> Download:
        """Asks where the asset of a task can be downloaded."""


class Sources(Protocol):
    """All configured sources."""

    def status(self) -> Sequence[Mapping[str, Any]]:
        """A JSON object a source, with at least `name`, `adapter`, `enabled` and `state`, which is `failed` where it stopped
        for good. Holds no secret."""

    def watches(self) -> Sequence[Mapping[str, Any]]:
        """The watches of every source."""

    def get(self, name: str) -> Source:
        """The source of that name.

        Raises:
            gateway.errors.Refused: there is none, or it is not enabled.
        """


class StreamEndpoint(Protocol):
    """`/v1/stream`. It authenticates by itself, because a WebSocket may do so by its first message."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serves one connection until it ends."""


class Readiness(Protocol):
    """What the process knows of itself."""

    @property
    def draining(self) -> bool:
        """It is shutting down."""

    @property
    def fallen(self) -> Sequence[str]:
        """Names of essential background tasks that died."""


class Webhooks(Protocol):
    """The webhook endpoints and their deliveries. What has returned is stored durably.

    `by` is who asks, for the log. Its methods raise `gateway.errors.Refused` where something cannot be done as asked, with
    404 where there is no such endpoint or delivery, and `gateway.errors.Invalid` for settings.
    """

    def list(self) -> list[EndpointView]:
        """All endpoints, ordered by name."""

    def get(self, name: str) -> EndpointView:
        """One endpoint."""

    async def create(self, settings: Mapping[str, Any], by: str) -> tuple[EndpointView, str | None]:
        """Makes an endpoint; with its secret where that was generated."""

    async def change(self, name: str, patch: Mapping[str, Any], by: str) -> EndpointView:
        """Changes settings by a JSON Merge Patch (RFC 7396)."""

    async def remove(self, name: str, by: str) -> None:
        """Forgets an endpoint and its deliveries."""

    async def enable(self, name: str, by: str) -> EndpointView:
        """Delivers again."""

    async def rotate_secret(self, name: str, secret: str | None, overlap: float, by: str) -> str:
        """Signs with a new secret, for `overlap` seconds with the old one as well; returns the new one."""

    async def test(self, name: str, by: str) -> DeliveryView:
        """Sends a test event to the endpoint alone."""

    async def replay(self, name: str, *, after: int | None, since: float | None, by: str) -> int:
        """Delivers again what came after a position, or since a time (seconds since 1970, UTC); returns the position."""

    async def deliveries(
        self, name: str, state: str | None, *, limit: int, cursor: str | None
    ) -> tuple[Sequence[DeliveryView], str | None]:
        """A page of deliveries, newest first, and the cursor of the next one; ValueError: `cursor` is none."""

    async def delivery(self, id: str) -> DeliveryView:
        """One delivery."""

    async def retry(self, id: str, by: str) -> DeliveryView:
        """Tries a delivery again."""

    async def retry_dead(self, name: str, by: str) -> int:
        """Tries all dead letters of an endpoint again; returns how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What `create_app` needs.

    Attributes:
        token_of: a request → the token it was sent with, or None.
        snapshot_data: a task's row → JSON object of the `data` of its snapshot event.
        redact_data: the same object as a holder of `events:read:progress` sees it.
        allowed_origins: origins that browsers may call from; empty: the one that the request itself was sent to.
        hosts: names that the server answers to; None: any. Set it where no token is asked for and the address is a loopback
            one: otherwise any web page could reach it through a name of its own that resolves there (DNS rebinding).
        routes: further resources, guarded like the built-in ones.
        ui: whether the dashboard is served.
        time_limit: seconds that a request may take, the stream's apart.
    """

    store: Store
    authenticator: Authenticator
    token_of: Callable[[web.Request], str | None]
    sources: Sources
    stream: StreamEndpoint
    snapshot_data: Callable[[TaskRow], bytes]
    redact_data: Callable[[bytes], bytes]
    metrics: Metrics
    readiness: Readiness
    webhooks: Webhooks
    clock: Clock
    allowed_origins: Sequence[str] = ()
    hosts: frozenset[str] | None = None
    routes: Sequence[Route] = ()
    ui: bool = True
    time_limit: float = 30.0
