"""Order inside lanes, fairness between them."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.webhooks.lanes import PROGRESS, Item, Lanes


def item(
    sequence: int, lane: str = "a", type_: str = "task.updated", *, due: float | None = None, asked: bool = False
) -> Item:
    return Item(sequence, f"e{sequence}", lane, lane, type_, due=due, asked=asked)


def test_one_in_flight_per_lane_and_next_at_once() -> None:
    """The second of a lane is ready the moment the first is settled, not before."""
    lanes = Lanes()
    for n in (1, 2):
        lanes.add(item(n))
    first = lanes.take()
    assert first.sequence == 1
    assert not lanes.ready
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
    while lanes.ready:
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
    assert [one.sequence for one in lanes.waiting("a")] == [1, 2]
    assert lanes.next_due == 10.0
    assert lanes.ready == 1
    assert lanes.take().sequence == 3
    lanes.unpark(9.9)
    assert not lanes.ready
    lanes.unpark(10.0)
    assert not lanes.is_parked("a")
    assert lanes.next_due is None
    assert lanes.take().sequence == 1


def test_restored_lane_is_parked_from_the_start() -> None:
    """A stored delivery that is due later holds its lane; those behind it join, each with its own time."""
    lanes = Lanes()
    lanes.add(item(1, due=5.0))
    lanes.add(item(2, due=9.0))
    assert (len(lanes), lanes.ready) == (2, 0)
    lanes.unpark(5.0)
    assert lanes.ready == 1
    lanes.settle(lanes.take())
    assert (lanes.ready, lanes.next_due) == (0, 9.0)
    lanes.unpark(9.0)
    assert lanes.take().sequence == 2


def test_what_comes_in_late_takes_its_place() -> None:
    """A delivery that is asked for again goes before those of its lane that wait, not before the one in flight."""
    lanes = Lanes()
    lanes.add(item(5))
    lanes.add(item(7))
    flying = lanes.take()
    lanes.add(item(3))
    lanes.add(item(6))
    assert lanes.is_flying(flying)
    assert [one.sequence for one in lanes.waiting("a")] == [3, 6, 7]
    lanes.park(flying, 9.0)
    assert lanes.ready == 1
    assert [one.sequence for one in lanes.waiting("a")] == [3, 5, 6, 7]
    lanes.settle(lanes.take())
    assert (lanes.ready, lanes.next_due) == (0, 9.0)
    lanes.add(item(4))
    assert (lanes.ready, lanes.next_due) == (1, None)
    assert lanes.take().sequence == 4


def test_a_time_that_no_longer_holds_wakes_nobody() -> None:
    """A delivery that was hastened meanwhile is not made ready a second time when its old time comes."""
    lanes = Lanes()
    lanes.add(item(1, due=5.0))
    lanes.hasten(lanes.get(1) or item(0))
    lanes.unpark(6.0)
    assert lanes.ready == 1
    lanes.settle(lanes.take())
    assert not lanes.ready


def test_hastened() -> None:
    """The first of a lane is ready at once; behind another one it still waits for that."""
    lanes = Lanes()
    one, two = item(1, due=5.0), item(2, due=6.0)
    lanes.add(one)
    lanes.add(two)
    lanes.hasten(two)
    assert (lanes.ready, lanes.next_due) == (0, 5.0)
    lanes.hasten(one)
    assert (lanes.ready, lanes.next_due, lanes.next_is_new) == (1, None, False)
    assert lanes.get(1) is one
    lanes.settle(lanes.take())
    assert lanes.get(1) is None
    assert lanes.take() is two


def test_retries_before_news() -> None:
    """What was tried or asked for is taken before what is new, and can be told from it."""
    lanes = Lanes()
    lanes.add(item(1, "new"))
    lanes.add(item(2, "asked", asked=True))
    assert not lanes.next_is_new
    assert lanes.take().sequence == 2
    assert lanes.next_is_new


def test_latest_keeps_the_newest_waiting_progress_only() -> None:
    """Superseded progress goes, everything else stays, in order."""
    lanes = Lanes(latest=True)
    kinds = [PROGRESS, "task.checkpointed", PROGRESS, PROGRESS, "task.succeeded"]
    gone = [lanes.add(item(n, type_=kind)) for n, kind in enumerate(kinds, 1)]
    assert [one.sequence for one in gone if one] == [1, 3]
    order = []
    while lanes.ready:
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
    assert (len(lanes), lanes.ready) == (2, 0)


def test_clear_leaves_what_is_in_flight() -> None:
    """All that waits comes out, once; what is in flight can still be settled."""
    lanes = Lanes(latest=True)
    for n, lane in ((1, "a"), (2, "a"), (3, "b"), (4, "c"), (5, "c")):
        lanes.add(item(n, lane, PROGRESS if n == 5 else "task.updated"))
    flying = lanes.take()
    lanes.park(lanes.take(), 9.0)
    assert [one.sequence for one in lanes.drop()] == [2, 3, 4, 5]
    assert (len(lanes), lanes.ready, lanes.next_due) == (1, 0, None)
    lanes.settle(flying)
    assert len(lanes) == 0
    lanes.add(item(6, "a"))
    assert lanes.take().sequence == 6


def test_drop_of_a_part() -> None:
    """Only what is behind a position goes; lanes whose first went wait for what is first now."""
    lanes = Lanes()
    for n, lane in ((1, "a"), (4, "a"), (2, "b"), (5, "c")):
        lanes.add(item(n, lane, due=8.0 if n == 2 else None))
    assert [one.sequence for one in lanes.drop(2)] == [4, 5]
    assert (sorted(one.sequence for one in lanes), lanes.ready, lanes.next_due) == ([1, 2], 1, 8.0)
    assert lanes.take().sequence == 1
    assert not lanes.ready


def test_older_progress_gives_way_to_newer_that_waits() -> None:
    """Progress that is read again while newer progress of its task waits is left out itself."""
    lanes = Lanes(latest=True)
    lanes.add(item(5, type_=PROGRESS))
    older = item(3, type_=PROGRESS)
    assert lanes.add(older) is older
    assert [one.sequence for one in lanes] == [5]
    lanes.fold(False)
    assert lanes.add(item(6, type_=PROGRESS)) is None


class LanesMachine(RuleBasedStateMachine):
    """Any sequence of steps against plain lists."""

    latest = False

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes(latest=self.latest)
        self.model: dict[str, list[Item]] = defaultdict(list)  # in flight or not, by sequence
        self.flying: dict[str, Item] = {}
        self.sequence = 0
        self.now = 0.0
        self.free: list[int] = []

    def _waiting(self, lane: str) -> list[Item]:
        flying = self.flying.get(lane)
        return sorted((one for one in self.model[lane] if one is not flying), key=lambda one: one.sequence)

    def _put(self, new: Item) -> None:
        expected = None
        if self.latest and new.type == PROGRESS:
            folded = [one for one in self._waiting(new.lane) if one.type == PROGRESS and one.tries == 0]
            expected = folded[-1] if folded else None
            if expected is not None and expected.sequence > new.sequence:
                assert self.lanes.add(new) is new
                return
        assert self.lanes.add(new) is expected
        if expected is not None:
            self.model[new.lane].remove(expected)
        self.model[new.lane].append(new)

    @rule(lane=st.sampled_from("abcd"), progress=st.booleans(), skipped=st.integers(0, 2))
    def add(self, lane: str, progress: bool, skipped: int) -> None:
        self.free += range(self.sequence + 1, self.sequence + 1 + skipped)
        self.sequence += 1 + skipped
        self._put(item(self.sequence, lane, PROGRESS if progress else "task.updated"))

    @precondition(lambda self: self.free)
    @rule(lane=st.sampled_from("abcd"), data=st.data(), due=st.none() | st.floats(0, 10))
    def add_late(self, lane: str, data: st.DataObject, due: float | None) -> None:
        sequence = data.draw(st.sampled_from(self.free))
        self.free.remove(sequence)
        self._put(item(sequence, lane, "", due=None if due is None else self.now + due, asked=due is None))

    @precondition(lambda self: self.lanes.ready)
    @rule()
    def take(self) -> None:
        new = self.lanes.next_is_new
        taken = self.lanes.take()
        assert taken.lane not in self.flying
        assert taken.due is None
        assert taken is self._waiting(taken.lane)[0]
        assert new == (not taken.tries and not taken.asked)
        taken.tries += 1
        self.flying[taken.lane] = taken
        assert self.lanes.is_flying(taken)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(sorted(self.flying)))
        item = self.flying.pop(lane)
        self.lanes.settle(item)
        self.model[lane].remove(item)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), wait=st.floats(0, 10))
    def park(self, data: st.DataObject, wait: float) -> None:
        lane = data.draw(st.sampled_from(sorted(self.flying)))
        self.lanes.park(self.flying.pop(lane), self.now + wait)

    @precondition(lambda self: any(self._waiting(lane) for lane in "abcd"))
    @rule(data=st.data())
    def hasten(self, data: st.DataObject) -> None:
        waiting = [one for lane in "abcd" for one in self._waiting(lane)]
        self.lanes.hasten(data.draw(st.sampled_from(waiting)))

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.lanes.unpark(self.now)

    @rule(after=st.integers(0, 40))
    def drop(self, after: int) -> None:
        gone = [one for lane in "abcd" for one in self._waiting(lane) if one.sequence > after]
        assert self.lanes.drop(after) == sorted(gone, key=lambda one: one.sequence)
        for one in gone:
            self.model[one.lane].remove(one)

    @invariant()
    def counts(self) -> None:
        everything = [one for items in self.model.values() for one in items]
        assert sorted(one.sequence for one in self.lanes) == sorted(one.sequence for one in everything)
        assert len(self.lanes) == len(everything)
        heads = {lane: self._waiting(lane)[0] for lane in "abcd" if lane not in self.flying and self._waiting(lane)}
        parked = {lane: head.due for lane, head in heads.items() if head.due is not None}
        assert self.lanes.next_due == (min(parked.values()) if parked else None)
        assert self.lanes.ready == len(heads.keys() - parked.keys())
        for lane in "abcd":
            assert self.lanes.is_parked(lane) == (lane in parked)
            assert self.lanes.waiting(lane) == self._waiting(lane)


class LatestMachine(LanesMachine):
    """The same with progress folded."""

    latest = True


TestLanes = LanesMachine.TestCase
TestLatest = LatestMachine.TestCase
TestLanes.settings = TestLatest.settings = settings(max_examples=60, stateful_step_count=40)
