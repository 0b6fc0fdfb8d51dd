"""After a connect: finding out what became of the tasks that the upstream has not mentioned.

Owns the order of means (listing, lookup, probe) and when to give one up. Runs beside the read loop and never delays a frame;
what the live stream says meanwhile is newer and wins. Must not know how the connection is kept, or who is told of a gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal

from adapters.api import Fault, Finished, Item, Observation, Rejected, Resume, Stream
from gateway.upstream.client import Failure
from gateway.upstream.context import Context
from gateway.upstream.dial import dial
from gateway.upstream.reader import Ending, Reader
from schemas import rfc3339
from schemas.event import FINISHED

#: A listing answered like this, or a lookup (404 aside, which is about one task), says that there is no REST API for us.
NOT_OFFERED = frozenset({401, 403, 404, 405, 501})

#: Seconds by which the upstream's clock may be behind this one. What was known already publishes nothing when seen again.
SKEW = 60.0

#: What came of one attempt to verify a task: it is known now; this means has nothing to say about it; the means itself does
#: not work at the moment; it will not work for any task.
Finding = Literal["verified", "nothing", "trouble", "not offered"]


def gap_due(stream: Stream, complete: bool, unverified: Sequence[str]) -> bool:
    """Whether a reconnect that may have missed something is a `source.gap`: see `adapters.api.Stream.gap`."""
    return stream.gap == "always" or (stream.gap == "unverified" and (bool(unverified) or not complete))


class Repair:
    """One run for one connection.

    Attributes:
        finished: the task of the single-task watch turned out to be finished.
    """

    def __init__(self, context: Context, stream: Stream, reader: Reader, missing_from: float | None) -> None:
        """`missing_from`: on a reconnect, since when something may have been missed (seconds since 1970, UTC)."""
        self._context = context
        self._stream = stream
        self._reader = reader
        self._missing_from = missing_from
        self._pending: dict[str, None] = {}
        self._beyond: list[str] = []
        self.finished = False

    @property
    def unverified(self) -> list[str]:
        """Known unfinished tasks of which nothing could be found out, and the connection has said nothing either."""
        return [task_id for task_id in (*self._pending, *self._beyond) if not self._reader.mentions(task_id)]

    async def run(self) -> None:
        """Verifies what can be verified. Cancelled when the connection drops."""
        unfinished = await self._unfinished()
        limit = self._context.limits.tasks
        self._pending, self._beyond = dict.fromkeys(unfinished[:limit]), unfinished[limit:]
        if self._stream.settle is None:
            return
        if await self._list():
            await self._each(self._look_up)
        await self._each(self._probe)

    async def _unfinished(self) -> list[str]:
        context, stream = self._context, self._stream
        await context.intake.flush()
        reach = await context.store.reach(context.name, None if stream.whole_source else stream.key)
        unfinished = dict.fromkeys(reach.unfinished)
        if stream.task_id is not None and stream.task_id not in unfinished:
            rows = await context.store.tasks(context.name, [stream.task_id])
            if not any(row.finished for row in rows):
                unfinished[stream.task_id] = None
        return [task_id for task_id in unfinished if not self._reader.mentions(task_id)]

    # --- the means ---

    async def _list(self) -> bool:
        """Goes through the listing; returns whether a REST API is offered at all."""
        adapter = self._context.adapter
        more = self._missing_from is not None
        for page in range(self._context.limits.pages):
            if not (more or self._pending):
                break
            request = adapter.listing(self._stream, page)
            if request is None:
                break
            answer = await self._context.ask(request, tries=1)
            if isinstance(answer, Failure):
                # who does not answer here would not answer for each task either, only later
                return answer.status is not None and answer.status not in NOT_OFFERED
            items = adapter.on_listing(answer)
            await self._take(items)
            if not any(isinstance(item, Observation) for item in items):
                break
            more = any(isinstance(item, Observation) and self._is_recent(item) for item in items)
        return True

    async def _look_up(self, task_id: str) -> Finding:
        request = self._context.adapter.lookup(task_id)
        if request is None:
            return "nothing"
        answer = await self._context.ask(request)
        if not isinstance(answer, Failure):
            await self._take(self._context.adapter.on_lookup(task_id, answer))
            return "verified" if task_id not in self._pending else "nothing"
        if answer.status == 404:
            return "nothing"
        return "not offered" if answer.status in NOT_OFFERED else "trouble"

    async def _probe(self, task_id: str) -> Finding:
        probe = self._context.adapter.probe(task_id)
        if probe is None or probe.path == self._stream.path:
            return "nothing"
        try:
            async with asyncio.timeout(self._context.limits.probe):
                return await self._watch_briefly(probe, task_id)
        except TimeoutError:
            return "trouble"

    async def _watch_briefly(self, probe: Stream, task_id: str) -> Finding:
        now = rfc3339.render(self._context.clock.now())
        opened = await dial(self._context, probe, Resume(first=True, now=now))
        if isinstance(opened, Ending):
            return "nothing" if opened.verdict == "refused" else "trouble"
        connection, session = opened
        try:
            while (frame := await connection.receive()) is not None:
                items = session.on_frame(frame)
                await self._take(item for item in items if isinstance(item, Observation) and item.task_id == task_id)
                if task_id not in self._pending:
                    return "verified"
                if any(isinstance(item, Fault | Finished) for item in items):
                    return "nothing"
            return "nothing"
        finally:
            await connection.close()

    # --- what they have in common ---

    async def _each(self, verify: Callable[[str], Awaitable[Finding]]) -> None:
        """Tries one means on every task that is still open, a few at once, until it turns out to be of no use."""
        waiting = iter(list(self._pending))
        troubles = 0
        offered = True

        async def work() -> None:
            nonlocal troubles, offered
            for task_id in waiting:
                if not offered or troubles >= self._context.limits.hopeless:
                    return
                if self._reader.mentions(task_id):
                    continue
                finding = await verify(task_id)
                offered = offered and finding != "not offered"
                troubles = troubles + 1 if finding == "trouble" else 0

        async with asyncio.TaskGroup() as group:
            for number in range(min(self._context.limits.lookups, len(self._pending))):
                group.create_task(work(), name=f"repair {self._context.name} {number}")

    async def _take(self, items: Iterable[Item]) -> None:
        """Hands on what is news: states of tasks that are open here, or that began while nobody was looking."""
        news: list[Observation] = []
        for item in items:
            if isinstance(item, Rejected):
                self._context.reject(self._stream.path, item)
            elif (
                isinstance(item, Observation)
                and not self._reader.mentions(item.task_id)
                and (item.task_id in self._pending or self._is_recent(item))
            ):
                news.append(item)
        if not news:
            return
        await self._context.intake.submit(self._context.name, self._stream, news, received=self._context.clock.now())
        for item in news:
            self._pending.pop(item.task_id, None)
            if item.task_id == self._stream.task_id and item.status in FINISHED:
                self.finished = True

    def _is_recent(self, item: Observation) -> bool:
        """Whether a task was created after the moment since when something may have been missed."""
        if self._missing_from is None or not isinstance(item.created_at, str):
            return False
        return rfc3339.parse(item.created_at) >= self._missing_from - SKEW
