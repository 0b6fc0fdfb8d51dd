"""The configuration file read again while the gateway runs: what may change so, and what waits for a restart.

Owns the comparison of two configurations, the order in which the parts are told, and what is said about it. A reload that
cannot be had whole is not had at all: of a file that is not valid nothing is taken, and of `auth` either everything or nothing.
Must not know how a part changes, nor what asked for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from pydantic import BaseModel

from gateway import telemetry
from gateway.clock import Clock
from gateway.config import Auth, Settings
from gateway.document import Key, dotted
from gateway.errors import ConfigError
from gateway.metrics import Metrics
from gateway.notify import Notifier
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.manager import Followed

log = structlog.get_logger(__name__)

#: What comes of a reload: followed; not valid, so nothing was done; something could not be done.
OUTCOMES = SUCCESS, INVALID, FAILED = ("success", "invalid", "failed")


@dataclass(frozen=True, slots=True)
class Difference:
    """What another configuration would change, as keys of the file in order.

    Attributes:
        now: can be followed while the gateway runs; `webhooks` aside, of which each endpoint is compared where it works.
        restart: needs a restart.
    """

    now: tuple[str, ...]
    restart: tuple[str, ...]


def compare(running: Settings, wanted: Settings) -> Difference:
    """What is different, and what can be done about it while the gateway runs.

    `auth` is followed as a whole, or, where `auth.mode` is another one, as a whole not: to ask for tokens where nobody needed
    one, or to do without, changes who may reach the server at all.
    """
    now, restart = list[Key](), list[Key]()
    for section in ("auth", "server", "store", "log"):
        live = section == "log" or (section == "auth" and running.auth.mode == wanted.auth.mode)
        keys = now if live else restart
        keys += _differing(getattr(running, section), getattr(wanted, section), (section,))
    restart += _differing_sources(running, wanted)
    return Difference(tuple(map(dotted, now)), tuple(map(dotted, restart)))


def _differing(old: object, new: object, key: Key) -> Iterator[Key]:
    """The keys below one whose values differ; those that follow from others are not named, because no file has them."""
    if old == new:
        return
    if isinstance(old, BaseModel) and isinstance(new, BaseModel) and type(old) is type(new):
        given = old.model_fields_set | new.model_fields_set
        for name in type(new).model_fields:
            if name in given:
                yield from _differing(getattr(old, name), getattr(new, name), (*key, name))
    else:
        yield key


def _differing_sources(running: Settings, wanted: Settings) -> Iterator[Key]:
    """By name, because their order means nothing; `sources` itself where one is gone."""
    before = {source.name: source for source in running.sources}
    for index, source in enumerate(wanted.sources):
        yield from _differing(before.pop(source.name, None), source, ("sources", index))
    if before:
        yield ("sources",)


class Streams(Protocol):
    """The stream connections."""

    async def judge(self) -> int:
        """Judges the token of each anew; how many were ended."""


class Webhooks(Protocol):
    """The webhook endpoints."""

    async def follow(self, files: Sequence[EndpointConfig]) -> Followed:
        """Makes those of the configuration file these."""


class Reloader:
    """Reads the configuration again when it is asked to, one time after the other.

    Args:
        settings: what the gateway was started with.
        load: the configuration as it is now; blocks; raises ConfigError.
        admit: from now on tokens are judged by these rules.
        streams, webhooks: what follows.
        notifier: the service manager.
        clock, metrics: as everywhere.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        *,
        admit: Callable[[Auth], None],
        streams: Streams,
        webhooks: Webhooks,
        notifier: Notifier,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._running = settings
        self._load, self._admit, self._streams, self._webhooks = load, admit, streams, webhooks
        self._notifier, self._clock, self._metrics = notifier, clock, metrics
        self._asked = asyncio.Event()
        for outcome in OUTCOMES:  # so that the first one that fails is seen to be one more
            metrics.config_reloads.labels(outcome)
        metrics.config_loaded.set(clock.now())

    def ask(self) -> None:
        """Have it read again: now, or once more after what is under way, however often this is called meanwhile."""
        self._asked.set()

    async def run(self) -> None:
        """Does what it is asked to. Runs until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._notifier.reloading(self._clock.monotonic())
            outcome = await self.reload()
            self._metrics.config_reloads.labels(outcome).inc()
            if outcome == SUCCESS:
                self._metrics.config_loaded.set(self._clock.now())
            self._notifier.ready()

    async def reload(self) -> str:
        """Reads the configuration and follows it. The outcome; what went wrong is logged."""
        try:
            wanted, secrets = await asyncio.to_thread(self._read)
            telemetry.conceal(*secrets)
            return await self._follow(wanted)
        except ConfigError as error:
            log.error("configuration_invalid", problems=str(error).splitlines())
            return INVALID
        except Exception:  # a fault of the gateway, which is to run on
            log.error("configuration_not_followed", exc_info=True)
            return FAILED

    def _read(self) -> tuple[Settings, list[str]]:
        settings = self._load()
        return settings, settings.secrets()

    async def _follow(self, wanted: Settings) -> str:
        difference = compare(self._running, wanted)
        sections = {key.partition(".")[0] for key in difference.now}
        ended = 0
        if "auth" in sections:  # first: a token that is taken back is refused before anything that may take its time
            self._admit(wanted.auth)
            ended = await self._streams.judge()
            self._running = self._running.model_copy(update={"auth": wanted.auth})
        webhooks = await self._webhooks.follow(wanted.webhooks)
        if "log" in sections:
            telemetry.reconfigure(wanted.log.level, wanted.log.format)
            self._running = self._running.model_copy(update={"log": wanted.log})
        if webhooks.failed:
            log.error("configuration_not_followed", webhooks=webhooks.failed)
        if difference.restart:
            log.warning("configuration_needs_restart", keys=difference.restart)
        log.info(
            "configuration_reloaded",
            changed=difference.now,
            webhooks_added=webhooks.added,
            webhooks_changed=webhooks.changed,
            webhooks_removed=webhooks.removed,
            streams_closed=ended,
        )
        return FAILED if webhooks.failed else SUCCESS
