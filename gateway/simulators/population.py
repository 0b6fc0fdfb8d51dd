"""Tasks that live realistic lives: when each is born, what happens to it, and when.

Pure: time and chance are handed in, so that one seed gives one history whatever the size of the time steps. Knows no
upstream's words for what happens; `triverse`, `emit` and `catalyst` translate.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol


class Chance(Protocol):
    """Chance, as `random.Random` has it."""

    def random(self) -> float:
        """A number in [0, 1)."""

    def randint(self, a: int, b: int) -> int:
        """A whole number from a to b, both included."""

    def expovariate(self, lambd: float) -> float:
        """The time to the next of events that come `lambd` times a second."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens to a task.

    Attributes:
        kind: what, in the words of the plan that made it.
        percent: progress after it, 0 to 100.
        position: place in the queue after it.
        attempt: the number of the attempt it is about.
    """

    kind: str
    percent: int | None = None
    position: int | None = None
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Happening:
    """A step that has come due: to which task, and when (on the clock that `advance` was given)."""

    task: int
    step: Step
    at: float


Plan = Callable[[Chance], Iterator[tuple[float, Step]]]
"""The life of one task: steps, each with the delay before it as a share of a mean life. The first is its creation."""


def generation(chance: Chance) -> Iterator[tuple[float, Step]]:
    """The life of a Triverse task: created, most often queued, running with progress, then a terminal status."""
    yield 0.0, Step("created")
    if chance.random() < 0.85:
        for position in range(chance.randint(1, 5), 0, -1):
            yield 0.04, Step("queued", position=position)
            if chance.random() < 0.01:
                yield 0.02, Step("cancelled")
                return
    yield 0.05, Step("started", percent=0)
    requeue_at = chance.randint(20, 70) if chance.random() < 0.05 else None
    end = chance.random()
    end_at = chance.randint(10, 95) if end < 0.12 else 100
    percent = 0
    while True:
        percent += chance.randint(3, 14)
        if requeue_at is not None and percent >= requeue_at:
            requeue_at, percent = None, 0
            yield 0.05, Step("requeued", position=1)
            yield 0.08, Step("started", percent=0)
            continue
        if percent >= end_at:
            break
        yield 0.02 + 0.06 * chance.random(), Step("progressed", percent=percent)
    yield 0.04, Step("failed" if end < 0.09 else "cancelled" if end < 0.12 else "succeeded")


def job(chance: Chance, *, newer: bool = False) -> Iterator[tuple[float, Step]]:
    """The life of an emit.run job: polled, acknowledged, progress and checkpoints, retries, then a terminal status.

    Args:
        newer: with what newer editions add (scheduled first, killed by an operator, custom events).
    """
    retries = 3
    if newer and chance.random() < 0.1:
        yield 0.0, Step("scheduled")
        yield 0.1, Step("pending")
    else:
        yield 0.0, Step("pending")
    attempt = 0
    while True:
        yield 0.05, Step("delivered", attempt=attempt)
        while chance.random() < 0.05:
            yield 0.1, Step("delivery_timeout", attempt=attempt)
            yield 0.05, Step("delivered", attempt=attempt)
        yield 0.02, Step("acked", attempt=attempt)
        fails_at = chance.randint(5, 95) if chance.random() < 0.15 else None
        killed_at = chance.randint(5, 95) if newer and chance.random() < 0.02 else None
        percent, checkpoint_at = 0, 40
        while percent < 100:
            percent = min(100, percent + chance.randint(5, 20))
            if killed_at is not None and percent >= killed_at:
                yield 0.02, Step("killed", percent=percent, attempt=attempt)
                return
            if fails_at is not None and percent >= fails_at:
                break
            yield 0.02 + 0.08 * chance.random(), Step("progress", percent=percent, attempt=attempt)
            if percent >= checkpoint_at:
                checkpoint_at += 40
                yield 0.01, Step("checkpoint", percent=percent, attempt=attempt)
            if newer and chance.random() < 0.05:
                yield 0.01, Step("custom", percent=percent, attempt=attempt)
        if fails_at is None:
            yield 0.02, Step("completed", percent=100, attempt=attempt)
            return
        attempt += 1
        if attempt > retries:
            yield 0.02, Step("dead", attempt=attempt)
            return
        yield 0.02, Step("retried", attempt=attempt)


def case(chance: Chance) -> Iterator[tuple[float, Step]]:
    """The life of a Catalyst task: created, owned and assigned, edited and moved along, at last deleted."""
    yield 0.0, Step("task_created")
    yield 0.02, Step("task_owner_added")
    assigned = chance.random() < 0.9
    if assigned:
        yield 0.05, Step("task_assignee_added")
    for _ in range(chance.randint(2, 8)):
        yield 0.1 * chance.random(), Step("task_value_changed")
        if chance.random() < 0.5:
            yield 0.05 * chance.random(), Step("task_status_changed")
        if assigned and chance.random() < 0.15:
            yield 0.02, Step("task_assignee_removed")
            yield 0.01, Step("task_assignee_added")
    if chance.random() < 0.3:
        yield 0.05, Step("task_owner_removed")
    yield 0.1, Step("task_deleted")


class Population:
    """Lives in progress.

    Args:
        plan: what a life is.
        chance: decides everything; one seed, one history.
        now: seconds on the clock that `advance` and `admit` are given.
        rate: new tasks a second, on average; 0 for none but those admitted.
        life: mean seconds that a life takes, at speed 1.
        speed: how many times faster the tasks live (the rate of new ones is not changed).
        most: no task is born while so many live.
    """

    def __init__(
        self,
        plan: Plan,
        chance: Chance,
        *,
        now: float,
        rate: float,
        life: float = 30.0,
        speed: float = 1.0,
        most: int = 10_000,
    ) -> None:
        if rate < 0 or life <= 0 or speed <= 0:
            raise ValueError("rate must not be negative; life and speed must be above 0")
        self._plan = plan
        self._chance = chance
        self._rate = rate
        self._second = life / speed
        self._most = most
        self._born = 0
        self._due: list[tuple[float, int, Step, Iterator[tuple[float, Step]]]] = []
        self._next_birth = now + chance.expovariate(rate) if rate else None

    @property
    def alive(self) -> int:
        """How many tasks live."""
        return len(self._due)

    @property
    def full(self) -> bool:
        """Whether as many live as may."""
        return len(self._due) >= self._most

    def admit(self, now: float) -> int:
        """A task created from outside lives from now on, its creation behind it. Returns its number."""
        self._born += 1
        life = self._plan(self._chance)
        next(life)
        self._wait(self._born, life, now)
        return self._born

    def next_due(self) -> float | None:
        """When the next thing happens; None while nothing is going to."""
        first = self._due[0][0] if self._due else None
        if first is None or self._next_birth is None:
            return self._next_birth if first is None else first
        return min(first, self._next_birth)

    def advance(self, now: float) -> Iterator[Happening]:
        """Everything that happens up to now, in order of time."""
        while (due := self.next_due()) is not None and due <= now:
            if due == self._next_birth:
                self._next_birth = due + self._chance.expovariate(self._rate)
                if not self.full:
                    self._born += 1
                    self._wait(self._born, self._plan(self._chance), due)
                continue
            at, number, step, life = heapq.heappop(self._due)
            self._wait(number, life, at)
            yield Happening(number, step, at)

    def _wait(self, number: int, life: Iterator[tuple[float, Step]], now: float) -> None:
        for delay, step in life:
            heapq.heappush(self._due, (now + delay * self._second, number, step, life))
            return
