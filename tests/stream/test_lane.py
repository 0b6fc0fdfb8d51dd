"""What waits for a connection, and what is folded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.stream.lane import Lane
from tests.stream.fakes import event

ROOM = 10**9


def conflated(task: str, skipped: int, sequence: int) -> bytes:
    return f"<{task} {skipped} @{sequence}>".encode()


def offer(lane: Lane, sequence: int, kind: str, task: str = "studio/1", size: int = 0) -> bool:
    return lane.offer(f"[{sequence}]".encode().ljust(size, b"."), event(sequence, kind, task))


def rest(lane: Lane) -> str:
    return (lane.take_direct() + lane.take(ROOM, conflated)).decode().replace(".", "")


def pressed(limit: int = 100_000) -> Lane:
    lane = Lane(limit)
    lane.buffered = lane.full + 1
    return lane


def test_without_pressure_nothing_is_folded() -> None:
    """Progress of one task leaves event by event."""
    lane = Lane(100_000)
    assert not any(offer(lane, n, "task.progressed") for n in range(1, 5))
    assert rest(lane) == "[1][2][3][4]"
    assert lane.sent == 4


def test_progress_folds_into_the_newest() -> None:
    """Under pressure the last progress of each task is left, in the order of the log, with a count before it."""
    lane = pressed()
    for n, task in enumerate(["a/1", "a/2", "a/1", "a/1", "a/2"], 1):
        offer(lane, n, "task.progressed", task)
    assert rest(lane) == "<a/1 2 @3>[4]<a/2 1 @2>[5]"


def test_terminal_event_replaces_progress() -> None:
    """The end of a task makes its waiting progress pointless; what was folded is told before it."""
    lane = pressed()
    offer(lane, 1, "task.progressed")
    offer(lane, 2, "task.progressed")
    assert offer(lane, 3, "task.succeeded")
    assert rest(lane) == "<studio/1 2 @2>[3]"


def test_other_events_keep_what_came_before() -> None:
    """A checkpoint stays behind the progress it followed, and progress after it starts anew."""
    lane = pressed()
    offer(lane, 1, "task.progressed")
    offer(lane, 2, "task.checkpointed")
    offer(lane, 3, "task.progressed")
    offer(lane, 4, "task.progressed")
    offer(lane, 5, "task.deleted")
    assert rest(lane) == "[1][2]<studio/1 2 @4>[5]"


def test_taken_progress_is_not_folded() -> None:
    """What has left is beyond folding."""
    lane = pressed()
    offer(lane, 1, "task.progressed")
    assert lane.take(ROOM, conflated) == b"[1]"
    assert not offer(lane, 2, "task.succeeded")
    assert rest(lane) == "[2]"


def test_notices_stay_in_place() -> None:
    """A notice is sent where it was put."""
    lane = pressed()
    offer(lane, 1, "task.started")
    lane.buffered = 0
    lane.put(b"n")
    offer(lane, 2, "task.started")
    assert rest(lane) == "[1]n[2]"


def test_room_is_respected() -> None:
    """At least one message is taken, and no further one once the room is used up."""
    lane = pressed()
    for n in range(1, 6):
        offer(lane, n, "task.started", f"a/{n}", size=100)
    assert lane.take(150, conflated).count(b"[") == 2
    assert lane.take(1, conflated).count(b"[") == 1
    assert lane.size == 200
    lane.clear()
    assert (lane.size, rest(lane)) == (0, "")


def test_sizes_below_the_window_go_the_fast_way() -> None:
    """Bytes beyond the window wait where they can be folded."""
    lane = Lane(2048 * 16)
    lane.put(b"x" * 2000)
    assert not lane.waits
    lane.put(b"x" * 2000)
    assert lane.waits
    assert lane.size == lane.unsent == 4000


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["task.progressed", "task.progressed", "task.checkpointed", "task.succeeded"]),
            st.sampled_from(["a/1", "a/2", "a/3"]),
            st.integers(0, 200),
        ),
        max_size=60,
    )
)
def test_properties(steps: list[tuple[str, str, int]]) -> None:
    """Order of the log is kept, only progress is missing, and every missing one is counted before a later event of its task."""
    lane = pressed()
    sent: list[int] = []
    told: dict[str, int] = {}
    kinds = {n: (kind, task) for n, (kind, task, _) in enumerate(steps, 1)}

    def tell(task: str, skipped: int, sequence: int) -> bytes:
        told[task] = told.get(task, 0) + skipped
        return b""

    for n, (kind, task, room) in enumerate(steps, 1):
        offer(lane, n, kind, task)
        if room > 150:
            sent += [int(part) for part in lane.take(room - 150, tell).decode().strip("[]").split("][") if part]
    sent += [int(part) for part in lane.take(ROOM, tell).decode().strip("[]").split("][") if part]
    assert sent == sorted(set(sent))
    missing = set(kinds) - set(sent)
    assert all(kinds[n][0] == "task.progressed" for n in missing)
    for task in ("a/1", "a/2", "a/3"):
        folded = [n for n in missing if kinds[n][1] == task]
        assert told.get(task, 0) == len(folded)
        assert all(any(m > n for m in sent if kinds[m][1] == task) for n in folded)
    assert lane.size == 0
