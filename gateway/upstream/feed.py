"""One stream, kept connected for as long as it makes sense.

Owns the life of a stream across its connections: attempts and backoff, what is remembered about it, what is said when a
connection comes and goes, and whether something was missed in between. Must not know what a frame says, or which other
streams the source has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import structlog

from adapters.api import Resume, Session, Stream, Verdict
from gateway.upstream.backoff import Backoff
from gateway.upstream.connection import Connection
from gateway.upstream.context import FACT, Context, Memory
from gateway.upstream.dial import dial
from gateway.upstream.reader import Ending, Reader
from gateway.upstream.repair import Repair, gap_due
from schemas import rfc3339

log = structlog.get_logger()

State = Literal["connecting", "live", "retrying", "finished", "failed"]

_AFTER: dict[Verdict, State] = {
    "retry": "retrying", "slow_down": "retrying", "refused": "failed", "finished": "finished",
}  # fmt: skip

_STOPPED = Ending(verdict="retry", error="the gateway has closed the connection")


class Feed:
    """Keeps one stream connected.

    Attributes:
        stream: which.
        configured: it is in the configuration, not a watch that was asked for at run time.
        state: `retrying` lasts until a connection is open again.
        since: when it came into that state, seconds since 1970, UTC.
        error: why it is retrying or failed, in words.
        code: close code, HTTP status or the upstream's own code that belongs to `error`.
        reconnects: attempts after the first.
        gaps: notices of a gap.
        memory: what is kept across restarts.
    """

    def __init__(
        self,
        context: Context,
        stream: Stream,
        changed: Callable[[], None],
        *,
        configured: bool,
        memory: Memory,
        cursor: dict[str, Any] | None,
    ) -> None:
        """`changed` is called after every change of `state`; `memory` and `cursor` come from an earlier process."""
        self._context = context
        self._changed = changed
        self._cursor = cursor
        self._backoff = Backoff(context.config.reconnect.initial, context.config.reconnect.max)
        self._reader: Reader | None = None
        self._last_frame_at: float | None = None
        self._known_down = False
        self._announced = False
        self.stream = stream
        self.configured = configured
        self.memory = memory
        self.state: State = "finished" if memory.finished else "connecting"
        self.since = context.clock.now()
        self.error: str | None = None
        self.code: str | None = None
        self.reconnects = 0
        self.gaps = 0

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self.state in ("finished", "failed")

    @property
    def last_frame_at(self) -> float | None:
        """When the last data frame was read, seconds since 1970, UTC."""
        return (self._reader and self._reader.last_frame_at) or self._last_frame_at

    async def run(self) -> Ending:
        """Keeps the stream connected until it is finished or refused."""
        context = self._context
        while True:
            ending = await self._attempt()
            if ending.verdict == "finished":
                self._move("finished")
                log.info("stream_finished", source=context.name, endpoint=self.stream.path)
                return ending
            if ending.verdict == "refused":
                self._move("failed", ending)
                log.error(
                    "stream_refused",
                    source=context.name,
                    endpoint=self.stream.path,
                    error=ending.error,
                    code=ending.code,
                )
                return ending
            delay = self._backoff.next_delay(ending.verdict, context.rng.random(), ending.retry_after)
            self._down(ending, delay)
            await context.clock.sleep(delay)
            self.reconnects += 1
            context.reconnects.inc()

    async def remember(self) -> None:
        """Stores what is kept across restarts."""
        value = msgspec.to_builtins(self.memory)
        await self._context.intake.remember(self._context.name, FACT + self.stream.key, value)

    async def forget(self) -> None:
        """Removes what is kept, the session's cursor included."""
        for key in (FACT + self.stream.key, self.stream.key):
            await self._context.intake.remember(self._context.name, key, None)

    # --- one attempt ---

    async def _attempt(self) -> Ending:
        try:
            await self._context.intake.flush()
            if await self._is_finished():
                return Ending(verdict="finished")
            opened = await dial(self._context, self.stream, await self._resume())
            if isinstance(opened, Ending):
                return opened
            return await self._attend(*opened)
        except Exception as error:
            # a bug, of this program or of an adapter, is this stream's misfortune alone
            self._context.report_bug(self.stream, "connection", error)
            return _internal(error)

    async def _is_finished(self) -> bool:
        if self.stream.task_id is None:
            return False
        rows = await self._context.store.tasks(self._context.name, [self.stream.task_id])
        return any(row.finished for row in rows)

    async def _resume(self) -> Resume:
        context, memory = self._context, self.memory
        reach = await context.store.reach(context.name, None if self.stream.whole_source else self.stream.key)
        return Resume(
            first=memory.connected_at is None,
            now=rfc3339.render(context.clock.now()),
            connected_at=None if memory.connected_at is None else rfc3339.render(memory.connected_at),
            alive_at=None if memory.alive_at is None else rfc3339.render(memory.alive_at),
            cursor=self._cursor,
            oldest_unfinished=reach.oldest_unfinished,
            newest=reach.newest,
        )

    async def _attend(self, connection: Connection, session: Session) -> Ending:
        """Everything between a handshake and its close."""
        context, stream, memory = self._context, self.stream, self.memory
        started, now = context.clock.monotonic(), context.clock.now()
        reader = self._reader = Reader(context, stream, connection, session)
        carried = memory.missing_from is not None
        if not carried:
            memory.missing_from = memory.alive_at
        memory.connected_at = memory.connected_at or now
        memory.alive_at = now
        steward: asyncio.Task[None] | None = None
        ending = _STOPPED
        context.intake.attached(context.name, stream.key, True)
        self._move("live")
        try:
            await context.notice("source.connected", stream)
            await self.remember()
            steward = asyncio.create_task(
                self._look_after(reader, now, carried), name=f"steward {context.name} {stream.path}"
            )
            ending = await reader.run()
        except Exception as error:
            ending = _internal(error)
            raise
        finally:
            context.intake.attached(context.name, stream.key, False)
            memory.alive_at = max(connection.heard_at(), now)
            self._cursor = reader.cursor or self._cursor
            self._last_frame_at = self.last_frame_at
            self._reader = None
            if self._backoff.was_well(context.clock.monotonic() - started, useful=reader.useful):
                self._backoff.reset()
            self._move(_AFTER[ending.verdict], ending)
            try:
                if steward is not None:
                    steward.cancel()
                    await asyncio.wait({steward})
            finally:
                await connection.close()
            if ending.verdict == "finished" and stream.gap == "always" and memory.missing_from is not None:
                # the task's state is known to the end; what happened on the way while nobody listened is not
                await self._tell_gap(memory.missing_from, now, True, [], reader.missed)
                memory.missing_from = None
            await context.notice("source.disconnected", stream, error=ending.error, code=ending.code)
            await self.remember()
        if ending.verdict == "finished":
            await context.intake.flush()
        return ending

    # --- beside the read loop ---

    async def _look_after(self, reader: Reader, connected: float, carried: bool) -> None:
        """Says that all is well once it is, repairs what was missed, and notes from time to time that the stream is up."""
        context = self._context
        try:
            await context.clock.sleep(context.limits.grace)
            self._back()
            await self._repair(reader, connected, carried)
            reader.forget_mentions()
            while True:
                await context.clock.sleep(context.limits.checkpoint)
                self.memory.alive_at = max(reader.connection.heard_at(), connected)
                await self.remember()
        except Exception as error:
            # the connection itself is well: what could not be repaired stays noted as missing until the next connect
            context.report_bug(self.stream, "steward", error)

    async def _repair(self, reader: Reader, connected: float, carried: bool) -> None:
        stream, memory = self.stream, self.memory
        if stream.settle is not None:
            await self._settle(reader, stream.settle)
        if memory.missing_from is not None and not carried and reader.missed == 0:
            memory.missing_from = None
            await self.remember()
            return
        repair = Repair(self._context, stream, reader, memory.missing_from)
        complete = True
        try:
            await repair.run()
        except Exception as error:
            # what is still open then stays so, and is told
            complete = False
            self._context.report_bug(stream, "repair", error)
        unverified = repair.unverified
        if memory.missing_from is not None:
            if gap_due(stream, complete, unverified):
                recovered = complete and stream.settle is not None and not unverified
                await self._tell_gap(memory.missing_from, connected, recovered, unverified, reader.missed)
            memory.missing_from = None
            await self.remember()
        if repair.finished:
            await reader.finish()

    async def _settle(self, reader: Reader, quiet: float) -> None:
        """Waits until no frame has come for `quiet` seconds, ten times as long at most."""
        clock, liveness = self._context.clock, reader.connection.liveness
        latest = clock.monotonic() + 10 * quiet
        while (left := min(liveness.data_at + quiet, latest) - clock.monotonic()) > 0:
            await clock.sleep(left)
        await reader.settled()

    async def _tell_gap(
        self, start: float, end: float, recovered: bool, unverified: list[str], missed: int | None
    ) -> None:
        limit = self._context.limits.named
        self.gaps += 1
        log.warning(
            "source_gap",
            source=self._context.name,
            endpoint=self.stream.path,
            seconds=round(end - start, 3),
            recovered=recovered,
            unverified=len(unverified),
        )
        await self._context.notice(
            "source.gap",
            self.stream,
            **{"from": rfc3339.render(start)},
            to=rfc3339.render(end),
            recovered=recovered,
            unverified=unverified[:limit],
            unverified_total=len(unverified) if len(unverified) > limit else None,
            missed=missed,
        )

    # --- states ---

    def _move(self, state: State, ending: Ending | None = None) -> None:
        self.error = ending.error if ending else None
        self.code = ending.code if ending else None
        if state != self.state:
            self.state, self.since = state, self._context.clock.now()
            self._changed()

    def _down(self, ending: Ending, delay: float) -> None:
        self._move("retrying", ending)
        if not self._known_down:
            self._known_down = True
            log.warning(
                "stream_down",
                source=self._context.name,
                endpoint=self.stream.path,
                error=ending.error,
                code=ending.code,
                retry_in=round(delay, 3),
            )

    def _back(self) -> None:
        if self._known_down or not self._announced:
            log.info("stream_up", source=self._context.name, endpoint=self.stream.path, reconnects=self.reconnects)
        self._known_down, self._announced = False, True


def _internal(error: Exception) -> Ending:
    return Ending(verdict="retry", error=f"internal error: {type(error).__name__}")
