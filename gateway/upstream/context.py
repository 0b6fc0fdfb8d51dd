"""What all streams of one source share: its adapter, its way into the log, its clock, its metrics.

Owns the scrubbing of texts that come from outside, and the fact that is kept about a stream across restarts. Must not know
any state of a connection.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections import deque
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec
import structlog

from adapters.api import Adapter, Rejected, Request, Session, SourceConfig, Stream
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.store.api import Store
from gateway.upstream.client import Answer, Client, Failure
from gateway.upstream.intake import Intake
from gateway.upstream.limits import Limits
from gateway.upstream.tapped import Tap, TappedClient

log = structlog.get_logger()

#: Rows of `Store.cursors` that are not cursors of a session start with this; no stream key does.
FACT = "~"

_EXCERPT = 200
#: Connections whose own credentials are remembered, to be scrubbed.
_TICKETS = 64
#: Characters of the shortest secret that is looked for in texts.
_SHORTEST = 4


class Memory(msgspec.Struct, omit_defaults=True):
    """What is kept about a stream across restarts. Times in seconds since 1970, UTC.

    Attributes:
        connected_at: when it was connected for the first time.
        alive_at: up to when it was known to be connected.
        missing_from: since when something may have been missed of which nobody has been told yet; None: nothing.
        finished: the single-task watch is over.
    """

    connected_at: float | None = None
    alive_at: float | None = None
    missing_from: float | None = None
    finished: bool = False

    @classmethod
    def decode(cls, row: bytes | None) -> Memory:
        """From a row of the store; what cannot be read is as good as nothing."""
        value = fact(row)
        try:
            return cls() if value is None else msgspec.convert(value, cls)
        except msgspec.ValidationError:
            return cls()


def fact(row: bytes | None) -> dict[str, Any] | None:
    """A row that `Intake.remember` wrote, None where there is none."""
    if not row:
        return None
    try:
        value = msgspec.json.decode(row)
    except msgspec.DecodeError:
        return None
    return value if isinstance(value, dict) else None


class Context:
    """Of one source. Attributes are what the streams of the source work with."""

    def __init__(
        self,
        adapter: Adapter[Any],
        intake: Intake,
        store: Store,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        limits: Limits,
        tap: Tap | None = None,
    ) -> None:
        config: SourceConfig = adapter.config
        self.adapter = adapter
        self.config = config
        self.name = config.name
        self.intake = intake
        self.store = store
        self.clock = clock
        self.rng = rng
        self.client = Client(clock, limits) if tap is None else TappedClient(clock, limits, tap(adapter, self.scrub))
        self.limits = limits
        self.handshakes = asyncio.Semaphore(limits.handshakes)
        self.frames_received = metrics.frames_received.labels(self.name)
        self.last_frame = metrics.source_last_frame.labels(self.name)
        self.reconnects = metrics.source_reconnects.labels(self.name)
        self.up = metrics.source_up.labels(self.name)
        self._frames_rejected = metrics.frames_rejected
        self._secrets = _spellings(adapter.secrets())
        self._tickets: deque[list[str]] = deque(maxlen=_TICKETS)
        self._complained_at: float | None = None
        self._unsaid = 0
        self.last_frame_at: float | None = None

    def scrub(self, text: str) -> str:
        """A text without the source's secrets."""
        for secret in (*self._secrets, *(spelling for ticket in self._tickets for spelling in ticket)):
            text = text.replace(secret, "***")
        return text

    def conceal(self, session: Session) -> None:
        """The credentials of a new connection are scrubbed, too; so are those of the last ones, which may still be echoed."""
        self._tickets.append(_spellings(session.secrets()))

    async def notice(self, type: str, stream: Stream | None, **data: object) -> None:
        """Publishes a notice of the source; None values are left out."""
        endpoint = {} if stream is None else {"endpoint": stream.path}
        said = {key: value for key, value in data.items() if value is not None}
        await self.intake.notice(self.name, self.config.adapter, type, {**endpoint, **said})

    async def ask(self, request: Request, tries: int | None = None) -> bytes | Failure:
        """A REST request, tried again where that may help: 429, 5xx, no answer. `tries`: instead of the usual number."""
        attempt = 1
        while True:
            answer = await self.client.get(request)
            if isinstance(answer, Answer):
                return answer.body
            if not _may_pass(answer.status) or attempt == (tries or self.limits.tries):
                return answer
            pause = max(0.5 * 2**attempt * self.rng.random(), answer.retry_after or 0.0)
            await self.clock.sleep(min(pause, self.limits.pause))
            attempt += 1

    def reject(self, endpoint: str, item: Rejected) -> None:
        """Counts what cannot be understood, and logs it, not more often than every few seconds."""
        self._frames_rejected.labels(self.name, item.reason).inc()
        now = self.clock.monotonic()
        if self._complained_at is not None and now - self._complained_at < self.limits.complaints:
            self._unsaid += 1
            return
        log.warning(
            "frame_rejected",
            source=self.name,
            endpoint=endpoint,
            reason=item.reason,
            problem=self.scrub(item.problem)[:_EXCERPT],
            excerpt=self.scrub(item.excerpt)[:_EXCERPT],
            unsaid=self._unsaid,
        )
        self._complained_at, self._unsaid = now, 0

    def report_bug(self, stream: Stream | None, where: str, error: BaseException) -> None:
        """Logs an exception that nobody expected, with its traceback."""
        log.error(
            "upstream_bug",
            source=self.name,
            endpoint=stream and stream.path,
            where=where,
            traceback=self.scrub("".join(traceback.format_exception(error))),
        )


def _may_pass(status: int | None) -> bool:
    """Whether another try may go better: no answer, 429, a server in trouble (501 is one that has no such thing)."""
    return status is None or status == 429 or (status >= 500 and status != 501)


def _spellings(secrets: list[str]) -> list[str]:
    """The secrets, as they are and as they stand in a URL, longest first. What is as short as a syllable is in every word."""
    found = {
        spelling
        for secret in secrets
        if len(secret) >= _SHORTEST
        for spelling in (secret, quote(secret, safe=""), quote_plus(secret))
    }
    return sorted(found, key=len, reverse=True)
