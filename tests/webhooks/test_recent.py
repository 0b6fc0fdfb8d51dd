"""The end of the log in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.recent import Recent
from tests.webhooks.fakes import event


def test_begins_at_a_position() -> None:
    """What lies before is not here; at the end there is nothing to read yet."""
    recent = Recent(5)
    assert recent.after(4, 10) is None
    assert recent.after(5, 10) == ([], 5)
    assert recent.after(9, 10) == ([], 9)


def test_repeats_are_left_out() -> None:
    """Publishing what is there already changes nothing."""
    recent = Recent(0)
    recent.push([event(1), event(2)])
    recent.push([event(2), event(3)])
    events, reached = recent.after(0, 10) or ([], 0)
    assert [e.sequence for e in events] == [1, 2, 3]
    assert reached == 3


def test_pages() -> None:
    """A page reaches as far as its last event."""
    recent = Recent(0)
    recent.push([event(n) for n in (1, 3, 7)])
    assert recent.after(1, 1) == ([event(3)], 3)
    assert recent.after(2, 5) == ([event(3), event(7)], 7)


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 400)), max_size=80),
    st.integers(1, 20),
    st.integers(60, 2000),
)
def test_bounded_and_contiguous(steps: list[tuple[int, int]], most: int, size: int) -> None:
    """Never more than the limits, and what it answers with is all there was after the position."""
    recent, log, sequence = Recent(0, max_events=most, max_bytes=size), [], 0
    for gap, length in steps:
        sequence += gap
        log.append(event(sequence, size=length))
        recent.push(log[-1:])
        kept = recent.after(recent.base, 1000)
        assert kept is not None
        assert len(kept[0]) <= most
        assert sum(len(e.body) for e in kept[0]) <= size
        assert kept[0] == [e for e in log if e.sequence > recent.base]
        assert recent.base == 0 or recent.after(recent.base - 1, 1) is None
