"""The tasks that send the deliveries of one endpoint, several at a time, each one after the other.

Owns how many are at work. One that finds nothing to do while more may come within a moment rests instead of ending: a new
task for each delivery would cost more than keeping its books. Must not know what is sent, nor why it may be sent now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.webhooks.lanes import Item


class Workers:
    """The workers of one endpoint.

    Args:
        name: of the tasks.
        attempt: sends a delivery once; what it raises is a fault of the gateway.
        take: a delivery that may be sent now, taken; None: there is none.
        soon: whether `launch` or `release` will be called within a moment.
        broken: called with what `attempt` raised.
    """

    def __init__(
        self,
        name: str,
        attempt: Callable[[Item], Awaitable[None]],
        take: Callable[[], Item | None],
        soon: Callable[[], bool],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._name, self._attempt, self._take, self._soon, self._broken = name, attempt, take, soon, broken
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: list[asyncio.Future[Item | None]] = []
        #: how many deliveries are being sent
        self.busy = 0

    def launch(self) -> None:
        """Begins with all that may be sent now."""
        while (item := self._take()) is not None:
            self.busy += 1
            if self._resting:
                self._resting.pop().set_result(item)
            else:
                task = asyncio.create_task(self._work(item), name=self._name)
                self._tasks.add(task)
                task.add_done_callback(self._ended)

    def release(self) -> None:
        """Nothing more comes within a moment: who rests may end."""
        resting, self._resting = self._resting, []
        for future in resting:
            future.set_result(None)

    async def _work(self, first: Item) -> None:
        item: Item | None = first
        while item is not None:
            try:
                await self._attempt(item)
            finally:
                self.busy -= 1  # in the same step as its result: who looks next must find its place free
            item = self._take()
            if item is not None:
                self.busy += 1
            elif self._soon():
                rest: asyncio.Future[Item | None] = asyncio.get_running_loop().create_future()
                self._resting.append(rest)
                item = await rest

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._broken(error)
            self.launch()

    def stop(self) -> set[asyncio.Task[None]]:
        """Those who rest end. Returns all who have not ended yet; `take` must have nothing for them any more."""
        self.release()
        return set(self._tasks)
