"""Connection: one client, its subscriptions, and what is said to it beside the events.

The same for WebSocket and SSE: a driver gives it an outlet and a framing, and is told by a callback when it ends. Must not
know HTTP, nor how tokens are checked.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from gateway.access import Grant
from gateway.clock import Clock
from gateway.store.api import Store, TaskRow
from gateway.stream import replay, resume
from gateway.stream.framing import PING, Form, Framing, form_of
from gateway.stream.hub import Hub, Member
from gateway.stream.index import Group, predicate
from gateway.stream.lane import Lane
from gateway.stream.outlet import Outlet, descriptor
from gateway.stream.ring import Entry
from gateway.stream.settings import StreamSettings
from schemas import stream
from schemas.filter import Filter
from schemas.rfc3339 import render

log = structlog.get_logger()

#: Shared by everything that has none; never written to.
_NOTHING: dict[str, int] = {}
_EVERYTHING = Filter()


@dataclass(slots=True)
class Surroundings:
    """What all connections share. `reads` bounds how many of them read the store at once."""

    hub: Hub
    store: Store
    clock: Clock
    rng: random.Random
    snapshot_data: Callable[[TaskRow], bytes]
    settings: StreamSettings
    reads: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.reads = asyncio.Semaphore(self.settings.reads)


class Subscription:
    """A cursor on the log: everything behind `start` that matches, sent up to `position`, or for ever once it is live.

    Attributes:
        matches: whether an event is for it.
        accepts: the same for current states, which have no type.
        ahead: tasks whose snapshot was newer than `start`, with the position of the last event that it includes.
    """

    __slots__ = ("accepts", "ahead", "connection", "group", "id", "matches", "position", "start", "task", "wanted")

    def __init__(self, connection: Connection, id: str, wanted: Filter) -> None:
        self.connection = connection
        self.id = id
        self.wanted = wanted
        self.start = self.position = 0
        self.ahead: dict[str, int] = _NOTHING
        self.group: Group[Member] | None = None
        self.task: asyncio.Task[None] | None = None
        self._judge()

    def _judge(self) -> None:
        connection = self.connection
        self.matches = predicate(self.wanted, connection.bounds, redacts=connection.form.redacts)
        self.accepts = predicate(self.wanted.without_type(), connection.bounds, redacts=connection.form.redacts)

    def attach(self) -> None:
        """From here on the hub hands events over; in the same turn of the loop in which everything before was sent."""
        connection = self.connection
        self.group = connection.hub.join(connection, self.wanted, connection.bounds, connection.form)

    def detach(self) -> asyncio.Task[None] | None:
        """Stops what brings events, live or replayed. Returns the replay that has yet to end."""
        if self.group is not None:
            self.connection.hub.leave(self.connection, self.group)
            self.group = None
        # Not kept: the error that it ends with knows its frames, and these know the subscription. Such a circle is garbage
        # that no reference count frees.
        task, self.task = self.task, None
        if task is None or task.done():
            return None
        task.cancel()
        return task

    def regroup(self) -> None:
        """Follows a change of what the connection may see."""
        self._judge()
        connection = self.connection
        if self.group is not None:
            connection.hub.leave(connection, self.group)
            self.group = connection.hub.join(connection, self.wanted, connection.bounds, connection.form)

    def covers(self, entry: Entry) -> bool:
        """Whether the event was sent because of this subscription."""
        event = entry.event
        reached = self.connection.hub.head if self.group is not None else self.position
        if not self.start < event.sequence <= reached or not self.matches(event):
            return False
        return event.task is None or self.ahead.get(event.task, 0) < event.sequence

    def deliver(self, entry: Entry) -> None:
        """Sends an event of a replay, unless it does not match, the snapshot included it, or it was sent already."""
        event = entry.event
        if not self.matches(event) or (event.task is not None and self.ahead.get(event.task, 0) >= event.sequence):
            return
        if len(self.connection.subscriptions) > 1 and any(
            other.covers(entry) for other in self.connection.subscriptions.values() if other is not self
        ):
            return
        self.connection.hub.offer(self.connection, entry)


class Connection:
    """One client. See `gateway.stream.hub.Member` for what the hub uses.

    Attributes:
        session: name of the connection.
        grant: None until a token was presented.
        ending: why the gateway ended it; None while it is open, or where the peer went away.
        ended: nothing is sent any more.
        heard: monotonic time of the last sign of life.
        address: network address of the peer.
    """

    __slots__ = (
        "_beat_due", "_interval", "_notices", "_on_end", "_room", "_stalled", "_stopping", "address", "around", "descriptor",
        "dirty", "ended", "ending", "form", "framing", "grant", "headroom", "heard", "hub", "lane", "live", "opened", "outlet",
        "session", "subscriptions", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        around: Surroundings,
        framing: Framing,
        outlet: Outlet,
        address: str,
        on_end: Callable[[Connection], None],
    ) -> None:
        self.around = around
        self.hub = around.hub
        self.framing = framing
        self.form: Form = form_of(framing, redacts=True)
        self.outlet = outlet
        self.descriptor = descriptor(outlet)
        self.address = address
        self.session = f"{around.rng.getrandbits(64):016x}"
        self.lane = Lane(around.settings.buffer)
        self.subscriptions: dict[str, Subscription] = {}
        self.grant: Grant | None = None
        self.dirty = self.waiting = self.ended = False
        self.live = self.headroom = 0
        self.ending: stream.Close | None = None
        self.heard = self.opened = around.clock.monotonic()
        self._on_end = on_end
        self._room: list[asyncio.Future[None]] = []
        self._notices = 0
        self._stalled = (0, self.opened)
        self._stopping: list[asyncio.Task[None]] = []
        self._interval = around.settings.ping if framing.beat is PING else around.settings.heartbeat
        self._beat_due = self.opened + self._interval

    # --- what it may see ----------------------------------------------------------------------------------------------

    @property
    def bounds(self) -> Filter:
        """What lies outside is never shown."""
        return self.grant.bounds if self.grant is not None else _EVERYTHING

    def entitle(self, grant: Grant) -> None:
        """Sets, or changes, what the connection may see; what is already sent or waiting stays."""
        self.hub.hand_out()
        self.grant = grant
        self.form = form_of(self.framing, redacts=grant.redacts)
        for subscription in self.subscriptions.values():
            subscription.regroup()

    def may(self, wanted: Filter) -> bool:
        """Whether the holder may subscribe to this: the progress view is for named tasks only."""
        return self.grant is not None and may_see(self.grant, wanted)

    # --- what is said -------------------------------------------------------------------------------------------------

    def _body(self, kind: str, data: dict[str, Any], sequence: int) -> bytes:
        time = render(self.around.clock.now())
        return stream.notice(kind, data, id=self.next_id(), sequence=sequence, time=time)

    def next_id(self) -> str:
        """A name that no other event on any connection has."""
        self._notices += 1
        return f"{self.session}-{self._notices}"

    def tell(self, kind: str, data: dict[str, Any], sequence: int | None = None, *, retry: int | None = None) -> None:
        """Sends a notice, valid at a position (default: the end of the log)."""
        at = self.hub.head if sequence is None else sequence
        frame = self.framing.event(self._body(kind, data, at), kind, at if kind == "stream.synced" else None, retry)
        self.hub.put(self, frame)

    def tell_opened(self) -> None:
        """Sends the first message."""
        scope = " ".join(sorted(self.grant.scopes)) if self.grant is not None else ""
        head = self.hub.head
        data = {
            "session": self.session,
            "sequence": stream.position(head),
            "epoch": self.around.store.epoch,
            "scope": scope,
        }
        self.tell("stream.opened", data)

    def tell_error(self, code: str, message: str, field: str | None = None, id: str | None = None) -> None:
        """Sends `stream.error`."""
        self.tell("stream.error", {"code": code, "message": message, "field": field, "id": id})

    def tell_subscribed(self, id: str, outcome: resume.Outcome, sequence: int) -> None:
        """Sends what became of a subscription."""
        self.tell("stream.subscribed", {"id": id, "resume": outcome, "sequence": stream.position(sequence)}, sequence)

    def tell_synced(self, id: str, sequence: int) -> None:
        """Says that everything up to a position was sent."""
        self.tell("stream.synced", {"id": id, "sequence": stream.position(sequence)}, sequence)

    def conflated(self, task: str, skipped: int, sequence: int) -> bytes:
        """See `gateway.stream.hub.Member`."""
        body = self._body("stream.conflated", {"task": task, "skipped": skipped}, sequence)
        return self.framing.event(body, "stream.conflated", None, None)

    # --- subscriptions ------------------------------------------------------------------------------------------------

    def subscribe(self, id: str, wanted: Filter, after: resume.Position | None, *, snapshot: bool) -> None:
        """Adds a subscription; the caller has made sure that the id is free and the holder may."""
        store = self.around.store
        outcome = resume.decide(after, snapshot=snapshot, epoch=store.epoch, floor=store.floor, head=store.head)
        subscription = self.subscriptions[id] = Subscription(self, id, wanted)
        head = self.hub.head
        start = after.sequence if after is not None and outcome == "replayed" else head
        if outcome in ("live", "replayed") and start == head:
            subscription.start = subscription.position = head
            self.tell_subscribed(id, outcome, head)
            subscription.attach()
            self.tell_synced(id, head)
            return
        subscription.task = asyncio.get_running_loop().create_task(
            self._catch_up(subscription, outcome, start), name=f"stream-replay-{self.session}"
        )

    async def _catch_up(self, subscription: Subscription, outcome: resume.Outcome, start: int) -> None:
        try:
            await replay.catch_up(subscription, outcome, start)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.error("stream_replay_failed", session=self.session, error=type(error).__name__, exc_info=True)
            self.end(stream.FAILURE)

    def unsubscribe(self, id: str) -> bool:
        """Ends a subscription; False where there is none of that id."""
        subscription = self.subscriptions.pop(id, None)
        if subscription is None:
            return False
        self._stop(subscription)
        self.tell("stream.unsubscribed", {"id": id})
        return True

    def _stop(self, subscription: Subscription) -> None:
        task = subscription.detach()
        if task is not None:
            self._stopping.append(task)
            task.add_done_callback(self._stopping.remove)

    # --- back-pressure ------------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether a replay may add to what is unsent."""
        return self.lane.unsent < self.lane.window

    async def room(self) -> None:
        """Returns once a replay may add to what is unsent."""
        while not self.has_room:
            future = asyncio.get_running_loop().create_future()
            self._room.append(future)
            self.waiting = True
            self.hub.touch(self)
            await future

    def on_room(self) -> None:
        """See `gateway.stream.hub.Member`."""
        self.waiting = False
        futures, self._room = self._room, []
        for future in futures:
            if not future.done():
                future.set_result(None)

    # --- the end ------------------------------------------------------------------------------------------------------

    def on_overflow(self) -> None:
        """See `gateway.stream.hub.Member`."""
        self.end(stream.TOO_SLOW)

    def on_lost(self) -> None:
        """See `gateway.stream.hub.Member`; also for drivers whose peer went away."""
        if not self.ended:
            self._leave()
            self._on_end(self)

    def end(self, close: stream.Close) -> None:
        """Says why, and has the driver close. Idempotent."""
        if self.ended:
            return
        if close is stream.TOO_SLOW:
            self.lane.clear()
        wait = self._reconnect_after(close)
        self.tell(
            "stream.closing", {"reason": close.reason, "reconnect_after_ms": wait, "code": close.code}, retry=wait
        )
        self.ending = close
        self._leave()
        self._write_rest()
        self._on_end(self)

    def _reconnect_after(self, close: stream.Close) -> int | None:
        longest = round(self.around.settings.reconnect * 1000)
        match close.verdict:
            case stream.Verdict.NEVER:
                return None
            case stream.Verdict.AT_ONCE:
                return 0
            case _:
                return self.around.rng.randint(min(longest, 250), longest)

    def _write_rest(self) -> None:
        """Hands everything down, at most the limit of the lane: nobody will look after it later."""
        lane, outlet = self.lane, self.outlet
        if outlet.is_closing():
            return
        try:
            if lane.direct:
                outlet.write(lane.take_direct())
            if lane.waits:
                outlet.write(lane.take(lane.limit * 2, self.conflated))
        except (OSError, RuntimeError):  # gone meanwhile: the driver finds out the same way
            lane.clear()

    def _leave(self) -> None:
        self.ended = True
        for subscription in self.subscriptions.values():
            self._stop(subscription)
        self.hub.forget(self)
        self.on_room()

    async def settle(self) -> None:
        """Waits for replays to have stopped; after the end."""
        self.subscriptions.clear()
        if self._stopping:
            await asyncio.wait(list(self._stopping))

    # --- time ---------------------------------------------------------------------------------------------------------

    def tick(self, now: float, wall: float) -> None:
        """What has to happen as time passes: `now` monotonic, `wall` seconds since 1970."""
        settings = self.around.settings
        if self.grant is None:
            if now - self.opened > settings.authentication:
                self.end(stream.UNAUTHENTICATED)
                return
        elif self.grant.expires is not None and wall >= self.grant.expires:
            self.end(stream.EXPIRED)
            return
        if self.outlet.is_closing():
            self.on_lost()
            return
        buffered = self.outlet.get_write_buffer_size()
        if not buffered or buffered != self._stalled[0]:
            self._stalled = (buffered, now)
        if now - self._stalled[1] > settings.silence or now - self.heard > settings.silence:
            self.outlet.abort()
            self.on_lost()
            return
        self._beat(now)

    def _beat(self, now: float) -> None:
        """Sends a sign of life where one is due. It may overtake what waits in the lane, never a part of a frame."""
        if now >= self._beat_due and not self.ended:
            self._beat_due = now + self._interval
            try:
                self.outlet.write(self.framing.beat)
            except (OSError, RuntimeError):
                self.on_lost()


def may_see(grant: Grant, wanted: Filter) -> bool:
    """Whether a holder may ask for this: the progress view is for named tasks only (contract, section 3)."""
    return grant.allows("events:read") or (grant.allows("events:read:progress") and bool(wanted.task))
