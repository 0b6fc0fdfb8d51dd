"""All endpoints together: start, wake, one writer for their results, drain, status.

Owns the tasks of the webhooks and the only writes they make to the store: what all endpoints have goes in one write, and
while one is under way the next results gather. What is to be said about an endpoint is stored with it first and put into the
log then, so that a crash loses none of it. Must not know what an attempt is, nor who may change an endpoint.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog

from gateway.clock import Clock
from gateway.errors import ConfigError, Invalid, MainstemError, Refused, StoreError
from gateway.metrics import Metrics
from gateway.store.api import Deliveries, LogEvent, Store
from gateway.telemetry import conceal
from gateway.webhooks import record
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.endpoint import FILE, STORE_RETRY, Endpoint
from gateway.webhooks.names import Names
from gateway.webhooks.recent import Recent
from gateway.webhooks.record import Notice, Record
from gateway.webhooks.status import EndpointStatus

_log = structlog.get_logger("mainstem.webhooks")

#: Seconds that `close` waits for results to be stored.
LAST_WRITE = 5.0
#: Seconds that the removal of an endpoint waits for what is in flight.
LAST_ATTEMPTS = 5.0

#: Puts an event about an endpoint into the log: id, type, subject, time in seconds since 1970 (UTC), data. Returns it once it
#: is committed, None where the log had it already.
Announce = Callable[[str, str, str, float, Mapping[str, object]], Awaitable[LogEvent | None]]


class Dispatcher:
    """Delivers the events of the log to endpoints.

    `start`, then `publish` after each commit, at the end `drain` and `close`.

    Args:
        store: an open store.
        endpoints: those of the configuration file; names are unique.
        clock, rng, metrics: as everywhere.
        announce: see `Announce`; None: nothing is said about endpoints.

    Raises:
        ConfigError: two endpoints have the same name.
    """

    def __init__(
        self,
        store: Store,
        endpoints: Sequence[EndpointConfig],
        *,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        announce: Announce | None = None,
    ) -> None:
        names = [config.name for config in endpoints]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"webhooks: two endpoints are named {name}")
        self.store, self.files = store, {config.name: config for config in endpoints}
        self._clock, self._rng, self._metrics, self._announce = clock, rng, metrics, announce
        self._recent = Recent(0)
        self._names: Names | None = None
        self.endpoints: dict[str, Endpoint] = {}
        self._runs: dict[str, asyncio.Task[object]] = {}
        self._changed: set[str] = set()  # endpoints that have something to be stored
        self._dirty = asyncio.Event()
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()
        self._announcing = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """What broke inside the gateway, in words: deliveries may stand still until a restart. None: nothing."""
        return self._failure

    async def start(self) -> None:
        """Takes up every endpoint where it was left; a new one begins with the next event.

        Every event that is committed after this was called has to be given to `publish`.

        Raises:
            StoreError: the store cannot be used.
        """
        self._recent, self._names = Recent(self.store.head), Names(self._clock)
        positions = await self.store.positions()
        records = {name: record.decode(stored) for name, stored in (await self.store.endpoints()).items()}
        for name in sorted(positions.keys() | records.keys() | self.files.keys()):
            await self._resume(name, self.files.get(name), records.get(name, Record()), positions.get(name))
        self._spawn(self._write(), "webhook-writer")
        self._spawn(self._speak(), "webhook-speaker")
        for endpoint in self.endpoints.values():
            self._run(endpoint)
        self._news.set()

    async def _resume(
        self, name: str, file: EndpointConfig | None, kept: Record, position: int | None
    ) -> Endpoint | None:
        """Takes up an endpoint where it was left, forgets it where nobody defines it any more; None where it is not to run.

        Args:
            file: what the configuration file says of it.
            kept, position: what the store has.
        """
        if kept.removed or (file is None and kept.settings is None):
            if kept.removed:
                _log.info("webhook_endpoint_forgotten", endpoint=name)
            else:
                await self._note_removal(name, kept)
            for notice in kept.notices if self._announce is not None else ():
                self._spawn(self._say(name, notice), f"webhook-notice {name}")
            # The position of an endpoint that nobody has any more would keep the log from ever shrinking.
            await self.store.forget_endpoint(name)
            if file is None:
                return None
            kept, position = Record(), None
        overruled = file is not None and record.is_overruled(file, kept)
        if file is not None and overruled:
            changed = record.overrule(file, kept, self._clock.now())
            log_overruled(name)
            self._note(kept, "webhook.updated", {"endpoint": name, "by": FILE, "changed": changed})
        try:
            config = record.effective(file, kept)
        except Invalid as error:
            # what an older version took and this one does not; its deliveries wait for someone to mend it
            _log.error("webhook_endpoint_invalid", endpoint=name, problems=sorted(error.errors))
            return None
        conceal(*record.secrets_of(record.settings_of(config)), *(former.secret for former in kept.former))
        if position is None or overruled:
            if position is None:
                position = self._beginning(config, kept)
            await self.store.deliver(Deliveries(positions={name: position}, records={name: record.encode(kept)}))
        return await self._take_up(config, kept, position)

    def _beginning(self, config: EndpointConfig, kept: Record) -> int:
        """Where a new endpoint begins; nothing is pending for it."""
        if not config.enabled:
            kept.doomed_upto = self.store.head
        return self.store.head

    async def _note_removal(self, name: str, kept: Record) -> None:
        """Says that an endpoint has left the configuration file, and what is lost with it."""
        pending, dead = [await self.store.count_deliveries(name, state) for state in ("pending", "dead")]
        _log.warning("webhook_endpoint_left_the_file", endpoint=name, pending=pending, dead=dead)
        self._note(kept, "webhook.deleted", {"endpoint": name, "by": FILE, "pending": pending, "dead": dead})

    def _note(self, kept: Record, kind: str, data: Mapping[str, object]) -> None:
        notice = self.notice(kind, data)
        if notice is not None:
            kept.notices.append(notice)

    async def _take_up(self, config: EndpointConfig, kept: Record, position: int) -> Endpoint:
        assert self._names is not None
        endpoint = Endpoint(
            config,
            kept,
            self.store,
            self._recent,
            self._names,
            clock=self._clock,
            rng=self._rng,
            metrics=self._metrics,
            changed=lambda: self._touch(config.name),
            broken=self._broken,
            notice=self.notice,
        )
        try:
            await endpoint.load(position)
        except BaseException:
            await endpoint.close()
            raise
        self.endpoints[config.name] = endpoint
        self._touch(config.name)
        return endpoint

    def _run(self, endpoint: Endpoint) -> None:
        self._runs[endpoint.name] = self._spawn(endpoint.run(), f"webhook-endpoint {endpoint.name}")

    def publish(self, events: Sequence[LogEvent]) -> None:
        """The log has grown by these events; called in the order of the log, with every event."""
        self._recent.push(events)
        for endpoint in self.endpoints.values():
            endpoint.wake()

    def status(self) -> list[EndpointStatus]:
        """What can be said of every endpoint now, ordered by name."""
        return [endpoint.status() for _, endpoint in sorted(self.endpoints.items())]

    # Endpoints that come and go

    def notice(self, kind: str, data: Mapping[str, object]) -> Notice | None:
        """An event about an endpoint, to be kept in its record until the log has it; None where nobody takes it."""
        if self._announce is None:
            return None
        self._news.set()
        return Notice(uuid.uuid4().hex, kind, self._clock.now(), dict(data))

    async def add(self, config: EndpointConfig, kept: Record) -> Endpoint:
        """A new endpoint, stored; it begins with the next event.

        Raises:
            StoreError: the store cannot be used.
        """
        position = self._beginning(config, kept)
        await self.store.deliver(
            Deliveries(positions={config.name: position}, records={config.name: record.encode(kept)})
        )
        endpoint = await self._take_up(config, kept, position)
        self._run(endpoint)
        self._news.set()
        return endpoint

    async def resume(self, name: str, file: EndpointConfig | None) -> Endpoint | None:
        """Does for an endpoint that is not at work what a start does for all of them; None where it is still not.

        Args:
            file: what the configuration file says of it; None: nothing.

        Raises:
            StoreError: the store cannot be used.
        """
        stored = (await self.store.endpoints()).get(name)
        kept = Record() if stored is None else record.decode(stored)
        endpoint = await self._resume(name, file, kept, (await self.store.positions()).get(name))
        if endpoint is not None:
            self._run(endpoint)
            self._news.set()
        return endpoint

    async def remove(self, endpoint: Endpoint) -> None:
        """Ends an endpoint, in bounded time, and forgets it. Goes on where an attempt to do so failed.

        Raises:
            StoreError: the store cannot be used.
        """
        name = endpoint.name
        endpoint.record.removed = True  # whatever happens, the next start finishes this
        flying = endpoint.stop()
        await self.flush()
        if flying:
            await asyncio.wait(flying, timeout=LAST_ATTEMPTS)
        run = self._runs.pop(name, None)
        if run is not None:
            run.cancel()
            await asyncio.wait([run])
        await endpoint.close()
        await self.announce()
        async with self._writing:
            del self.endpoints[name]  # nothing is written of it any more
        await self.store.forget_endpoint(name)
        labels = {"endpoint": name}
        for metric in (
            self._metrics.delivery_attempts,
            self._metrics.deliveries_pending,
            self._metrics.deliveries_dead,
            self._metrics.delivery_lag,
        ):
            metric.remove_by_labels(labels)

    async def recount(self) -> None:
        """Retention has removed deliveries: counts the dead letters anew.

        Raises:
            StoreError: the store cannot be read.
        """
        async with self._writing:
            for endpoint in list(self.endpoints.values()):
                await endpoint.recount()

    # The end

    async def drain(self, timeout: float) -> bool:
        """Begins nothing new and waits for what is in flight and for its results to be stored.

        Args:
            timeout: seconds.

        Returns:
            Whether that took less than the timeout. What is left is sent again after the next start.
        """
        try:
            async with asyncio.timeout(timeout):
                flying = {task for endpoint in self.endpoints.values() for task in endpoint.stop()}
                if flying:
                    await asyncio.wait(flying)
                await self.flush(final=True)
        except TimeoutError:
            _log.warning("webhook_drain_incomplete", timeout=timeout)
            return False
        return True

    async def close(self) -> None:
        """Gives up what is in flight, stores what is known, and ends every task. Idempotent."""
        for endpoint in self.endpoints.values():
            await endpoint.close()
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        try:
            async with asyncio.timeout(LAST_WRITE):
                await self.flush(final=True)
        except TimeoutError:
            _log.warning("webhook_results_not_stored", timeout=LAST_WRITE)
        self.endpoints = {}
        if self._names is not None:
            await self._names.close()

    def _spawn(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[object]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._broken(error)

    def _broken(self, error: BaseException) -> None:
        self._failure = f"{type(error).__name__} in webhooks"
        _log.error("webhook_task_failed", exc_info=error)

    # To the store, and from there to the log

    async def _write(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self.flush()

    def _touch(self, name: str) -> None:
        self._changed.add(name)
        self._dirty.set()

    async def flush(self, *, final: bool = False) -> None:
        """Stores all that there is, trying until the store takes it.

        Args:
            final: positions that moved only a little, too.
        """
        async with self._writing:
            changed, self._changed = self._changed, set()
            names = self.endpoints.keys() if final else changed & self.endpoints.keys()
            endpoints = [self.endpoints[name] for name in names]
            batch = Deliveries()
            for endpoint in endpoints:
                endpoint.books.collect(batch, final=final)
            if batch.rows or batch.positions or batch.records:
                try:
                    await self._deliver(batch)
                except asyncio.CancelledError:
                    self._changed |= changed
                    raise
            for endpoint in endpoints:
                endpoint.saved()

    async def _deliver(self, batch: Deliveries) -> None:
        told = False
        while True:
            try:
                await self.store.deliver(batch)
            except StoreError as error:
                if not told:
                    _log.warning("webhook_results_not_stored", error=str(error))
                told = True
                await self._clock.sleep(STORE_RETRY)
            else:
                if told:
                    _log.info("webhook_results_stored")
                return

    async def announce(self) -> None:
        """Puts into the log what is to be said about endpoints, once it is stored with them.

        Raises:
            MainstemError: the log does not take it now. It is tried again later.
        """
        if self._announce is None:
            return
        async with self._announcing:
            await self.flush()
            for endpoint in list(self.endpoints.values()):
                for notice in list(endpoint.record.notices):
                    await endpoint.told(notice, await self._say(endpoint.name, notice))

    async def _say(self, name: str, notice: Notice) -> LogEvent | None:
        assert self._announce is not None
        return await self._announce(notice.id, notice.type, name, notice.at, notice.data)

    async def _speak(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.announce()
            except Refused:  # the gateway is shutting down: they are kept, and said after the next start
                return
            except MainstemError as error:
                _log.warning("webhook_notice_not_logged", error=str(error))
                await self._clock.sleep(STORE_RETRY)
                self._news.set()


def log_overruled(name: str) -> None:
    """Says that an edited file has won over what the API changed before."""
    _log.warning("webhook_changes_dropped", endpoint=name, reason="the configuration file defines it anew")
