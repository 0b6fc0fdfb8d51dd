"""The composition root: the only place that names concrete engines, and the order in which they start and stop.

Start: log, readers of the log (stream, webhooks), intake, HTTP, upstreams: nothing is taken in before it can be kept, and
nothing is kept before it can be shown. Drain: not ready, upstreams closed, log flushed, deliveries in flight finished,
streams closed, HTTP closed, log closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence

import aiohttp
import structlog

from adapters import registry
from gateway import config
from gateway.access import Grant
from gateway.clock import Clock, SystemClock, system_random
from gateway.collector import Collector
from gateway.config import Auth, Settings
from gateway.errors import CannotListen, MainstemError, StoreError
from gateway.http.app import create_app
from gateway.http.auth import Authenticator, Door, StaticToken, token_of
from gateway.http.parts import Parts
from gateway.http.server import Server
from gateway.metrics import Metrics
from gateway.notify import Notifier
from gateway.pipeline import encode
from gateway.pipeline.intake import Intake
from gateway.reload import Reloader
from gateway.store.api import LogEvent
from gateway.store.sqlite import SqliteStore
from gateway.stream.hub import Hub
from gateway.stream.service import StreamService
from gateway.stream.settings import StreamSettings
from gateway.stream.views import redact_data
from gateway.upstream.sources import Sources
from gateway.webhooks.dispatcher import Dispatcher
from gateway.webhooks.manager import Manager
from schemas.filter import Filter

log = structlog.get_logger(__name__)

#: Seconds between two looks for what retention has to remove: a share of what is retained, within bounds.
TRIM_SHARE, TRIM_INTERVAL = 0.1, (1.0, 60.0)
#: Share of `server.drain_timeout` that deliveries in flight, and the spreading of closes, may take.
DRAIN_SHARE = 0.5


#: Names that a server without tokens answers to on a loopback address: a page that makes another name resolve there (DNS
#: rebinding) gets nothing.
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
#: Bytes of a key set, seconds to fetch it.
_KEYS_SIZE, _KEYS_TIMEOUT = 1024 * 1024, 10.0


async def _fetch(url: str) -> bytes:
    """The body of a URL, for the keys of an issuer.

    Raises:
        OSError, TimeoutError: it cannot be had.
    """
    timeout = aiohttp.ClientTimeout(total=_KEYS_TIMEOUT)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, allow_redirects=False) as answer:
            if answer.status != 200:
                raise OSError(f"HTTP {answer.status}")
            return await answer.content.read(_KEYS_SIZE)
    except aiohttp.ClientError as error:
        raise OSError(type(error).__name__) from None


def _authenticator(auth: Auth, clock: Clock, former: Authenticator | None = None) -> Authenticator:
    """The rules of a configuration for tokens; `former`: those that they replace."""
    return Authenticator(
        mode=auth.mode,
        secret=auth.secret.get_secret_value() if auth.secret else None,
        public_key=auth.public_key,
        jwks_url=auth.jwks_url,
        algorithms=auth.algorithms,
        audience=auth.audience,
        issuer=auth.issuer,
        tokens=[_static(token, index) for index, token in enumerate(auth.tokens)],
        clock=clock,
        http_get=_fetch,
        former=former,
    )


def _warn_of_short(auth: Auth) -> None:
    if auth.secret is not None and len(auth.secret.get_secret_value().encode()) < config.MIN_SECRET_BYTES:
        log.warning("auth_secret_short", needed_bytes=config.MIN_SECRET_BYTES, rule="RFC 7518, section 3.2")


def _static(token: config.StaticToken, index: int) -> StaticToken:
    bounds = Filter(source=token.sources, task=token.tasks, kind=token.kinds)
    holder = f"token:{token.name or index}"
    return StaticToken(token.token.get_secret_value(), Grant(holder=holder, scopes=token.scopes, bounds=bounds))


class Gateway:
    """One gateway in one process: `start`, then `stop`.

    Args:
        settings: a valid configuration.
        clock: time; this machine's by default.
    """

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock = clock or SystemClock()
        rng = system_random()
        self.metrics = metrics = Metrics()
        self.store = SqliteStore(
            settings.store.path, durability=settings.store.durability, clock=clock, metrics=metrics
        )
        adapters = [registry.load(source.adapter)(source) for source in settings.sources]

        self._hub = Hub(self.store, clock, metrics)
        self._dispatcher = Dispatcher(
            self.store, settings.webhooks, clock=clock, rng=rng, metrics=metrics, announce=self._announce
        )
        self.webhooks = Manager(self._dispatcher, clock=clock, announce=self._announce)
        self.intake = Intake(
            self.store,
            self._publish,
            adapters={source.name: source.adapter for source in settings.sources},
            clock=clock,
            metrics=metrics,
            horizon=max(
                [settings.store.retain, *(getattr(source, "catch_up", None) or 0 for source in settings.sources)]
            ),
        )
        self.sources = Sources(adapters, self.intake, self.store, clock, rng, metrics)
        server = settings.server
        self._door = Door(_authenticator(settings.auth, clock))
        self.stream = StreamService(
            store=self.store,
            hub=self._hub,
            authenticator=self._door,
            token_of=token_of,
            snapshot_data=encode.snapshot_data,
            clock=clock,
            rng=rng,
            metrics=metrics,
            settings=StreamSettings(
                buffer=server.stream_buffer,
                compression=server.compression == "shared",
                connections=server.max_connections,
                per_holder=server.max_connections_per_token,
                per_address=server.max_connections_per_address or server.max_connections,
            ),
        )
        app = create_app(
            Parts(
                store=self.store,
                authenticator=self._door,
                token_of=token_of,
                sources=self.sources,
                stream=self.stream,
                snapshot_data=encode.snapshot_data,
                redact_data=redact_data,
                metrics=metrics,
                readiness=self,
                clock=clock,
                webhooks=self.webhooks,
                allowed_origins=server.allowed_origins,
                ui=server.ui,
                hosts=_LOOPBACK_NAMES | {server.host} if settings.auth.mode == "none" and server.is_loopback else None,
            )
        )
        self.server = Server(app, server.host, server.port, patience=server.drain_timeout)
        self.draining = False
        self._trimmer: asyncio.Task[None] | None = None
        self._collector = Collector(lambda: self.stream.admitted, lambda: self.stream.connections)

    # --- readiness ---------------------------------------------------------------------------------------------------

    @property
    def fallen(self) -> Sequence[str]:
        """Names of essential parts that have died."""
        trimmer = self._trimmer
        parts = {
            "intake": self.intake.trouble is not None,
            "webhooks": self._dispatcher.failure is not None,
            "retention": trimmer is not None and trimmer.done() and not trimmer.cancelled(),
        }
        return [name for name, dead in parts.items() if dead]

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Opens everything, in order; what was opened is closed again where something cannot be.

        Raises:
            StoreError: the store cannot be used.
            CannotListen: the address cannot be used.
        """
        try:
            await self.store.open()
            await self.stream.start()
            await self._dispatcher.start()
            self.intake.start()
            self._trimmer = asyncio.create_task(self._trim(), name="retention")
            await self._listen()
            await self.sources.start()
        except BaseException:
            await self.stop()
            raise
        _warn_of_short(self._settings.auth)
        for doubt in self._settings.doubts():
            log.warning("configuration_doubtful", doubt=doubt)
        self._collector.start()
        log.info("gateway_started", url=self.server.url, sources=len(self._settings.sources), epoch=self.store.epoch)

    async def stop(self, timeout: float | None = None) -> None:
        """Drains and closes everything, in order; what fails on the way keeps nothing else from being closed. Idempotent.

        Args:
            timeout: seconds for each of: the log taking what is on its way to it, deliveries in flight and the spreading of
                the closes of streams.

        Raises:
            MainstemError: the log could not take all of it in time.
        """
        window = self._settings.server.drain_timeout * DRAIN_SHARE if timeout is None else timeout
        self.draining = True
        async with contextlib.AsyncExitStack() as steps:  # the last one pushed is the first one done
            steps.callback(self._collector.stop)
            steps.push_async_callback(self.store.close)
            if self._trimmer is not None:
                steps.push_async_callback(_cancel, self._trimmer)
            steps.push_async_callback(self.server.stop)
            steps.push_async_callback(self._dispatcher.close)
            steps.push_async_callback(self.stream.close)
            steps.push_async_callback(self._drain, window)
            steps.push_async_callback(self._flush, window)
            steps.push_async_callback(self.sources.stop)

    def reloader(self, load: Callable[[], Settings], notifier: Notifier) -> Reloader:
        """What reads the configuration again, for a gateway that has started.

        Args:
            load: the configuration as it is then; blocks; raises ConfigError.
            notifier: the service manager.
        """
        return Reloader(
            self._settings,
            load,
            admit=self._admit,
            streams=self.stream,
            webhooks=self.webhooks,
            notifier=notifier,
            clock=self._clock,
            metrics=self.metrics,
        )

    def _admit(self, auth: Auth) -> None:
        self._door.authenticator = _authenticator(auth, self._clock, self._door.authenticator)
        _warn_of_short(auth)

    async def _flush(self, window: float) -> None:
        try:
            async with asyncio.timeout(window):
                await self.intake.close()
        except TimeoutError:
            raise MainstemError(f"the log could not take the last events: {self.store.trouble or 'no time'}") from None

    async def _drain(self, window: float) -> None:
        await asyncio.gather(self._dispatcher.drain(window), self.stream.drain(window))

    async def _listen(self) -> None:
        try:
            await self.server.start()
        except OSError as error:
            raise CannotListen(self._settings.server.host, self._settings.server.port, error) from None

    def _publish(self, events: list[LogEvent]) -> None:
        self._hub.publish(events)
        self._dispatcher.publish(events)

    async def _announce(
        self, event_id: str, kind: str, subject: str, moment: float, data: Mapping[str, object]
    ) -> LogEvent | None:
        return await self.intake.announce(event_id, kind, subject, moment, data)

    async def _trim(self) -> None:
        settings = self._settings.store
        retain, bounds = settings.retain, settings.bounds
        interval = min(max(retain * TRIM_SHARE, TRIM_INTERVAL[0]), TRIM_INTERVAL[1])
        while True:
            try:
                removed = await self.store.trim(self._clock.now() - retain, bounds)
                await self._dispatcher.recount()
            except StoreError as error:
                log.warning("log_not_trimmed", error=str(error))
            else:
                if removed:
                    log.info("log_trimmed", removed=removed)
            await self._clock.sleep(interval)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def run(settings: Settings, load: Callable[[], Settings]) -> int:
    """Runs a gateway until SIGTERM or SIGINT, then drains it; a second signal cuts the drain short. The exit code.

    Args:
        settings: a valid configuration.
        load: the configuration again, on SIGHUP; blocks; raises ConfigError.
    """
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (second if first.is_set() else first).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    gateway, notifier = Gateway(settings), Notifier(os.environ)
    reloader = gateway.reloader(load, notifier)
    loop.add_signal_handler(signal.SIGHUP, reloader.ask)  # before the start, while it would end the process
    await gateway.start()
    notifier.ready()
    # A part that has died does not come back by itself: then the service manager may start all of it anew.
    watched = asyncio.create_task(notifier.watch(SystemClock(), lambda: not gateway.fallen), name="watchdog")
    reloading = asyncio.create_task(reloader.run(), name="reload")
    try:
        await first.wait()
        log.info("gateway_stopping")
        notifier.stopping()
        await _cancel(reloading)  # what it has not done yet, the next start does
        return await _drained(gateway, second)
    finally:
        await _cancel(reloading)
        await _cancel(watched)


async def _drained(gateway: Gateway, second: asyncio.Event) -> int:
    draining = asyncio.create_task(gateway.stop(), name="drain")
    hurry = asyncio.create_task(second.wait(), name="hurry")
    await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    if not draining.done():
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        await gateway.store.close()
        log.warning("drain_cut_short")
        return 1
    draining.result()
    log.info("gateway_stopped")
    return 0
