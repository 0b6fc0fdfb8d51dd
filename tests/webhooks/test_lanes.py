"""Order inside lanes, fairness between them."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.webhooks.lanes import PROGRESS, Item, Lanes


def item(sequence: int, lane: str = "a", type_: str = "task.updated") -> Item:
    return Item(sequence, f"e{sequence}", lane, lane, type_)


def test_one_in_flight_per_lane_and_next_at_once() -> None:
    """The second of a lane is ready the moment the first is settled, not before."""
    lanes = Lanes()
    for n in (1, 2):
        lanes.add(item(n))
    first = lanes.take()
    assert first.sequence == 1
    assert not lanes.has_ready
    lanes.settle(first)
    assert lanes.take().sequence == 2
    with pytest.raises(IndexError):
        lanes.take()


def test_lanes_take_turns() -> None:
    """A long lane does not keep others waiting."""
    lanes = Lanes()
    for n in range(1, 6):
        lanes.add(item(n, "long"))
    lanes.add(item(6, "short"))
    order = []
    while lanes.has_ready:
        taken = lanes.take()
        order.append(taken.sequence)
        lanes.settle(taken)
    assert order == [1, 6, 2, 3, 4, 5]


def test_failure_parks_its_lane_only() -> None:
    """Others go on; the parked lane comes back in time, its first first."""
    lanes = Lanes()
    for n, lane in ((1, "a"), (2, "a"), (3, "b")):
        lanes.add(item(n, lane))
    lanes.park(lanes.take(), 10.0)
    assert lanes.is_parked("a")
    assert [one.sequence for one in lanes.waiting("a")] == [2]
    assert lanes.next_due == 10.0
    assert lanes.runnable == 1
    assert lanes.take().sequence == 3
    lanes.unpark(9.9)
    assert not lanes.has_ready
    lanes.unpark(10.0)
    assert not lanes.is_parked("a")
    assert lanes.next_due is None
    assert lanes.take().sequence == 1


def test_restored_lane_is_parked_from_the_start() -> None:
    """A stored delivery that is due later holds its lane; those behind it join."""
    lanes = Lanes()
    lanes.add(item(1), 5.0)
    lanes.add(item(2), 3.0)
    assert not lanes.has_ready
    assert (len(lanes), lanes.runnable) == (2, 0)
    lanes.unpark(5.0)
    assert lanes.runnable == 2
    assert lanes.take().sequence == 1


def test_latest_keeps_the_newest_waiting_progress_only() -> None:
    """Superseded progress goes, everything else stays, in order."""
    lanes = Lanes(latest=True)
    kinds = [PROGRESS, "task.checkpointed", PROGRESS, PROGRESS, "task.succeeded"]
    gone = [lanes.add(item(n, type_=kind)) for n, kind in enumerate(kinds, 1)]
    assert [one.sequence for one in gone if one] == [1, 3]
    order = []
    while lanes.has_ready:
        taken = lanes.take()
        order.append(taken.sequence)
        lanes.settle(taken)
    assert order == [2, 4, 5]


def test_progress_that_was_tried_keeps_its_place() -> None:
    """A newer progress event does not jump the retry delay of an older one."""
    lanes = Lanes(latest=True)
    lanes.add(item(1, type_=PROGRESS))
    lanes.park(lanes.take(), 5.0)
    assert lanes.add(item(2, type_=PROGRESS)) is None
    replaced = lanes.add(item(3, type_=PROGRESS))
    assert replaced is not None
    assert replaced.sequence == 2
    assert (len(lanes), lanes.runnable) == (2, 0)


def test_clear_leaves_what_is_in_flight() -> None:
    """All that waits comes out, once; what is in flight can still be settled."""
    lanes = Lanes(latest=True)
    for n, lane in ((1, "a"), (2, "a"), (3, "b"), (4, "c"), (5, "c")):
        lanes.add(item(n, lane, PROGRESS if n == 5 else "task.updated"))
    flying = lanes.take()
    lanes.park(lanes.take(), 9.0)
    assert sorted(one.sequence for one in lanes.clear()) == [2, 3, 4, 5]
    assert (len(lanes), lanes.runnable, lanes.next_due) == (1, 0, None)
    lanes.settle(flying)
    assert len(lanes) == 0
    lanes.add(item(6, "a"))
    assert lanes.take().sequence == 6


class LanesMachine(RuleBasedStateMachine):
    """Any sequence of steps against plain lists."""

    latest = False

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes(latest=self.latest)
        self.model: dict[str, list[Item]] = defaultdict(list)
        self.flying: dict[str, Item] = {}
        self.parked: dict[str, float] = {}
        self.tried: set[int] = set()
        self.sequence = 0
        self.now = 0.0

    @rule(lane=st.sampled_from("abcd"), progress=st.booleans())
    def add(self, lane: str, progress: bool) -> None:
        self.sequence += 1
        new = item(self.sequence, lane, PROGRESS if progress else "task.updated")
        expected = None
        if self.latest and progress:
            waiting = [one for one in self.model[lane] if one.type == PROGRESS and one.sequence not in self.tried]
            expected = waiting[-1] if waiting else None
        assert self.lanes.add(new) is expected
        if expected:
            self.model[lane].remove(expected)
        self.model[lane].append(new)

    @precondition(lambda self: self.lanes.has_ready)
    @rule()
    def take(self) -> None:
        taken = self.lanes.take()
        assert taken.lane not in self.flying
        assert taken.lane not in self.parked
        assert taken is self.model[taken.lane][0]
        self.tried.add(taken.sequence)
        self.flying[taken.lane] = taken

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(sorted(self.flying)))
        self.lanes.settle(self.flying.pop(lane))
        self.model[lane].pop(0)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), wait=st.floats(0, 10))
    def park(self, data: st.DataObject, wait: float) -> None:
        lane = data.draw(st.sampled_from(sorted(self.flying)))
        self.lanes.park(self.flying.pop(lane), self.now + wait)
        self.parked[lane] = self.now + wait

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.lanes.unpark(self.now)
        self.parked = {lane: due for lane, due in self.parked.items() if due > self.now}

    @rule()
    def clear(self) -> None:
        out = self.lanes.clear()
        expected = [one for lane, items in self.model.items() for one in items[1 if lane in self.flying else 0 :]]
        assert sorted(one.sequence for one in out) == sorted(one.sequence for one in expected)
        self.model = defaultdict(list, {lane: [one] for lane, one in self.flying.items()})
        self.parked = {}

    @invariant()
    def counts(self) -> None:
        assert len(self.lanes) == sum(map(len, self.model.values()))
        free = sum(len(items) for lane, items in self.model.items() if lane not in self.parked)
        assert self.lanes.runnable == free - len(self.flying)
        assert self.lanes.next_due == (min(self.parked.values()) if self.parked else None)
        ready = [lane for lane, items in self.model.items() if items and lane not in self.parked | self.flying]
        assert self.lanes.has_ready == bool(ready)
        for lane in "abcd":
            assert self.lanes.is_parked(lane) == (lane in self.parked)


class LatestMachine(LanesMachine):
    """The same with progress folded."""

    latest = True


TestLanes = LanesMachine.TestCase
TestLatest = LatestMachine.TestCase
TestLanes.settings = TestLatest.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
