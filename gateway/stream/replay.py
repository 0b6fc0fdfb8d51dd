"""Replay: brings a subscription from where it starts to the end of the log, and then makes it live.

Position first, then states, then the events behind the position: nothing is missing in between and nothing comes twice. It
reads page by page and waits for the connection to take what it was given. Must not know drivers or tokens.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.stream import snapshot, views
from gateway.stream.resume import Outcome
from gateway.stream.ring import Entry
from schemas.rfc3339 import render

if TYPE_CHECKING:
    from gateway.stream.connection import Subscription
    from schemas.filter import Filter

#: Events and states that are read from the store, and entries of the ring that are looked at, in one go.
_READ, _STATES, _LOOK = 256, 256, 512


async def catch_up(subscription: Subscription, outcome: Outcome, start: int) -> None:
    """Sends `stream.subscribed`, what the outcome stands for, and `stream.synced`; then the subscription is live.

    Should retention overtake a replay, it starts over with `reset`.

    Raises:
        gateway.errors.StoreError: the log cannot be read.
    """
    connection = subscription.connection
    while True:
        if outcome in ("snapshot", "reset"):
            barrier = await _send_states(subscription, outcome)
        else:
            barrier = subscription.start = subscription.position = start
            connection.tell_subscribed(subscription.id, outcome, start)
        # The states, or the client, may know of events that are committed and on their way to the hub.
        await connection.hub.reach(barrier)
        if await _send_events(subscription):
            return
        outcome = "reset"


def _conditions(subscription: Subscription) -> list[Filter]:
    return [item for item in (subscription.wanted, subscription.connection.bounds) if not item.is_empty]


async def _send_states(subscription: Subscription, outcome: Outcome) -> int:
    """Sends current states; returns the position that the newest of them is valid at.

    Pages after the first are read later: what they include beyond the position of the first is remembered in `ahead`, so
    that the replay behind that position leaves it out.
    """
    connection = subscription.connection
    around = connection.around
    cursor: str | None = None
    barrier: int | None = None
    while True:
        async with around.reads:
            page = await around.store.snapshot(
                _conditions(subscription), unfinished=not subscription.wanted.task, limit=_STATES, after=cursor
            )
        if barrier is None:
            subscription.ahead = {}
            subscription.start = subscription.position = page.sequence
            connection.tell_subscribed(subscription.id, outcome, page.sequence)
        barrier = page.sequence
        for row in page.tasks:
            await connection.room()
            if not subscription.accepts(row):
                continue  # what the holder may see has changed since the page was read
            data = around.snapshot_data(row)
            if connection.form.redacts:
                data = views.redact_data(data)
            body = snapshot.event(
                row.source, row.id, data,
                id=connection.next_id(), time=render(around.clock.now()), sequence=page.sequence,
            )  # fmt: skip
            connection.hub.put(connection, connection.framing.event(body, "task.snapshot", None, None))
            if row.sequence > subscription.start:
                subscription.ahead[row.task] = row.sequence
        cursor = page.next
        if cursor is None:
            return barrier


async def _send_events(subscription: Subscription) -> bool:
    """Sends what lies between the subscription's position and the end of the log, then makes it live.

    False where retention has removed a part of it meanwhile.
    """
    connection = subscription.connection
    hub = connection.hub
    while True:
        await connection.room()
        if subscription.position >= hub.head:
            subscription.attach()
            connection.tell_synced(subscription.id, hub.head)
            return True
        head = hub.head
        if subscription.position >= hub.ring.floor:
            entries = hub.ring.after(subscription.position, _LOOK)
            reached = head if len(entries) < _LOOK else entries[-1].event.sequence
        else:
            async with connection.around.reads:
                page = await connection.around.store.read(
                    subscription.position, _READ, _conditions(subscription), upto=head
                )
            if connection.around.store.floor > subscription.position:
                return False
            entries, reached = [Entry(event) for event in page.events], page.reached
        for entry in entries:
            if not connection.has_room:
                await connection.room()
            subscription.deliver(entry)
            subscription.position = entry.event.sequence
        subscription.position = max(subscription.position, reached)
        await asyncio.sleep(0)
