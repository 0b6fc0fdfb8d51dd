"""One timer on the injected clock, for the earliest of the times it was set to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.clock import Clock


class Alarm:
    """Calls back once, at the earliest of the times it was set to since it last did.

    Args:
        clock: sleeps.
        call: called when it is time.
        name: of its task.
    """

    def __init__(self, clock: Clock, call: Callable[[], None], name: str) -> None:
        self._clock, self._call, self._name = clock, call, name
        self._at: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def set(self, at: float) -> None:
        """Sets it, in seconds of the monotonic clock; a later time than one that is set already changes nothing."""
        if self._at is not None and self._at <= at:
            return
        self.cancel()
        self._at = at
        self._task = asyncio.create_task(self._ring(at), name=self._name)
        self._ending.add(self._task)
        self._task.add_done_callback(self._ending.discard)

    def cancel(self) -> None:
        """Forgets the time."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._at = None

    async def close(self) -> None:
        """Forgets the time and waits until nothing is left of it."""
        self.cancel()
        if self._ending:
            await asyncio.wait(set(self._ending))

    async def _ring(self, at: float) -> None:
        await self._clock.sleep(max(0.0, at - self._clock.monotonic()))
        self._task = self._at = None
        self._call()
