"""From observations to the log: one intake for all sources.

Owns: the states in memory, the batch that is being gathered, the order of events, back-pressure. An observation is applied
to its task's state and becomes an event in one step, synchronously; batches then go to the log one after the other, and only
what is committed is shown to anybody. Must not know who speaks to the upstreams, nor who reads the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from adapters.api import Observation, Stream
from gateway.clock import Clock
from gateway.errors import Refused
from gateway.metrics import Metrics
from gateway.pipeline import encode, tasks
from gateway.pipeline.tasks import State, Verdict
from gateway.store.api import Batch, Committed, Draft, LogEvent, Store
from schemas import rfc3339

log = structlog.get_logger(__name__)

#: Readers of upstream sockets wait while so much is on its way to the log.
MAX_PENDING_EVENTS = 10_000
MAX_PENDING_BYTES = 16 * 1024 * 1024
#: States kept in memory, and the bytes of what their upstreams say; the others are read back from the store when they are
#: spoken of again.
MAX_STATES = 20_000
MAX_STATE_BYTES = 64 * 1024 * 1024

Key = tuple[str, str]


class Intake:
    """Takes observations and notices in, in order, and appends them to the log.

    Args:
        store: the log.
        publish: called with each batch of committed events, in log order, on the event loop.
        adapters: source name → adapter name.
        horizon: seconds; a task that ended longer ago than this is no news, even at first sight.
    """

    def __init__(
        self,
        store: Store,
        publish: Callable[[list[LogEvent]], None],
        *,
        adapters: Mapping[str, str],
        clock: Clock,
        metrics: Metrics,
        horizon: float,
        max_states: int = MAX_STATES,
        max_state_bytes: int = MAX_STATE_BYTES,
    ) -> None:
        self._store = store
        self._publish = publish
        self._adapters = adapters
        self._clock = clock
        self._metrics = metrics
        self._horizon = horizon
        self._max_states, self._max_state_bytes = max_states, max_state_bytes
        self._states: dict[Key, State] = {}
        self._sizes: dict[Key, int] = {}
        self._states_bytes = 0
        self._live: dict[str, set[str]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._notices = 0
        self._writer: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._closing = False
        # What the next append will carry.
        self._drafts: list[Draft] = []
        self._bytes = 0
        self._dirty: dict[Key, State] = {}
        self._cursors: dict[Key, bytes] = {}
        #: keys of the append under way: their rows are not in the store yet
        self._in_flight: frozenset[Key] = frozenset()
        #: by id of the event
        self._awaited: dict[str, asyncio.Future[LogEvent | None]] = {}
        self._submitted = 0
        self._committed = 0
        self._work = asyncio.Event()
        self._progress = asyncio.Condition()

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to append."""
        self._writer = asyncio.create_task(self._write(), name="intake")

    async def close(self) -> None:
        """Appends what was taken in, and ends."""
        self._closing = True
        self._work.set()
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)

    @property
    def trouble(self) -> str | None:
        """Why nothing more is taken in, in words; None while all is well."""
        return None if self._failure is None else f"the intake died: {type(self._failure).__name__}"

    # --- what comes in -----------------------------------------------------------------------------------------------

    async def submit(
        self,
        source: str,
        stream: Stream,
        items: Sequence[Observation],
        *,
        received: float,
        cursor: Mapping[str, Any] | None = None,
    ) -> None:
        """Takes in what one frame says; waits while the log is behind.

        Args:
            source: the source's name.
            stream: the upstream stream that says it.
            items: in order; may be empty where only the cursor moved.
            received: when the frame was read, seconds since 1970, UTC.
            cursor: resume position of the stream after this frame; stored in the same transaction.

        Raises:
            RuntimeError: the intake has died.
        """
        await self._room()
        lock = self._locks.setdefault(source, asyncio.Lock())
        async with lock:  # loading states must not let a later frame of the source overtake
            await self._load(source, items)
            self._take(source, stream.key, items, received)
        if cursor is not None:
            self._cursors[source, stream.key] = msgspec.json.encode(cursor)
        self._wake()

    async def notice(self, source: str, adapter: str, kind: str, data: Mapping[str, object]) -> None:
        """Takes in a notice of the gateway about a source (`source.connected`, ...), in order with the source's events."""
        await self._room()
        async with self._locks.setdefault(source, asyncio.Lock()):
            now = self._clock.now()
            time = rfc3339.render(now)
            self._notices += 1
            event = tasks.event_id(f"{source}\0{kind}\0{time}\0{self._notices}\0{self._store.epoch}")
            body = encode.source_event(event, kind, source, time, {"source": source, "adapter": adapter, **data})
            self._add(Draft(event, kind, source, None, None, None, now, body))
        self._wake()

    async def announce(
        self, event_id: str, kind: str, subject: str, moment: float, data: Mapping[str, object]
    ) -> LogEvent | None:
        """Takes in an event of the gateway about a webhook endpoint (`webhook.created`, ...) and waits until it is committed.

        Args:
            event_id: the log takes it once only.
            moment: seconds since 1970, UTC.

        Returns:
            The event in the log; None where the log had it already.

        Raises:
            Refused: the gateway is shutting down.
            RuntimeError: the intake has died.
        """
        await self._room()
        if self._closing:
            raise Refused(503, "shutting_down", "The gateway is shutting down.")
        body = encode.webhook_event(event_id, kind, subject, rfc3339.render(moment), data)
        committed: asyncio.Future[LogEvent | None] = asyncio.get_running_loop().create_future()
        self._awaited[event_id] = committed
        self._add(Draft(event_id, kind, None, None, None, None, self._clock.now(), body))
        self._wake()
        try:
            return await committed
        finally:
            self._awaited.pop(event_id, None)

    async def remember(self, source: str, key: str, value: Mapping[str, Any] | None) -> None:
        """Stores a fact of the source beside its cursors, in order with its events; None forgets it."""
        self._cursors[source, key] = b"" if value is None else msgspec.json.encode(value)
        self._wake()

    def attached(self, source: str, stream_key: str, up: bool) -> None:
        """An upstream stream of the source is connected, or gone."""
        live = self._live.setdefault(source, set())
        (live.add if up else live.discard)(stream_key)

    async def flush(self) -> None:
        """Returns when everything taken in so far is committed.

        Raises:
            RuntimeError: the intake has died.
        """
        self._wake()
        goal = self._submitted
        async with self._progress:
            await self._progress.wait_for(lambda: self._committed >= goal or self._failure is not None)
        self._check()

    # --- one observation after the other -----------------------------------------------------------------------------

    async def _load(self, source: str, items: Sequence[Observation]) -> None:
        states = self._states
        missing = {item.task_id for item in items if (source, item.task_id) not in states}
        if missing:
            for row in await self._store.tasks(source, list(missing)):
                self._keep((source, row.id), encode.stored_state(row))
        if len(states) > self._max_states or self._states_bytes > self._max_state_bytes:
            self._evict(frozenset((source, item.task_id) for item in items))

    def _keep(self, key: Key, state: State) -> None:
        self._states.pop(key, None)  # taken out and put back: the dict's order is the order of use
        self._states[key] = state
        size = tasks.size(state)
        self._states_bytes += size - self._sizes.get(key, 0)
        self._sizes[key] = size

    def _evict(self, needed: frozenset[Key]) -> None:
        """Forgets the states that were used least lately, short of those whose row is not stored yet."""
        states, most, most_bytes = self._states, self._max_states * 3 // 4, self._max_state_bytes * 3 // 4
        for key in list(states):
            if len(states) <= most and self._states_bytes <= most_bytes:
                break
            if key not in self._dirty and key not in self._in_flight and key not in needed:
                del states[key]
                self._states_bytes -= self._sizes.pop(key)

    def _take(self, source: str, stream: str, items: Sequence[Observation], received: float) -> None:
        adapter = self._adapters[source]
        received_at = rfc3339.render(received)
        states, live = self._states, self._live.get(source, ())
        duplicates = stale = unfamiliar = 0
        for item in items:
            key = (source, item.task_id)
            known = states.get(key)
            if item.unfamiliar:
                unfamiliar += 1
            if known is None and tasks.is_old(item, received - self._horizon):
                duplicates += 1
                continue
            state, change = tasks.observe(
                known, item, source=source, adapter=adapter, stream=stream, live=live, received_at=received_at
            )
            if state is not None:
                self._keep(key, state)
            if change is Verdict.DUPLICATE:
                duplicates += 1
            elif isinstance(change, Verdict):
                stale += 1
            else:
                assert state is not None
                task = state.task
                body = encode.task_event(state, change, received_at)
                self._add(Draft(change.id, change.type, source, task.key, task.kind, task.status, received, body))
                self._dirty[key] = state
        metrics = self._metrics
        if duplicates:
            metrics.duplicates.labels(source).inc(duplicates)
        if stale:
            metrics.stale.labels(source).inc(stale)
        if unfamiliar:
            metrics.unfamiliar.labels(source).inc(unfamiliar)

    def _add(self, draft: Draft) -> None:
        self._drafts.append(draft)
        self._bytes += len(draft.body)

    # --- to the log --------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._submitted += 1
        self._work.set()

    def _check(self) -> None:
        if self._failure is not None:
            raise RuntimeError("the intake died") from self._failure

    async def _room(self) -> None:
        if len(self._drafts) >= MAX_PENDING_EVENTS or self._bytes >= MAX_PENDING_BYTES:
            async with self._progress:
                await self._progress.wait_for(
                    lambda: (
                        (len(self._drafts) < MAX_PENDING_EVENTS and self._bytes < MAX_PENDING_BYTES)
                        or self._failure is not None
                    )
                )
        self._check()

    async def _write(self) -> None:
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                submitted = self._submitted
                if self._drafts or self._dirty or self._cursors:
                    await self._append()
                async with self._progress:
                    self._committed = submitted
                    self._progress.notify_all()
                if self._closing and not self._work.is_set():
                    return
        except BaseException as error:
            self._failure = error
            for awaited in self._awaited.values():
                if not awaited.done():
                    awaited.set_exception(RuntimeError("the intake died"))
            if not isinstance(error, asyncio.CancelledError):
                log.critical("intake_died", exc_info=True)
            async with self._progress:
                self._progress.notify_all()
            raise

    async def _append(self) -> None:
        now = self._clock.now()
        batch = Batch(self._drafts, [encode.task_row(state, now) for state in self._dirty.values()], self._cursors)
        self._in_flight = frozenset(self._dirty)
        self._drafts, self._bytes, self._dirty, self._cursors = [], 0, {}, {}
        committed = await self._store.append(batch)
        self._in_flight = frozenset()
        counts: dict[tuple[str, str], int] = {}
        for event in committed.events:
            label = (event.source or "", event.type)
            counts[label] = counts.get(label, 0) + 1
        for (source, kind), count in counts.items():
            self._metrics.events.labels(source, kind).inc(count)
        for draft in committed.duplicates:
            self._metrics.duplicates.labels(draft.source or "").inc()
        if committed.events:
            self._publish(committed.events)
        if self._awaited:
            self._answer(committed)

    def _answer(self, committed: Committed) -> None:
        """Tells those who wait for an event what became of it, after everybody was shown it."""
        came: dict[str, LogEvent | None] = {draft.id: None for draft in committed.duplicates}
        came |= {event.id: event for event in committed.events}
        for event_id in came.keys() & self._awaited.keys():
            if not self._awaited[event_id].done():
                self._awaited[event_id].set_result(came[event_id])
