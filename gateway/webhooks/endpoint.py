"""One endpoint: its lanes, the attempts in flight, and what comes of them.

Owns when it reads the log, sends and gives up, and turns outcomes into rows, a position and a record for the store.
Must not know other endpoints, nor write to the store: the dispatcher collects what all endpoints have and writes it together.

What survives a crash: `gateway.webhooks.ledger` has the rule. After a start an event with a pending row is tried when due,
one with any other row is done, and what was in flight is sent again with the same id.

The log is read only while few lanes have something to send, so a slow endpoint waits in the log, not in memory.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog
from prometheus_client import Counter

from gateway.clock import Clock
from gateway.errors import Refused, StoreError
from gateway.metrics import Metrics
from gateway.store.api import DeliveryRow, LogEvent, Store
from gateway.webhooks import history, rate, schedule
from gateway.webhooks.alarm import Alarm
from gateway.webhooks.books import Books
from gateway.webhooks.client import Client
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.cursor import PAGE, Cursor, lane_of
from gateway.webhooks.health import Health
from gateway.webhooks.lanes import Item
from gateway.webhooks.names import Names
from gateway.webhooks.recent import Recent
from gateway.webhooks.record import Notice, Record, Replay, Revival
from gateway.webhooks.schedule import Fate
from gateway.webhooks.sender import Answer
from gateway.webhooks.status import EndpointStatus
from gateway.webhooks.stock import Stock
from gateway.webhooks.workers import Workers
from schemas import rfc3339

_log = structlog.get_logger("mainstem.webhooks")

#: The log is read while fewer lanes than this have something to send: one busy task must not hide the others.
LOW = 256
#: Deliveries that one endpoint may have in memory, parked ones included; then the rest waits in the log.
WINDOW = 50_000
#: Results that may wait to be written; nothing more is sent meanwhile.
UNSAVED = 1024
#: Seconds until something that the store refused is tried again.
STORE_RETRY = 1.0

GONE = "it answered 410"
DISABLED = "the endpoint is disabled"
#: Why it is, where `enabled` of its settings is false.
SWITCHED_OFF = "its settings say so"
EXPIRED = "the log no longer has this event"
#: Who does what nobody asked for, and who changes an endpoint where the configuration file does, for the log.
SELF, FILE = "mainstem", "configuration"
#: Type of the event by which the log says that an endpoint is disabled: what it has before is delivered, or a dead letter.
DISABLED_TYPE = "webhook.disabled"


class Endpoint:
    """One endpoint at work.

    Args:
        config: the endpoint.
        kept: what is kept of it beside its deliveries; changed in place.
        store: read only.
        recent: the newest events.
        names: host names to addresses.
        clock, rng, metrics: as everywhere.
        changed: called when the books have something to collect.
        broken: called with an exception that should not have been: a fault of the gateway, never of a receiver.
        notice: makes an event about it to be put into the log, of a type and data; None where nobody takes it.
    """

    def __init__(
        self,
        config: EndpointConfig,
        kept: Record,
        store: Store,
        recent: Recent,
        names: Names,
        *,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        changed: Callable[[], None],
        broken: Callable[[BaseException], None],
        notice: Callable[[str, Mapping[str, object]], Notice | None],
    ) -> None:
        self.name = config.name
        self.config = config
        self.books = Books(config.name, kept, clock, changed, notice)
        self.record = kept
        self._store, self._clock, self._rng, self._metrics = store, clock, rng, metrics
        self._cursor = Cursor(config, store, recent, clock)
        self._client = Client(config, kept, clock, names)
        self._stock = Stock(config.name, self.books, clock, latest=config.progress == "latest")
        self._lanes = self._stock.lanes
        self._bucket = rate.Bucket(config.rate_limit, clock.monotonic())
        self._health = Health(config.name, self.books, clock)
        self._alarm = Alarm(clock, self._rung, f"webhook-alarm {self.name}")
        self._wake = asyncio.Event()
        self._workers = Workers(
            f"webhook {self.name}", self._attempt, self._next, lambda: self.books.ledger.unsaved > 0, broken
        )
        self._stopped = False
        self._turn = asyncio.Lock()  # held while the log is read and while what is in memory is put in order anew

        self._disabled = kept.disabled or (None if config.enabled else SWITCHED_OFF)
        self._enabler: str | None = None  # who wants it enabled again
        self._enabled = asyncio.Event()
        self._outcomes: dict[str, Counter] = {}  # `labels` costs more than counting
        metrics.deliveries_pending.labels(self.name).set_function(self._stock.__len__)
        metrics.deliveries_dead.labels(self.name).set_function(lambda: self.books.dead)
        metrics.delivery_lag.labels(self.name).set_function(self._lag)

    # Beginning and end

    async def load(self, position: int) -> None:
        """Takes up where the store says that the endpoint stands.

        Args:
            position: its stored position.

        Raises:
            StoreError: the store cannot be read.
        """
        self.books.begin(position, await self._store.last_settled())
        await self.recount()
        newest = await self._store.deliveries(self.name, newest=True, limit=1)
        replay = self.record.replay
        self._cursor.horizon = max([replay.upto if replay else 0, *(row.sequence for row in newest)])
        after = 0
        while page := await self._store.deliveries(self.name, "pending", after=after, upto=position):
            for row in page:
                event = await self._cursor.event(row.sequence) if row.task is None else None
                self._lanes.add(self._cursor.restored(row, event))
            after = page[-1].sequence
        if self._disabled is not None:
            if self.record.doomed_upto is None and self.record.disabled is None:
                self.books.note(DISABLED_TYPE, {"by": FILE, "reason": SWITCHED_OFF})
            self._doom()
        elif self.record.doomed_upto is not None:  # it was, and is not any more
            self._disabled = SWITCHED_OFF
            self._doom()
            self._enabler = FILE
            await self._bury()
        elif position < self._store.floor:
            _log.warning("webhook_position_expired", endpoint=self.name, position=position, floor=self._store.floor)

    async def run(self) -> None:
        """Reads the log whenever there is something to read and room for it. Runs until cancelled."""
        while True:
            self._wake.clear()
            await self._safely(self._advance)
            self._launch()
            await self._wake.wait()

    def stop(self) -> set[asyncio.Task[None]]:
        """Begins no further attempt. Returns those in flight."""
        self._stopped = True
        self._alarm.cancel()
        return self._workers.stop()

    async def close(self) -> None:
        """Gives up what is in flight and closes the connections. Idempotent."""
        flying = self.stop()
        for task in flying:
            task.cancel()
        if flying:
            await asyncio.wait(flying)
        await self._alarm.close()
        await self._client.close()
        self._health.close()

    def wake(self) -> None:
        """The log has grown."""
        self._wake.set()

    # What the dispatcher writes and shows

    def saved(self) -> None:
        """What was collected from the books last is stored."""
        was_full = not self._has_room()
        self.books.saved()
        self._launch()
        self._workers.release()
        if was_full:
            self._wake.set()

    async def recount(self) -> None:
        """Counts the dead letters. Called while nothing is being written.

        Raises:
            StoreError: the store cannot be read.
        """
        self.books.counted(await self._store.count_deliveries(self.name, "dead"))

    def status(self) -> EndpointStatus:
        """What can be said of the endpoint now."""
        kept = self.record
        health, breaker = self._health, self._health.breaker
        wait = breaker.opens_at(new=True) - self._clock.monotonic()
        if self._disabled is not None:
            state = "disabled"
        elif kept.replay is not None:
            state = "replaying"
        elif wait > 0 or breaker.is_open:
            state = "paused"
        else:
            state = "delivering" if kept.failing_since is None else "failing"
        return EndpointStatus(
            name=self.name,
            state=state,
            disabled=self._disabled,
            failing_since=kept.failing_since,
            breaker="open" if breaker.is_open else "closed",
            pending=len(self._stock),
            in_flight=self._workers.busy,
            dead=self.books.dead,
            position=self.books.ledger.position,
            lag=self._lag(),
            last_error=health.error,
            last_error_at=health.error_at,
            last_delivered_at=health.delivered_at,
            paused_until=self._clock.now() + wait if wait > 0 else None,
            replay_upto=kept.replay.upto if kept.replay is not None else None,
        )

    def _lag(self) -> int:
        return max(0, self._cursor.end - self.books.ledger.read)

    # What is asked of it

    async def reconfigure(self, config: EndpointConfig, change: Callable[[Books], None]) -> None:
        """From now on works by another configuration. What is in flight ends by the old one; what was taken in goes out.

        Args:
            config: of the same name.
            change: makes the books say so, in the same moment.
        """
        async with self._turn:
            for item in self._lanes:
                self._stock.shelve(item)  # so that the position covers all that was taken in by the old filter
            change(self.books)
            self.config = config
            self._cursor.configure(config)
            self._lanes.fold(config.progress == "latest")
            self._bucket = rate.Bucket(config.rate_limit, self._clock.monotonic())
            if not config.enabled and self._disabled is None:
                self._disabled = SWITCHED_OFF
                self._doom()
            await self._client.replace(config, self.record)
        self._launch()
        self._wake.set()

    async def enable(self, by: str) -> None:
        """Delivers again, beginning with the next event. What became a dead letter meanwhile stays one.

        Returns once it does; at once where it was not disabled.
        """
        if self._disabled is not None:
            self._enabled.clear()
            self._enabler = by
            self._wake.set()
            await self._enabled.wait()

    async def replay(self, after: int, by: str) -> int:
        """Delivers the events after a position again, in order per task, and returns that position.

        The position goes back and the log is read again; the record says which rows are from before.

        Raises:
            Refused: it is disabled.
        """
        async with self._turn:
            self.check_enabled()
            ledger = self.books.ledger
            requested, after = after, min(max(after, self._store.floor), ledger.read)
            running = self.record.replay
            upto = max(ledger.read, running.upto if running is not None else 0)
            for item in self._lanes:
                if item.sequence <= after or self._lanes.is_flying(item):
                    self._stock.shelve(item)
            self._stock.drop(after)
            ledger.rewind(after)
            self._cursor.horizon = max(self._cursor.horizon, upto)
            self.record.replay = Replay(upto, self.books.cut())
            span = {"after": f"{after:020d}", "upto": f"{upto:020d}", "requested": f"{requested:020d}"}
            self.books.note("webhook.replayed", {"by": by, **span})
        self._wake.set()
        return after

    async def retry(self, sequence: int, by: str) -> bool:
        """Sends a delivery now, whatever became of it; what is before it in its lane still goes first. One that is being sent
        is left alone.

        Returns:
            Whether there is such a delivery.

        Raises:
            Refused: the endpoint is disabled.
            StoreError: the store cannot be read.
        """
        async with self._turn:
            self.check_enabled()
            ledger = self.books.ledger
            with ledger.watch():
                row = await self._store.delivery(self.name, sequence)
                event = await self._cursor.event(sequence)
                row = ledger.newer(sequence - 1, sequence).get(sequence, row)
            self.check_enabled()
            held = self._lanes.get(sequence)
            if row is None and held is None:
                return False
            if held is not None and self._lanes.is_flying(held):
                return True
            if held is None:
                assert row is not None
                self._again(row, event)
            else:
                self._lanes.hasten(held)
                self._stock.enter(held, "pending", await self._attempts(held), self._clock.now())
            self.books.note("webhook.retried", {"by": by, "delivery": f"{self.name}.{sequence}"})
        self._launch()
        return True

    async def delivery(self, sequence: int) -> DeliveryRow | None:
        """A delivery as it is now, one that waits for its first attempt included; None: there is none.

        Raises:
            StoreError: the store cannot be read.
        """
        async with self._turn:
            ledger = self.books.ledger
            with ledger.watch():
                row = await self._store.delivery(self.name, sequence)
                row = self._stock.rows(sequence - 1, sequence).get(sequence, row)
        return None if row is None else self._as_it_is(row)

    async def deliveries(
        self, state: str | None, *, upto: int | None, limit: int
    ) -> tuple[list[DeliveryRow], int | None]:
        """Deliveries as they are now, newest first, those that wait for their first attempt included.

        Args:
            state: of these alone; None: all.
            upto: none behind this position; None: from the newest on.
            limit: at most so many.

        Returns:
            Them, and the position before which the next ones are; None: there are no more.

        Raises:
            StoreError: the store cannot be read.
        """
        async with self._turn:
            ledger = self.books.ledger
            with ledger.watch():
                stored = await self._store.deliveries(self.name, state, upto=upto, limit=limit + 1, newest=True)
                # below the last of a full page the store has more, to be looked at with the next page
                low = stored[-1].sequence if len(stored) > limit else 0
                ahead = self._stock.rows(low - 1, self._store.head if upto is None else upto)
        found = [row for row in stored if row.sequence not in ahead]
        found += [row for row in ahead.values() if state in (None, row.state)]
        found.sort(key=lambda row: row.sequence, reverse=True)
        shown = [self._as_it_is(row) for row in found[:limit]]
        return shown, shown[-1].sequence if len(found) > limit else low or None

    def _as_it_is(self, row: DeliveryRow) -> DeliveryRow:
        """A row, of which the store does not know that its delivery is being sent: it is due no more."""
        item = self._lanes.get(row.sequence)
        return msgspec.structs.replace(row, due=None) if item is not None and self._lanes.is_flying(item) else row

    async def retry_dead(self, by: str) -> int:
        """Sends all dead letters again, by and by. Returns how many there are.

        Raises:
            Refused: the endpoint is disabled.
        """
        async with self._turn:
            self.check_enabled()
            count = self.books.dead
            self.record.revival = Revival(0, self.books.cut())
            self.books.note("webhook.retried", {"by": by, "deliveries": count})
        self._wake.set()
        return count

    async def push(self, event: LogEvent) -> None:
        """Sends an event whatever the filter says.

        Raises:
            Refused: it is disabled.
        """
        async with self._turn:
            self.check_enabled()
            item = Item(event.sequence, event.id, lane_of(event), event.task, asked=True)
            self._stock.insert(item, history.NONE)
        self._launch()

    def check_enabled(self) -> None:
        """Nothing can be sent through a disabled endpoint.

        Raises:
            Refused: it is.
        """
        if self._disabled is not None:
            raise Refused(409, "webhook_disabled", f"The endpoint is disabled: {self._disabled}. Enable it first.")

    def _again(self, row: DeliveryRow, event: LogEvent | None) -> None:
        """Makes a settled delivery pending, due now, at the beginning of its schedule; its history goes on."""
        item = self._cursor.restored(row, event, attempts=row.attempts)
        item.tries, item.due, item.asked, item.dead = 0, None, True, row.state == "dead"
        self._stock.insert(item, row.attempts)

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

    async def _advance(self) -> None:
        """Moves along the log as far as there is something to read and room for it."""
        if self._disabled is not None:
            async with self._turn:
                await self._bury()
        while self._wants_more() and self._has_more():
            async with self._turn:
                if self.record.revival is not None:
                    await self._revive(self.record.revival)
                else:
                    page = await self._cursor.page(self.books.ledger, self._lanes.get, self.record.replay)
                    if self._disabled is None:  # nothing is taken in any more since; `_disable` has set `_wake`
                        self._stock.accept(page.items)
                        self.books.reach(page.reached)
            self._launch()

    def _wants_more(self) -> bool:
        return (
            not self._stopped
            and self._disabled is None
            and self._lanes.ready < LOW
            and len(self._lanes) < WINDOW
            and self._has_room()
        )

    def _has_more(self) -> bool:
        return self.record.revival is not None or self._cursor.end > self.books.ledger.read

    def _has_room(self) -> bool:
        """Whether more results may come: those that wait for the store are bounded."""
        return self.books.ledger.unsaved < UNSAVED

    async def _revive(self, revival: Revival) -> None:
        """Makes a page of dead letters pending; how far it came is stored with them."""
        ledger = self.books.ledger
        with ledger.watch():
            rows = await self._store.deliveries(self.name, "dead", after=revival.after, limit=PAGE)
            last = rows[-1].sequence if rows else revival.after
            newer = ledger.newer(revival.after, last)
            found = [newer.get(row.sequence, row) for row in rows]
            events = [await self._cursor.event(row.sequence) if row.task is None else None for row in found]
        if self._disabled is not None:
            return
        for row, event in zip(found, events, strict=True):
            if row.state == "dead" and row.updated < revival.at and self._lanes.get(row.sequence) is None:
                self._again(row, event)
        self.record.revival = Revival(last, revival.at) if len(rows) == PAGE else None
        self.books.touch()

    # Sending

    def _rung(self) -> None:
        self._launch()
        self._wake.set()

    def _launch(self) -> None:
        """Begins as many attempts as may be in flight now."""
        if self._stopped or self._disabled is not None:
            return
        self._lanes.unpark(self._clock.monotonic())
        self._workers.launch()
        due = self._lanes.next_due
        if due is not None:
            self._alarm.set(due)
        if self._wants_more() and self._has_more():
            self._wake.set()

    def _next(self) -> Item | None:
        """Takes a delivery that may be sent now; None: there is none, or the alarm is set for it.

        A delivery is in flight until its result is stored: no more than that is sent again after a crash.
        """
        lanes = self._lanes
        if self._workers.busy + self.books.ledger.unsaved >= self.config.concurrency:
            return None
        if not lanes.ready or self._stopped or self._disabled is not None:
            return None
        now, new, breaker = self._clock.monotonic(), lanes.next_is_new, self._health.breaker
        wait = max(breaker.opens_at(new=new) - now, self._bucket.wait(now))
        if wait > 0:
            self._alarm.set(now + wait)
            return None
        self._bucket.take()
        breaker.sent(now, new=new)
        return lanes.take()

    async def _attempts(self, item: Item) -> bytes:
        if item.attempts is not None:
            return item.attempts
        row = await self._store.delivery(self.name, item.sequence)
        return row.attempts if row is not None else history.NONE

    async def _attempt(self, item: Item) -> None:
        """Sends one delivery once."""
        config = self.config
        try:
            event = item.event or await self._cursor.event(item.sequence)
            attempts = item.attempts or await self._attempts(item)
        except StoreError as error:
            _log.warning("webhook_store_unreadable", endpoint=self.name, error=str(error))
            if self._disabled is None:
                until = self._clock.monotonic() + STORE_RETRY
                self._lanes.park(item, until)
                self._ring(until)
                return
        if self._disabled is not None:  # since this attempt began
            self._lanes.settle(item)
            self._stock.doomed.append(item)
            self._wake.set()
            return
        if event is None:
            self._bury_one(item, history.append(attempts, history.end(self._clock.now(), EXPIRED)), EXPIRED)
            self._lanes.settle(item)
            return
        answer = await self._client.send(event)
        self._settle(item, answer, attempts, config)

    def _ring(self, until: float) -> None:
        if not self._stopped:
            self._alarm.set(until)

    def _settle(self, item: Item, answer: Answer, attempts: bytes, config: EndpointConfig) -> None:
        """Draws the consequences of an attempt."""
        counter = self._outcomes.get(answer.outcome)
        if counter is None:
            counter = self._outcomes[answer.outcome] = self._metrics.delivery_attempts.labels(self.name, answer.outcome)
        counter.inc()
        self._metrics.delivery_duration.observe(answer.duration)
        item.tries += 1
        attempts = history.append(
            attempts, history.attempt(answer.at, answer.status, answer.duration, answer.error, answer.response)
        )
        verdict = schedule.judge(
            answer.status, item.tries, config.retry_schedule, answer.retry_after, self._rng.random()
        )
        self._health.observe(item.lane, answer)
        if verdict.fate is Fate.DELIVERED:
            self._stock.enter(item, "delivered", attempts)
            self._lanes.settle(item)
            return
        if verdict.fate is Fate.RETRY and self._disabled is None:
            until = self._clock.monotonic() + verdict.delay
            self._stock.park(item, until, attempts, self._clock.now() + verdict.delay)
            self._ring(until)
        else:
            self._bury_one(item, attempts, answer.error)
            self._lanes.settle(item)
        if verdict.fate is Fate.DISABLE:
            self._disable(GONE)
        elif config.disable_after and self._health.fails_for() >= config.disable_after:
            self._disable(f"every attempt failed for {config.disable_after:g} seconds")

    # Results

    def _bury_one(self, item: Item, attempts: bytes, error: str | None) -> None:
        """A delivery is a dead letter."""
        self._stock.enter(item, "dead", attempts)
        self._health.buried(f"{self.name}.{item.sequence}", error)

    # Disabled

    def _disable(self, why: str) -> None:
        """Nothing more is sent, what is pending becomes a dead letter."""
        if self._disabled is None:
            self._disabled = self.record.disabled = why
            since = self.record.failing_since
            moment = None if since is None else rfc3339.render(since)
            data = {"by": SELF, "reason": why, "failing_since": moment, "last_error": self._health.error}
            self.books.note(DISABLED_TYPE, data)
            _log.warning("webhook_endpoint_disabled", endpoint=self.name, reason=why)
            self._doom()

    def _doom(self) -> None:
        """Puts aside what is pending, for `_bury`. What the log has and memory has not is pending as well."""
        self._enabler = None
        if self.record.doomed_upto is None:
            self.record.doomed_upto = self._store.head
            self.books.touch()
        if self.record.replay is not None or self.record.revival is not None:
            self.record.replay = self.record.revival = None
            self.books.touch()
        self._stock.doomed += self._stock.drop()
        self._wake.set()

    async def told(self, notice: Notice, event: LogEvent | None) -> None:
        """The log has a notice of the record. What it took in before it said that the endpoint is disabled was pending.

        Args:
            event: the notice in the log; None: it has had it since before a crash.

        Raises:
            StoreError: the store cannot be read.
        """
        upto = self.record.doomed_upto
        if notice.type == DISABLED_TYPE and upto is not None:
            event = event or await self._cursor.notice(notice, upto)
            if event is not None and self.record.doomed_upto is not None:
                self.record.doomed_upto = max(upto, event.sequence - 1)
        self.books.told(notice)
        self._wake.set()

    async def _bury(self) -> None:
        """Makes dead letters of what was pending, then lets the position follow the log."""
        while self._has_room():
            position, upto = self.books.ledger.read, self.record.doomed_upto or 0
            if self._stock.doomed:
                await self._give_up(self._stock.doomed[0])
                self._stock.doomed.popleft()
            elif position < upto:
                page = await self._cursor.page(self.books.ledger, self._lanes.get, None, upto)
                for item in page.items:
                    await self._give_up(item)
                self.books.reach(page.reached)
            elif any(notice.type == DISABLED_TYPE for notice in self.record.notices):
                break  # how far the log goes before it is known soon: see `told`
            else:
                self.books.reach(max(position, self._cursor.end))
                if self._enabler is not None:
                    self._reenable(self._enabler)
                break

    async def _give_up(self, item: Item) -> None:
        attempts = await self._attempts(item)
        self._bury_one(item, history.append(attempts, history.end(self._clock.now(), DISABLED)), DISABLED)

    def _reenable(self, by: str) -> None:
        self._disabled = self.record.disabled = self.record.doomed_upto = self._enabler = None
        self._health.reset()
        self.books.note("webhook.enabled", {"by": by})
        _log.info("webhook_endpoint_enabled", endpoint=self.name)
        self._enabled.set()
