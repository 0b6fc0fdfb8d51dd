"""All endpoints together: start, wake, one writer for their results, drain, status.

Owns the tasks of the webhooks and the only writes they make to the store: the results of all endpoints go in one write, and
while one is under way the next ones gather. Must not know what an attempt is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence

import structlog

from gateway.clock import Clock
from gateway.errors import ConfigError, StoreError
from gateway.metrics import Metrics
from gateway.store.api import Deliveries, LogEvent, Store
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.endpoint import STORE_RETRY, Endpoint, EndpointStatus
from gateway.webhooks.recent import Recent

_log = structlog.get_logger("mainstem.webhooks")

#: Seconds that `close` waits for results to be stored.
LAST_WRITE = 5.0


class Dispatcher:
    """Delivers the events of the log to endpoints.

    `start`, then `publish` after each commit, at the end `drain` and `close`.

    Args:
        store: an open store.
        endpoints: names are unique.
        clock, rng, metrics: as everywhere.

    Raises:
        ConfigError: two endpoints have the same name.
    """

    def __init__(
        self, store: Store, endpoints: Sequence[EndpointConfig], *, clock: Clock, rng: random.Random, metrics: Metrics
    ) -> None:
        names = [config.name for config in endpoints]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"webhooks: two endpoints are named {name}")
        self._store, self._configs = store, tuple(endpoints)
        self._clock, self._rng, self._metrics = clock, rng, metrics
        self._recent = Recent(0)
        self._endpoints: dict[str, Endpoint] = {}
        self._dirty = asyncio.Event()
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
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
        head = self._store.head
        self._recent = Recent(head)
        positions = await self._store.positions()
        for name in positions.keys() - {config.name for config in self._configs}:
            # The position of an endpoint that nobody has any more would keep the log from ever shrinking.
            await self._store.forget_endpoint(name)
            _log.info("webhook_endpoint_forgotten", endpoint=name)
        fresh = {config.name: head for config in self._configs if config.name not in positions}
        if fresh:
            await self._store.deliver(Deliveries(positions=fresh))
        for config in self._configs:
            endpoint = self._endpoints[config.name] = Endpoint(
                config,
                self._store,
                self._recent,
                clock=self._clock,
                rng=self._rng,
                metrics=self._metrics,
                changed=self._dirty.set,
                broken=self._broken,
            )
            await endpoint.load(positions.get(config.name, head))
        self._spawn(self._write(), "webhook-writer")
        for name, endpoint in self._endpoints.items():
            self._spawn(endpoint.run(), f"webhook-endpoint {name}")

    def publish(self, events: Sequence[LogEvent]) -> None:
        """The log has grown by these events; called in the order of the log, with every event."""
        if self._endpoints:
            self._recent.push(events)
            for endpoint in self._endpoints.values():
                endpoint.wake()

    def status(self) -> list[EndpointStatus]:
        """What can be said of every endpoint now."""
        return [endpoint.status() for endpoint in self._endpoints.values()]

    def enable(self, name: str) -> None:
        """An endpoint that is disabled delivers again, beginning with the next event.

        Raises:
            KeyError: there is no such endpoint.
        """
        self._endpoints[name].enable()

    async def drain(self, timeout: float) -> bool:
        """Begins nothing new and waits for what is in flight and for its results to be stored.

        Args:
            timeout: seconds.

        Returns:
            Whether that took less than the timeout. What is left is sent again after the next start.
        """
        try:
            async with asyncio.timeout(timeout):
                flying = {task for endpoint in self._endpoints.values() for task in endpoint.stop()}
                if flying:
                    await asyncio.wait(flying)
                await self._flush(final=True)
        except TimeoutError:
            _log.warning("webhook_drain_incomplete", timeout=timeout)
            return False
        return True

    async def close(self) -> None:
        """Gives up what is in flight, stores what is known, and ends every task. Idempotent."""
        for endpoint in self._endpoints.values():
            await endpoint.close()
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        try:
            async with asyncio.timeout(LAST_WRITE):
                await self._flush(final=True)
        except TimeoutError:
            _log.warning("webhook_results_not_stored", timeout=LAST_WRITE)
        self._endpoints = {}

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._broken(error)

    def _broken(self, error: BaseException) -> None:
        self._failure = f"{type(error).__name__} in webhooks"
        _log.error("webhook_task_failed", exc_info=error)

    async def _write(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._flush()

    async def _flush(self, *, final: bool = False) -> None:
        """Stores all results there are, trying until the store takes them."""
        async with self._writing:
            batch = Deliveries()
            for endpoint in self._endpoints.values():
                endpoint.collect(batch, final=final)
            if batch.rows or batch.positions:
                await self._deliver(batch)
            for endpoint in self._endpoints.values():
                endpoint.saved()

    async def _deliver(self, batch: Deliveries) -> None:
        told = False
        while True:
            try:
                await self._store.deliver(batch)
            except StoreError as error:
                if not told:
                    _log.warning("webhook_results_not_stored", error=str(error))
                told = True
                await self._clock.sleep(STORE_RETRY)
            else:
                if told:
                    _log.info("webhook_results_stored")
                return
