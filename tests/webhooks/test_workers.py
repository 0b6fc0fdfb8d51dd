"""Who sends: as many as there is work for, the same ones as long as there is more."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.webhooks.lanes import Item
from gateway.webhooks.workers import Workers


class Crew:
    """Workers, what they may take, and who did what."""

    def __init__(self) -> None:
        self.todo: deque[Item] = deque()
        self.done: list[tuple[int, asyncio.Task[None] | None]] = []
        self.soon = False
        self.faults: list[BaseException] = []
        self.workers = Workers("crew", self._attempt, self._take, lambda: self.soon, self.faults.append)

    def _take(self) -> Item | None:
        return self.todo.popleft() if self.todo else None

    async def _attempt(self, item: Item) -> None:
        await asyncio.sleep(0)
        if item.type == "fault":
            raise ArithmeticError(item.sequence)
        self.done.append((item.sequence, asyncio.current_task()))

    async def work(self, *sequences: int, type: str = "") -> None:
        """Gives them these, and returns when they are done."""
        self.todo += [Item(sequence, f"e{sequence}", "lane", None, type) for sequence in sequences]
        self.workers.launch()
        while self.workers.busy:
            await asyncio.sleep(0)


async def test_one_task_for_many_deliveries_while_more_may_come() -> None:
    """A task for each cost more than all of its books."""
    crew = Crew()
    crew.soon = True
    await crew.work(1)
    await crew.work(2)
    assert [sequence for sequence, _ in crew.done] == [1, 2]
    assert len({task for _, task in crew.done}) == 1
    crew.workers.release()
    await asyncio.wait(crew.workers.stop())
    assert not crew.workers.stop()


async def test_where_nothing_more_comes_they_end() -> None:
    """An endpoint that is quiet holds no tasks."""
    crew = Crew()
    await crew.work(1, 2)
    assert len({task for _, task in crew.done}) == 2
    await asyncio.sleep(0)
    assert not crew.workers.stop()


async def test_a_fault_costs_one_delivery_and_is_told() -> None:
    """What is behind it is sent by another one."""
    crew = Crew()
    await crew.work(1, type="fault")
    crew.todo.append(Item(2, "e2", "lane", None))
    await asyncio.sleep(0)
    while crew.workers.stop():
        await asyncio.sleep(0)
    assert [sequence for sequence, _ in crew.done] == [2]
    assert [str(fault) for fault in crew.faults] == ["1"]
    assert crew.workers.busy == 0
