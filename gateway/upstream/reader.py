"""One connection read to its end: frames through the adapter's session into the intake, in order.

Owns what is true of this connection alone: which tasks it has mentioned, what the upstream says about continuity, how far
the cursor is. Must not know what came before the connection or what follows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adapters.api import Continuity, Fault, Observation, Rejected, Session, Stream, Verdict
from gateway.upstream.connection import Connection
from gateway.upstream.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What came of an attempt to keep a stream connected, and what to do now.

    Attributes:
        verdict: whether to come back.
        error: why it ended, in words; None where it ended as it should.
        code: close code, HTTP status or the upstream's own error code.
        retry_after: seconds the upstream asks to wait.
    """

    verdict: Verdict
    error: str | None = None
    code: str | None = None
    retry_after: float | None = None


class Reader:
    """Reads one connection.

    Attributes:
        connection: what is read.
        missed: what the upstream says this connection missed; None: nothing said, or not known.
        cursor: the cursor that was last handed to the intake.
        last_frame_at: when the last data frame was read, in seconds since 1970, UTC.
        useful: the connection has brought something that an upstream in trouble would not: a live observation, or states
            that were complete before it broke off.
    """

    def __init__(self, context: Context, stream: Stream, connection: Connection, session: Session) -> None:
        self._context = context
        self._stream = stream
        self._session = session
        self._over: Ending | None = None
        self._mentioned: set[str] | None = set()
        self._observed = False
        self.connection = connection
        self.missed: int | None = None
        self.cursor: dict[str, Any] | None = None
        self.last_frame_at: float | None = None
        self.useful = False

    async def run(self) -> Ending:
        """Reads until the connection ends or the upstream says that it should."""
        context, session = self._context, self._session
        while (frame := await self.connection.receive()) is not None:
            received = context.clock.now()
            context.frames_received.inc()
            context.last_frame.set(received)
            self.last_frame_at = context.last_frame_at = received
            observations: list[Observation] = []
            ending: Ending | None = None
            for item in session.on_frame(frame):
                match item:
                    case Observation():
                        observations.append(item)
                    case Rejected():
                        context.reject(self._stream.path, item)
                    case Continuity(missed):
                        self.missed = missed
                    case Fault(code, message, verdict):
                        ending = Ending(verdict=verdict, error=context.scrub(message), code=code)
                        break
                    case _:
                        ending = Ending(verdict="finished")
                        break
            await self._submit(observations, received)
            if ending is not None:
                return ending
        return self._over or self._closed()

    async def settled(self) -> None:
        """The states that the upstream sends on connect are complete."""
        self._session.on_settled()
        self.useful = self.useful or self._observed
        await self._submit([], self._context.clock.now())

    def mentions(self, task_id: str) -> bool:
        """Whether this connection has said anything about a task."""
        return self._mentioned is not None and task_id in self._mentioned

    def forget_mentions(self) -> None:
        """Nobody will ask for them any more: a connection may live for months."""
        self._mentioned = None

    async def finish(self) -> None:
        """The task of the single-task watch is finished, as was found out in another way: ends the connection."""
        self._over = Ending(verdict="finished")
        await self.connection.hang_up("the task is finished")

    async def _submit(self, observations: list[Observation], received: float) -> None:
        cursor = self._session.cursor
        if observations:
            self._note(observations)
        elif cursor == self.cursor:
            return
        await self._context.intake.submit(
            self._context.name, self._stream, observations, received=received, cursor=cursor
        )
        self.cursor = cursor

    def _note(self, observations: list[Observation]) -> None:
        self._observed = True
        if not self.useful:
            # states that come right after connect prove little: an upstream that sends them and hangs up is not well
            self.useful = self._stream.settle is None or any(item.origin == "live" for item in observations)
        if self._mentioned is not None:
            self._mentioned.update(item.task_id for item in observations)

    def _closed(self) -> Ending:
        closed = self.connection.closed
        if closed is None:
            raise AssertionError("a connection whose frames have ended is closed")
        verdict: Verdict = "retry"
        if closed.by_upstream:
            verdict = self._session.on_close(closed.code, closed.reason)
        code = None if closed.code is None else str(closed.code)
        error = None if verdict == "finished" else self._context.scrub(closed.error)
        return Ending(verdict=verdict, error=error, code=code)
