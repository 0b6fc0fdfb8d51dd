"""Who wants an event, and what the ring holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.stream.framing import FORMS, SSE_PLAIN, WEBSOCKET, form_of
from gateway.stream.index import Index, predicate
from gateway.stream.ring import Ring
from schemas.filter import Filter
from tests.stream.fakes import event

FORM = form_of(WEBSOCKET, redacts=False)
filters = st.builds(
    Filter,
    source=st.lists(st.sampled_from(["a", "b"]), max_size=2),
    task=st.lists(st.sampled_from(["a/1", "a/2", "b/1"]), max_size=2),
    type=st.lists(st.sampled_from(["task.started", "task.*", "source.gap"]), max_size=2),
    status=st.lists(st.sampled_from(["running", "failed"]), max_size=1),
)
events = st.one_of(
    st.builds(
        event, st.just(1), st.sampled_from(["task.started", "task.failed"]), st.sampled_from(["a/1", "a/2", "b/1"])
    ),
    st.builds(event, st.just(1), st.just("source.gap"), st.none(), source=st.sampled_from(["a", "b"])),
)


@given(st.lists(st.tuples(filters, filters), max_size=8), events)
def test_index_agrees_with_the_filters(pairs: list[tuple[Filter, Filter]], subject: object) -> None:
    """Looking an event up finds exactly the members whose filter and bounds match, each once."""
    index: Index[int] = Index()
    groups = [index.join(member, wanted, bounds, FORM) for member, (wanted, bounds) in enumerate(pairs)]
    found = [member for group in index.matching(subject) for member in group.members]  # type: ignore[arg-type]
    expected = [n for n, (wanted, bounds) in enumerate(pairs) if predicate(wanted, bounds, redacts=False)(subject)]  # type: ignore[arg-type]
    assert sorted(found) == expected
    for member, group in enumerate(groups):
        index.leave(member, group)
    assert len(index) == 0
    assert list(index.matching(subject)) == []  # type: ignore[arg-type]


def test_equal_wishes_share_a_group() -> None:
    """A thousand pages with one filter cost one comparison; joining twice has to be undone twice."""
    index: Index[str] = Index()
    group = index.join("x", Filter(task=("a/1",)), Filter(), FORM)
    assert index.join("y", Filter(task=("a/1",)), Filter(), FORM) is group
    assert index.join("x", Filter(task=("a/1",)), Filter(), FORM) is group
    index.leave("x", group)
    assert set(group.members) == {"x", "y"}
    index.leave("x", group)
    index.leave("y", group)
    assert len(index) == 0


def test_frames_are_made_once() -> None:
    """The same bytes object goes to everybody of a form, and the redacted body is shared by framings."""
    (entry,) = Ring(10**6, 0).extend([event(1, "task.started")])
    size = entry.size
    frames = [entry.frame(form) for form in FORMS]
    assert all(entry.frame(form) is frame for form, frame in zip(FORMS, frames, strict=True))
    assert entry.size > size
    assert b"secret" not in entry.frame(form_of(SSE_PLAIN, redacts=True))


def test_ring_is_bounded_by_bytes() -> None:
    """The oldest go, `floor` says up to where, and what is left is read in order."""
    ring = Ring(20_000, 5)
    ring.extend([event(n, "task.started") for n in range(6, 12)])
    ring.settle()
    assert ring.floor == 5
    assert [entry.event.sequence for entry in ring.after(7, 2)] == [8, 9]
    for n in range(12, 100):
        ring.extend([event(n, "task.started")])
        ring.settle()
    assert ring.size <= 20_000
    assert ring.floor == 99 - len(ring)
    assert [entry.event.sequence for entry in ring.after(ring.floor, 10**6)] == list(range(ring.floor + 1, 100))
    assert ring.after(99, 10) == []
