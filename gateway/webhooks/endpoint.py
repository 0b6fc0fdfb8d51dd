"""One endpoint: a cursor on the log, its lanes, and the attempts in flight.

Owns what is known in memory of the endpoint's deliveries and turns outcomes into rows and a position for the store. Must not
know other endpoints, nor write to the store: the dispatcher collects what all endpoints have and writes it together.

What survives a crash: `gateway.webhooks.ledger` has the rule. After a start an event with a pending row is tried when due,
one with any other row is done, and what was in flight is sent again with the same id.

What memory holds: The log is read only while few deliveries could be sent at once, so a slow endpoint waits in the log, not
here. A delivery that failed, and every one behind it in its lane, gets a pending row and gives up its body; what remains
here of it is a few hundred bytes, and of those there are at most `WINDOW`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.metrics import Metrics
from gateway.store.api import Deliveries, DeliveryRow, LogEvent, Store
from gateway.webhooks import rate, schedule
from gateway.webhooks.alarm import Alarm
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.lanes import PROGRESS, Item, Lanes
from gateway.webhooks.ledger import Ledger
from gateway.webhooks.recent import Recent
from gateway.webhooks.schedule import Fate
from gateway.webhooks.sender import Answer, Sender
from schemas import rfc3339

_log = structlog.get_logger("mainstem.webhooks")

#: Events read at once.
PAGE = 256
#: The log is read while fewer deliveries than this could be sent without waiting for a time.
LOW = 256
#: Deliveries that one endpoint may have in memory, parked ones included; then the rest waits in the log.
WINDOW = 50_000
#: Bytes of bodies that one endpoint keeps; the bodies of further deliveries are read again when it is their turn.
BODY_BYTES = 4 << 20
#: Results that may wait to be written; nothing more is sent meanwhile.
UNSAVED = 1024
#: Seconds until something that the store refused is tried again.
STORE_RETRY = 1.0

GONE = "it answered 410"
DISABLED = "the endpoint is disabled"
#: State of a delivery that a newer progress event made needless (`progress: latest`) after it had a row.
SKIPPED = "skipped"
SUPERSEDED = "a newer progress event was sent instead"
EXPIRED = "the log no longer has this event"

#: Position of the row in which an endpoint keeps that it answered 410. No event has it.
OWN_ROW = 0


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What can be said of an endpoint now. Times in seconds since 1970, UTC.

    Attributes:
        disabled: why nothing is sent; None: it is enabled.
        pending: deliveries that wait or are in flight; what has not been read from the log yet is not counted.
        in_flight: of these, those in flight.
        dead: dead letters.
        position: everything up to there is settled or has a row.
        last_error: of the latest failed attempt.
        paused_until: the endpoint asked for less, nothing new is sent before.
    """

    name: str
    disabled: str | None
    pending: int
    in_flight: int
    dead: int
    position: int
    last_error: str | None
    last_error_at: float | None
    last_delivered_at: float | None
    paused_until: float | None


class Endpoint:
    """One endpoint at work.

    Args:
        config: the endpoint.
        store: read only.
        recent: the newest events.
        clock, rng, metrics: as everywhere.
        changed: called when there is something to collect.
        broken: called with an exception that should not have been: a fault of the gateway, never of a receiver.
    """

    def __init__(
        self,
        config: EndpointConfig,
        store: Store,
        recent: Recent,
        *,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        changed: Callable[[], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self.name = config.name
        self.config = config
        self._store, self._recent, self._clock, self._rng = store, recent, clock, rng
        self._changed, self._broken = changed, broken
        self._filter = config.where
        self._matches = self._filter.compile()
        self._sender = Sender(config, clock)
        self._lanes = Lanes(latest=config.progress == "latest")
        self._bucket = rate.Bucket(config.rate_limit, clock.monotonic())
        self._alarm = Alarm(clock, self._rung, f"webhook-alarm {self.name}")
        self._wake = asyncio.Event()
        self._flying: set[asyncio.Task[None]] = set()
        self._stopped = False

        self._ledger = Ledger(self.name, 0)
        self._bytes = 0

        self._disabled = None if config.enabled else DISABLED
        self._doomed: deque[Item] = deque()  # to become dead letters because the endpoint is disabled
        self._doomed_upto = 0  # what the log has up to there was pending when the endpoint was disabled
        self._enable_wanted = False
        self._paused_until = 0.0  # nothing new is sent before
        self._asked_until = 0.0  # nothing at all is sent before: the receiver named a time
        self._throttled = 0
        self._failing = False
        self._dead = 0
        self._last_error: str | None = None
        self._last_error_at: float | None = None
        self._last_delivered_at: float | None = None
        self._attempts_total = metrics.delivery_attempts
        self._duration = metrics.delivery_duration
        self._pending_gauge = metrics.deliveries_pending.labels(self.name)
        self._dead_gauge = metrics.deliveries_dead.labels(self.name)

    # Beginning and end

    async def load(self, position: int) -> None:
        """Takes up where the store says that the endpoint stands.

        Args:
            position: its stored position.

        Raises:
            StoreError: the store cannot be read.
        """
        own = await self._store.delivery(self.name, OWN_ROW)
        if own is not None and own.state == "pending":
            self._disabled = self._disabled or GONE
        self._ledger = Ledger(self.name, position, [row.sequence async for row in self._rows(None, position)])
        async for row in self._rows("pending", OWN_ROW):
            await self._restore(row)
        if self._disabled is not None:
            self._doom()
        elif position < self._store.floor:
            _log.warning("webhook_position_expired", endpoint=self.name, position=position, floor=self._store.floor)
        self._gauge()

    async def run(self) -> None:
        """Reads the log whenever there is something to read and room for it. Runs until cancelled."""
        await self._safely(self._count_dead)
        while True:
            self._wake.clear()
            await self._safely(self._advance)
            self._launch()
            await self._wake.wait()

    def stop(self) -> set[asyncio.Task[None]]:
        """Begins no further attempt. Returns those in flight."""
        self._stopped = True
        self._alarm.cancel()
        return set(self._flying)

    async def close(self) -> None:
        """Gives up what is in flight and closes the connections. Idempotent."""
        flying = self.stop()
        for task in flying:
            task.cancel()
        if flying:
            await asyncio.wait(flying)
        await self._alarm.close()
        await self._sender.close()

    def wake(self) -> None:
        """The log has grown."""
        self._wake.set()

    # What the dispatcher writes and shows

    def collect(self, into: Deliveries, *, final: bool = False) -> None:
        """Hands over what is not stored yet: see `Ledger.collect`."""
        self._ledger.collect(into, final=final)

    def saved(self) -> None:
        """What was collected last is stored."""
        was_full = not self._has_room()
        self._ledger.saved()
        if was_full:
            self._launch()
            self._wake.set()

    def status(self) -> EndpointStatus:
        """What can be said of the endpoint now."""
        wait = self._paused_until - self._clock.monotonic()
        return EndpointStatus(
            name=self.name,
            disabled=self._disabled,
            pending=len(self._lanes) + len(self._doomed),
            in_flight=len(self._flying),
            dead=self._dead,
            position=self._ledger.position,
            last_error=self._last_error,
            last_error_at=self._last_error_at,
            last_delivered_at=self._last_delivered_at,
            paused_until=self._clock.now() + wait if wait > 0 else None,
        )

    # Reading

    async def _safely(self, step: Callable[[], Awaitable[None]]) -> None:
        """Does a step again until the store lets it."""
        told = False
        while True:
            try:
                await step()
            except StoreError as error:
                if not told:
                    _log.warning("webhook_store_unreadable", endpoint=self.name, error=str(error))
                told = True
                await self._clock.sleep(STORE_RETRY)
            else:
                if told:
                    _log.info("webhook_store_readable", endpoint=self.name)
                return

    async def _rows(self, state: str | None, after: int) -> AsyncIterator[DeliveryRow]:
        while page := await self._store.deliveries(self.name, state, after=after, limit=1000):
            for row in page:
                yield row
            after = page[-1].sequence

    async def _count_dead(self) -> None:
        """Counts the dead letters of earlier runs. Nothing is sent before, so that none is counted twice."""
        count = 0
        async for _ in self._rows("dead", OWN_ROW):
            count += 1
        self._dead = count
        self._gauge()

    async def _restore(self, row: DeliveryRow) -> None:
        """Puts a pending row back into its lane."""
        lane = row.task or _lane_of_notice(await self._event(row.sequence))  # rows do not say whose notice it was
        item = Item(
            row.sequence, row.event_id, lane, row.task, tries=row.tries, attempts=None, stored=True, closed=True
        )
        wait = None if row.due is None else max(0.0, row.due - self._clock.now())
        self._lanes.add(item, None if wait is None else self._clock.monotonic() + wait)

    async def _event(self, sequence: int) -> LogEvent | None:
        events = await self._store.read(sequence - 1, 1, (), sequence)
        return events[0] if events else None

    async def _advance(self) -> None:
        """Moves along the log as far as there is something to read and room for it."""
        if self._disabled is not None:
            await self._bury()
        while self._is_hungry():
            position = self._ledger.read
            page = self._recent.after(position, PAGE)
            if page is None:
                upto = max(self._store.head, position)
                events = await self._store.read(position, PAGE, (self._filter,), upto)
                reached = events[-1].sequence if len(events) == PAGE else upto
                if self._disabled is not None:
                    return  # since it waited here: nothing is taken in any more, `_disable` has set `_wake`
            else:
                events, reached = [event for event in page[0] if self._matches(event)], page[1]
            self._accept(events, reached)
            self._launch()

    def _is_hungry(self) -> bool:
        return (
            not self._stopped
            and self._disabled is None
            and self._recent.last > self._ledger.read
            and self._lanes.runnable < LOW
            and len(self._lanes) < WINDOW
            and self._has_room()
        )

    def _has_room(self) -> bool:
        """Whether more results may come: those that wait for the store are bounded."""
        return self._ledger.unsaved < UNSAVED

    def _is_unwanted(self, event: LogEvent) -> bool:
        return event.type == PROGRESS and self.config.progress == "none"

    def _accept(self, events: Sequence[LogEvent], reached: int) -> None:
        """Takes events that match into their lanes."""
        for event in events:
            if self._ledger.knows(event.sequence) or self._is_unwanted(event):
                continue
            lane = event.task or _lane_of_notice(event)
            item = Item(event.sequence, event.id, lane, event.task, event.type)
            self._ledger.open(item)
            replaced = self._lanes.add(item)
            if replaced is not None:
                self._supersede(replaced)
            if self._lanes.is_parked(lane):
                self._shelve(item)
            elif self._bytes + len(event.body) <= BODY_BYTES:
                item.event = event
                self._bytes += len(event.body)
        self._reach(reached)
        self._gauge()

    def _reach(self, position: int) -> None:
        self._ledger.reach(position)
        if self._ledger.lags:
            self._changed()

    # Sending

    def _rung(self) -> None:
        self._launch()
        self._wake.set()

    def _launch(self) -> None:
        """Begins as many attempts as may be in flight now."""
        if self._stopped or self._disabled is not None:
            return
        now = self._clock.monotonic()
        self._lanes.unpark(now)
        while len(self._flying) < self.config.concurrency and self._has_room():
            if not self._lanes.has_ready:
                break
            until = self._asked_until if self._lanes.next_is_retry else self._paused_until
            wait = max(until - now, self._bucket.wait(now))
            if wait > 0:
                self._alarm.set(now + wait)
                break
            item = self._lanes.take()
            self._bucket.take()
            task = asyncio.create_task(self._attempt(item), name=f"webhook {self.name} {item.sequence}")
            self._flying.add(task)
            task.add_done_callback(self._landed)
        due = self._lanes.next_due
        if due is not None:
            self._alarm.set(due)
        if self._is_hungry():
            self._wake.set()

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._broken(error)
        self._launch()

    async def _attempts(self, item: Item) -> bytes:
        if item.attempts is not None:
            return item.attempts
        row = await self._store.delivery(self.name, item.sequence)
        return row.attempts if row is not None else b"[]"

    async def _attempt(self, item: Item) -> None:
        """Sends one delivery once."""
        try:
            event = item.event or await self._event(item.sequence)
            attempts = await self._attempts(item)
        except StoreError as error:
            _log.warning("webhook_store_unreadable", endpoint=self.name, error=str(error))
            if self._disabled is None:
                self._lanes.park(item, self._clock.monotonic() + STORE_RETRY)
                return
        if self._disabled is not None:  # since this attempt began
            self._lanes.settle(item)
            self._doomed.append(item)
            self._wake.set()
            return
        if event is None:
            self._record(item, "dead", _append(attempts, self._note(EXPIRED)))
            self._lanes.settle(item)
            _log.warning("webhook_event_expired", endpoint=self.name, sequence=item.sequence)
            return
        answer = await self._sender.send(event.id, event.body)
        self._settle(item, answer, attempts)

    def _settle(self, item: Item, answer: Answer, attempts: bytes) -> None:
        """Draws the consequences of an attempt."""
        self._attempts_total.labels(self.name, answer.outcome).inc()
        self._duration.observe(answer.duration)
        item.tries += 1
        attempts = _append(attempts, _entry(answer))
        verdict = schedule.judge(
            answer.status, item.tries, self.config.retry_schedule, answer.retry_after, self._rng.random()
        )
        self._observe(answer)
        if verdict.fate is Fate.DELIVERED:
            self._record(item, "delivered", attempts)
            self._lanes.settle(item)
        elif verdict.fate is Fate.RETRY and self._disabled is None:
            self._record(item, "pending", attempts, self._clock.now() + verdict.delay)
            self._drop_body(item)
            self._lanes.park(item, self._clock.monotonic() + verdict.delay)
            for follower in self._lanes.waiting(item.lane):
                self._shelve(follower)
        else:
            self._record(item, "dead", attempts)
            self._lanes.settle(item)
            _log.warning(
                "webhook_delivery_dead",
                endpoint=self.name, sequence=item.sequence, attempts=item.tries, error=answer.error,
            )  # fmt: skip
            if verdict.fate is Fate.DISABLE:
                self._disable()
        self._gauge()

    def _observe(self, answer: Answer) -> None:
        """Keeps what the endpoint as a whole shows: failing or well, and how much it can take."""
        if answer.error is None:
            self._throttled = 0
            self._last_delivered_at = answer.at
            if self._failing:
                self._failing = False
                _log.info("webhook_endpoint_recovered", endpoint=self.name)
            return
        self._last_error, self._last_error_at = answer.error, answer.at
        if not self._failing:
            self._failing = True
            _log.warning("webhook_endpoint_failing", endpoint=self.name, error=answer.error)
        if answer.status in schedule.THROTTLING:
            now = self._clock.monotonic()
            if now >= self._paused_until:  # answers to what was in flight at once are one reason to slow down, not many
                self._throttled += 1
            seconds = schedule.pause(self._throttled, answer.retry_after)
            self._paused_until = max(self._paused_until, now + seconds)
            if answer.retry_after is not None:
                self._asked_until = max(self._asked_until, now + seconds)

    # Results

    def _record(self, item: Item, state: str, attempts: bytes, due: float | None = None) -> None:
        """Notes a result; the position may move past the event with it."""
        if state != "pending":
            self._drop_body(item)
        if state == "dead":
            self._dead += 1
        now = self._clock.now()
        row = DeliveryRow(self.name, item.sequence, item.id, item.task, state, item.tries, due, attempts, now)
        self._ledger.record(item, row)
        self._changed()

    def _shelve(self, item: Item) -> None:
        """Stores that a delivery waits behind a failed one, so that the position can move on and its body be let go."""
        self._drop_body(item)
        if not item.stored:
            self._record(item, "pending", item.attempts or b"[]")

    def _supersede(self, item: Item) -> None:
        """A newer progress event is sent in its place. Only one that has a row needs a new one."""
        self._drop_body(item)
        item.closed = True
        if item.stored:
            self._record(item, SKIPPED, _append(b"[]", self._note(SUPERSEDED)))

    def _drop_body(self, item: Item) -> None:
        if item.event is not None:
            self._bytes -= len(item.event.body)
            item.event = None

    def _gauge(self) -> None:
        self._pending_gauge.set(len(self._lanes) + len(self._doomed))
        self._dead_gauge.set(self._dead)

    # Disabled

    def enable(self) -> None:
        """Delivers again, beginning with the next event. What became a dead letter meanwhile stays one."""
        if self._disabled is not None:
            self._enable_wanted = True
            self._wake.set()

    def _disable(self) -> None:
        """410: nothing more is sent, what is pending becomes a dead letter."""
        if self._disabled is None:
            self._disabled = GONE
            self._note_own("pending")
            _log.warning("webhook_endpoint_disabled", endpoint=self.name)
            self._doom()

    def _note_own(self, state: str) -> None:
        """Stores whether the endpoint is disabled by a 410. Retention removes no `pending` row."""
        self._ledger.record_own(DeliveryRow(self.name, OWN_ROW, "", None, state, 0, None, b"[]", self._clock.now()))
        self._changed()

    def _doom(self) -> None:
        """Puts aside what is pending, for `_bury`. What the log has and memory has not is pending as well."""
        self._enable_wanted = False
        self._doomed.extend(sorted(self._lanes.clear(), key=lambda item: item.sequence))
        self._doomed_upto = self._store.head
        self._wake.set()

    async def _bury(self) -> None:
        """Makes dead letters of what was pending, then lets the position follow the log."""
        while self._has_room():
            position = self._ledger.read
            if self._doomed:
                item = self._doomed[0]
                attempts = await self._attempts(item)
                self._record(item, "dead", _append(attempts, self._note(DISABLED)))
                self._doomed.popleft()
            elif position < self._doomed_upto:
                events = await self._store.read(position, PAGE, (self._filter,), self._doomed_upto)
                for event in events:
                    if not self._ledger.knows(event.sequence) and not self._is_unwanted(event):
                        item = Item(event.sequence, event.id, "", event.task)
                        self._record(item, "dead", _append(b"[]", self._note(DISABLED)))
                self._reach(events[-1].sequence if len(events) == PAGE else self._doomed_upto)
            else:
                self._reach(max(position, self._recent.last))
                if self._enable_wanted:
                    self._disabled = None
                    self._note_own("delivered")
                    _log.info("webhook_endpoint_enabled", endpoint=self.name)
                break
        self._gauge()

    def _note(self, error: str) -> dict[str, Any]:
        """An entry among the attempts for an end that no attempt brought about."""
        at = rfc3339.render(self._clock.now())
        return {"at": at, "status": None, "duration_ms": 0, "error": error, "response": None}


def _lane_of_notice(event: LogEvent | None) -> str:
    """Events without a task keep their order per source. The blank keeps their lanes apart from task keys."""
    return f" {event.source or ''}" if event is not None else " "


def _entry(answer: Answer) -> dict[str, Any]:
    """An attempt as it is listed (contract, section 5)."""
    return {
        "at": rfc3339.render(answer.at),
        "status": answer.status,
        "duration_ms": round(answer.duration * 1000, 3),
        "error": answer.error,
        "response": answer.response,
    }


def _append(attempts: bytes, entry: dict[str, Any]) -> bytes:
    return msgspec.json.encode([*msgspec.json.decode(attempts), entry])
