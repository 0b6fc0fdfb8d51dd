"""Hub: hands each committed event to the connections that want it, and writes once per connection and turn of the loop.

Everything happens on the event loop and nothing here waits: `publish` notes what groups of connections are owed, one callback
at the end of the turn writes it: at once to those with nothing unsent, through their lanes to the others. Whatever concerns
one connection alone first puts what is owed into lanes, so that the order of the whole is kept. There is no task, queue or
timer per connection; one shared timer looks after those whose peer does not keep up. Must not know how a connection speaks
(WebSocket, SSE), nor tokens.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Protocol

from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.store.api import LogEvent, Store
from gateway.stream.framing import Form
from gateway.stream.index import Group, Index
from gateway.stream.lane import Lane
from gateway.stream.outlet import Outlet
from gateway.stream.ring import Entry, Ring, sequence_of
from schemas.filter import Filter

#: Seconds between two looks at connections with a backlog.
_POLL = 0.01
#: Where so many connections are written to, which takes some milliseconds, events that follow within one go out with it.
_MANY, _GATHER = 500, 0.001


class Member(Protocol):
    """What the hub needs of a connection."""

    lane: Lane
    outlet: Outlet
    #: see `gateway.stream.outlet.descriptor`
    descriptor: int
    form: Form
    #: set by the hub: the connection is in its list for this turn
    dirty: bool
    #: set by the hub: how many live subscriptions it has
    live: int
    #: set by the hub: bytes that may be written at once, past the lane; 0 while the lane may hold something
    headroom: int
    #: somebody waits for the lane to have room
    waiting: bool

    def __hash__(self) -> int: ...
    def conflated(self, task: str, skipped: int, sequence: int) -> bytes:
        """The notice that progress of a task was folded."""

    def on_lost(self) -> None:
        """The peer is gone."""

    def on_overflow(self) -> None:
        """More is unsent than the connection may have."""

    def on_room(self) -> None:
        """The lane has room again."""


class Hub:
    """The recent log and everybody who listens to it.

    Attributes:
        index: who wants what.
        ring: recent events.
        head: position up to which events have been handed to those who are live.
    """

    def __init__(self, store: Store, clock: Clock, metrics: Metrics, *, ring_bytes: int = 32 * 1024 * 1024) -> None:
        self.index: Index[Member] = Index()
        self.ring = Ring(ring_bytes, 0)
        self.head = 0
        self._ring_bytes = ring_bytes
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owed: dict[Group[Member], list[Entry]] = {}
        self._dirty: list[Member] = []
        self._backlogged: set[Member] = set()
        self._flush_due = False
        self._flushing: asyncio.Handle | None = None
        self._poll: asyncio.TimerHandle | None = None
        self._reached: list[tuple[int, asyncio.Future[None]]] = []
        self._received: float | None = None
        self._sent = 0

    def start(self) -> None:
        """Begins at the end of the log, which must be open; on the running loop."""
        self._loop = asyncio.get_running_loop()
        self.head = self._store.head
        self.ring = Ring(self._ring_bytes, self.head)

    def close(self) -> None:
        """Stops the shared timers. Idempotent."""
        if self._flushing is not None:
            self._flushing.cancel()
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        for _, future in self._reached:
            future.cancel()
        self._reached.clear()

    # --- events -------------------------------------------------------------------------------------------------------

    def publish(self, events: Sequence[LogEvent]) -> None:
        """Takes the next committed events, in the order of the log. Called once per commit, on the loop."""
        if not events:
            return
        for entry in self.ring.extend(events):
            for group in self.index.matching(entry.event):
                entry.frame(group.form)  # a failure here is one of taking events in, later it would end the stream
                self._owed.setdefault(group, []).append(entry)
        self.ring.settle()
        self.head = events[-1].sequence
        oldest = events[0].received
        self._received = oldest if self._received is None else min(self._received, oldest)
        self._schedule()
        self._tell_reached()

    def join(self, member: Member, wanted: Filter, bounds: Filter, form: Form) -> Group[Member]:
        """Hands the member what matches and is published from now on."""
        self.hand_out()
        member.live += 1
        self.touch(member)
        return self.index.join(member, wanted, bounds, form)

    def leave(self, member: Member, group: Group[Member]) -> None:
        """Ends what `join` began; what was published before is in the member's lane."""
        self.hand_out()
        member.live -= 1
        self.touch(member)
        self.index.leave(member, group)

    def hand_out(self) -> None:
        """Puts what groups are owed into lanes: from here on members may be dealt with one by one."""
        if self._owed:
            several: dict[Member, set[Entry]] = {}
            owed, self._owed = self._owed, {}
            for group, wanted in owed.items():
                for member in group.members:
                    self._queue(member, wanted, several)
            self._queue_several(several)

    def _queue(self, member: Member, wanted: list[Entry], several: dict[Member, set[Entry]]) -> None:
        """Puts events of a group into a lane; where another group may have the same ones, they go to `several`."""
        if member.live > 1:
            several.setdefault(member, set()).update(wanted)
        else:
            for entry in wanted:
                self.offer(member, entry)

    def _queue_several(self, several: dict[Member, set[Entry]]) -> None:
        for member, entries in several.items():
            for entry in sorted(entries, key=sequence_of):
                self.offer(member, entry)

    def offer(self, member: Member, entry: Entry) -> None:
        """Puts one event into one lane."""
        self.hand_out()
        if member.lane.offer(entry.frame(member.form), entry.event):
            self._metrics.stream_conflated.inc()
        self.touch(member)

    def put(self, member: Member, frame: bytes) -> None:
        """Puts a notice or a snapshot event into one lane."""
        self.hand_out()
        member.lane.put(frame)
        self.touch(member)

    def touch(self, member: Member) -> None:
        """Has the lane written at the end of this turn."""
        member.headroom = 0
        if not member.dirty:
            member.dirty = True
            self._dirty.append(member)
        self._schedule()

    async def reach(self, sequence: int) -> None:
        """Returns once events up to a position of the log have been handed out."""
        if self.head >= sequence:
            return
        future = self._running().create_future()
        self._reached.append((sequence, future))
        await future

    def _tell_reached(self) -> None:
        if self._reached:
            for sequence, future in self._reached:
                if sequence <= self.head and not future.done():
                    future.set_result(None)
            self._reached = [item for item in self._reached if not item[1].done()]

    # --- writing ------------------------------------------------------------------------------------------------------

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the hub is not started")
        return self._loop

    def _schedule(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            loop = self._running()
            many = sum(len(group.members) for group in self._owed) >= _MANY
            self._flushing = loop.call_later(_GATHER, self._flush) if many else loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Writes what this turn of the loop has brought, one write a connection."""
        self._flush_due = False
        self._broadcast()
        members, self._dirty = self._dirty, []
        for member in members:
            member.dirty = False
            self.flush(member)
        self._metrics.stream_sent.inc(self._sent)
        self._sent = 0
        if self._received is not None:
            self._metrics.relay_latency.observe(max(0.0, self._clock.now() - self._received))
            self._received = None

    def _broadcast(self) -> None:
        """Writes what groups are owed to those who keep up, which is nearly all; the others get it through their lanes."""
        owed, self._owed = self._owed, {}
        several: dict[Member, set[Entry]] = {}
        lost: list[Member] = []
        for group, wanted in owed.items():
            frames = [entry.frame(group.form) for entry in wanted]
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            size, written = len(data), 0
            for member in group.members:
                outlet = member.outlet
                if size > member.headroom or outlet.get_write_buffer_size() or outlet.is_closing():
                    self._queue(member, wanted, several)
                    continue
                taken = 0
                try:
                    if member.descriptor >= 0:
                        taken = os.write(member.descriptor, data)
                except BlockingIOError:
                    pass  # not even a part: the transport waits until there is room
                except OSError:
                    lost.append(member)
                    continue
                written += 1
                if taken < size and not _written(outlet, data[taken:]):
                    lost.append(member)
            self._sent += written * len(frames)
        self._queue_several(several)
        for member in lost:
            member.on_lost()

    def flush(self, member: Member) -> None:
        """Writes what there is room for, and judges whether the peer keeps up."""
        lane, outlet = member.lane, member.outlet
        if outlet.is_closing():
            member.on_lost()
            return
        before = outlet.get_write_buffer_size()
        try:
            if lane.direct and before < lane.window:
                outlet.write(lane.take_direct())
            if lane.waits:
                while lane.waits and not lane.direct and outlet.get_write_buffer_size() < lane.window:
                    outlet.write(lane.take(lane.window, member.conflated))
                lane.buffered = outlet.get_write_buffer_size()
            else:
                lane.buffered = before
        except (OSError, RuntimeError):  # uvloop raises RuntimeError for a transport that closed a moment ago
            member.on_lost()
            return
        if lane.sent:
            self._sent += lane.sent
            lane.sent = 0
        if lane.size or member.waiting or lane.buffered:
            self._judge(member, before)
        else:
            lane.largest = 0
            if member.live == 1:
                member.headroom = lane.window

    def _judge(self, member: Member, before: int) -> None:
        lane = member.lane
        if lane.unsent > lane.limit + lane.largest:
            # A burst may exceed the limit for a moment although its peer reads: what counts is that the operating system
            # had not even taken what was written in an earlier turn.
            if before:
                self._backlogged.discard(member)
                member.on_overflow()
                return
            self.touch(member)
        if member.waiting and lane.unsent < lane.window:
            member.on_room()
        if lane.size or member.waiting or lane.buffered:
            self._backlogged.add(member)
            if self._poll is None:
                self._poll = self._running().call_later(_POLL, self._look)
        else:
            self._backlogged.discard(member)

    def _look(self) -> None:
        """Looks at those whose peer did not keep up: has it taken something meanwhile?"""
        self._poll = None
        members, self._backlogged = self._backlogged, set()
        for member in members:
            if not member.dirty:
                self.flush(member)
        self._metrics.stream_sent.inc(self._sent)
        self._sent = 0

    def forget(self, member: Member) -> None:
        """Drops a connection that has ended."""
        self._backlogged.discard(member)

    @property
    def backlogged(self) -> int:
        """Connections whose peer does not keep up at the moment."""
        return len(self._backlogged)


def _written(outlet: Outlet, data: bytes) -> bool:
    """Hands bytes to an outlet; False where its peer is gone."""
    try:
        outlet.write(data)
    except (OSError, RuntimeError):  # uvloop raises RuntimeError for a transport that closed a moment ago
        return False
    return True
