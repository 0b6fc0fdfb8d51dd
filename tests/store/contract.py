"""What every engine of `gateway.store.api.Store` promises.

An engine's test module subclasses `StoreContract` and gives it the fixture `reopen`: a function that opens the store, or
closes it and opens it again with what it held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.errors import StoreError
from gateway.store.api import SEQUENCE, Batch, Bounds, Deliveries, DeliveryRow, Store
from schemas.filter import Filter

from .samples import draft, ids, positioned, read, task

Reopen = Callable[[], Awaitable[Store]]


def row(
    sequence: int, state: str = "pending", *, endpoint: str = "hook", updated: float = 1000.0, due: float | None = 7.25
) -> DeliveryRow:
    return DeliveryRow(endpoint, sequence, f"e{sequence}", "studio/1", state, 1, due, b'[{"n":1}]', updated)


class StoreContract:
    """The promises, one a test."""

    @pytest.fixture
    async def store(self, reopen: Reopen) -> Store:
        return await reopen()

    # --- appending

    async def test_a_new_log_is_empty(self, store: Store) -> None:
        """A new log starts at 0 and has a random name of twelve hex digits."""
        assert (store.head, store.floor, store.trouble) == (0, 0, None)
        assert len(store.epoch) == 12
        assert int(store.epoch, 16) >= 0
        assert await read(store, 0, 10) == []
        assert await store.position_at(1e12) == 0

    async def test_positions_are_given_and_written_into_bodies(self, store: Store) -> None:
        """Events get consecutive positions, in order, and carry them in their bodies; what is read is what was committed."""
        drafts = [draft("a"), draft("b", task=None, source=None, kind=None, status=None, type="source.gap")]
        committed = await store.append(Batch(drafts))
        assert [event.sequence for event in committed.events] == [1, 2]
        assert [event.body for event in committed.events] == [positioned(one, n + 1) for n, one in enumerate(drafts)]
        assert store.head == 2
        assert await read(store, 0, 10) == committed.events
        assert committed.events[1].source is None

    async def test_bodies_come_back_byte_by_byte(self, store: Store) -> None:
        """Any bytes behind the position survive: other alphabets, line breaks, NUL, no text at all."""
        bodies = [draft("x").body + tail for tail in (b"", "ümläut ✓".encode(), b"\n\x00\xff\xfe", b"z" * 100_000)]
        drafts = [draft(f"b{number}") for number in range(len(bodies))]
        for one, wanted in zip(drafts, bodies, strict=True):
            one.body = wanted
        committed = await store.append(Batch(drafts))
        found = await read(store, 0, 10)
        assert found == committed.events
        assert [event.body[SEQUENCE.stop :] for event in found] == [wanted[SEQUENCE.stop :] for wanted in bodies]

    async def test_an_event_is_stored_once(self, store: Store) -> None:
        """A repeated id is a duplicate: across appends, within one, and between appends of one commit."""
        await store.append(Batch([draft("a")]))
        again, twin, fresh = draft("a"), draft("b"), draft("c")
        results = await asyncio.gather(
            store.append(Batch([again, draft("b"), twin])), store.append(Batch([draft("b"), fresh]))
        )
        assert ids(results[0].events) == ["b"]
        assert results[0].duplicates == [again, twin]
        assert ids(results[1].events) == ["c"]
        assert ids(await read(store, 0, 10)) == ["a", "b", "c"]
        assert [event.sequence for event in await read(store, 0, 10)] == [1, 2, 3]

    async def test_the_same_draft_object_twice(self, store: Store) -> None:
        """One object listed twice is one event and one duplicate."""
        one = draft("a")
        committed = await store.append(Batch([one, one]))
        assert (ids(committed.events), committed.duplicates) == (["a"], [one])

    async def test_commits_are_in_the_order_of_calls(self, store: Store) -> None:
        """Appends made at the same time are in the log in the order they were made."""
        await asyncio.gather(*(store.append(Batch([draft(f"{n:04d}")])) for n in range(500)))
        assert ids(await read(store, 0, 1000)) == [f"{n:04d}" for n in range(500)]

    async def test_a_wrong_batch_fails_alone(self, store: Store) -> None:
        """A batch that cannot be stored fails its own caller, as a whole; those committed with it are stored, in order."""
        bad = draft("bad")
        bad.type = None  # type: ignore[assignment]
        worse = draft("worse")
        worse.received = "yesterday"  # type: ignore[assignment]
        open_ended = draft("no position")
        open_ended.body = b"{}"
        batches = [
            Batch([draft("a")]), Batch([draft("not kept"), bad]), Batch([draft("b")]), Batch([worse]),
            Batch([open_ended]), Batch([draft("c"), draft("\ud800", text="x")]), Batch([draft("d")]),
        ]  # fmt: skip
        results = await asyncio.gather(*(store.append(batch) for batch in batches), return_exceptions=True)
        assert [isinstance(result, Exception) for result in results] == [False, True, False, True, True, True, False]
        events = await read(store, 0, 10)
        assert [(event.id, event.sequence) for event in events] == [("a", 1), ("b", 2), ("d", 3)]
        assert store.trouble is None

    async def test_reopening_keeps_everything(self, reopen: Reopen) -> None:
        """What was committed is there after a restart, and positions go on."""
        store = await reopen()
        epoch = store.epoch
        first = await store.append(Batch([draft("a")], [task("1")], {("studio", "all"): b'{"since":1}'}))
        await store.deliver(Deliveries([row(1)], {"hook": 1}))
        store = await reopen()
        assert (store.epoch, store.head) == (epoch, 1)
        assert await read(store, 0, 10) == first.events
        assert [one.sequence for one in await store.tasks("studio", ["1"])] == [1]
        assert await store.cursors("studio") == {"all": b'{"since":1}'}
        assert await store.delivery("hook", 1) == row(1)
        assert await store.positions() == {"hook": 1}
        assert (await store.append(Batch([draft("b")]))).events[0].sequence == 2
        assert (await store.append(Batch([draft("a")]))).events == []

    async def test_a_closed_store_says_so(self, store: Store) -> None:
        """Closing finishes what was called before; afterwards every call fails clearly; closing twice is nothing."""
        pending = [asyncio.ensure_future(store.append(Batch([draft(f"{n}")]))) for n in range(10)]
        await asyncio.sleep(0)
        await asyncio.gather(store.close(), store.close())
        assert [(await one).events[0].sequence for one in pending] == list(range(1, 11))
        with pytest.raises(StoreError, match="not open"):
            await store.append(Batch())
        with pytest.raises(StoreError, match="not open"):
            await store.positions()

    # --- states and cursors

    async def test_a_task_carries_the_position_of_its_last_event(self, store: Store) -> None:
        """The position moves with the task's events in the batch and stays where there is none."""
        await store.append(
            Batch([draft("a"), draft("b"), draft("c", task="studio/2")], [task("1"), task("2"), task("3")])
        )
        assert {one.id: one.sequence for one in await store.tasks("studio", ["1", "2", "3", "4"])} == {
            "1": 2, "2": 3, "3": 0,
        }  # fmt: skip
        await store.append(Batch([draft("d")], [task("2", status="queued")]))
        [two] = await store.tasks("studio", ["2"])
        assert (two.sequence, two.status) == (3, "queued")

    async def test_the_last_of_several_states_counts(self, store: Store) -> None:
        """Two states of a task, in one batch or in two of one commit, leave the later one."""
        await asyncio.gather(
            store.append(Batch([draft("a")], [task("1", status="queued"), task("1", status="running")])),
            store.append(Batch([], [task("1", status="succeeded", finished=True, state=b'{"x":1}')])),
        )
        [one] = await store.tasks("studio", ["1"])
        assert (one.status, one.finished, one.state, one.sequence) == ("succeeded", True, b'{"x":1}', 1)

    async def test_cursors_are_replaced_and_removed(self, store: Store) -> None:
        """A cursor is the last value stored under its source and stream; an empty value removes it."""
        await store.append(Batch(cursors={("s", "a"): b"1", ("s", "b"): b"2", ("t", "a"): b"3"}))
        await store.append(Batch(cursors={("s", "a"): b"4", ("s", "b"): b""}))
        assert await store.cursors("s") == {"a": b"4"}
        assert await store.cursors("t") == {"a": b"3"}
        await asyncio.gather(
            store.append(Batch(cursors={("s", "a"): b""})), store.append(Batch(cursors={("s", "a"): b"5"}))
        )
        assert await store.cursors("s") == {"a": b"5"}

    async def test_a_failed_batch_moves_no_cursor(self, store: Store) -> None:
        """Cursor and events are stored together or not at all."""
        bad = draft("bad")
        bad.id = None  # type: ignore[assignment]
        with pytest.raises(Exception, match=r"NOT NULL|None"):
            await store.append(Batch([draft("a"), bad], [task("1")], {("s", "a"): b"1"}))
        assert (await read(store, 0, 10), await store.cursors("s"), await store.tasks("studio", ["1"])) == ([], {}, [])

    async def test_reach(self, store: Store) -> None:
        """Reach names the unfinished tasks of a stream or source, the oldest of them, and the newest task of the source."""
        await store.append(
            Batch(
                [],
                [
                    task("1", created_at="2026-01-01T00:00:02Z"),
                    task("2", created_at="2026-01-01T00:00:01.5Z"),
                    task("3", created_at="2026-01-01T00:00:01Z", stream="one"),
                    task("4", created_at="2026-01-01T00:00:02.25Z", finished=True),
                    task("5", created_at=None),
                    task("6", created_at="2027-01-01T00:00:00Z", source="studio-b"),
                    task("7", created_at="2027-01-01T00:00:00Z", source="stud"),
                ],
            )
        )
        everything, stream, nothing = [
            await store.reach(*of) for of in (("studio", None), ("studio", "all"), ("none", None))
        ]
        assert sorted(everything.unfinished) == ["1", "2", "3", "5"]
        assert everything.oldest_unfinished == "2026-01-01T00:00:01Z"
        assert everything.newest == "2026-01-01T00:00:02.25Z"
        assert sorted(stream.unfinished) == ["1", "2", "5"]
        assert stream.oldest_unfinished == "2026-01-01T00:00:01.5Z"
        assert (nothing.unfinished, nothing.oldest_unfinished, nothing.newest) == ([], None, None)

    # --- reading

    async def test_read_pages(self, store: Store) -> None:
        """`after`, `upto` and `limit` cut the log exactly, whatever the size of the pages beneath."""
        await store.append(Batch([draft(f"{n}", text="x" * (n * 40)) for n in range(1, 501)]))
        assert [event.sequence for event in await read(store, 0, 1000)] == list(range(1, 501))
        assert [event.sequence for event in await read(store, 100, 170)] == list(range(101, 271))
        assert [event.sequence for event in await read(store, 490, 100, upto=495)] == [491, 492, 493, 494, 495]
        assert await read(store, 500, 10) == await read(store, 10**30, 10) == await read(store, 3, 0) == []
        assert len(await read(store, -5, 3)) == 3

    async def test_a_page_is_bounded_in_bytes(self, store: Store) -> None:
        """It says how far it reaches. An event that is too large for any page is one by itself; small ones pay nothing."""
        for number in range(12):
            await store.append(Batch([draft(f"{number}", text="x" * 5_000_000, kind="big" if number % 2 else None)]))
        await store.append(Batch([draft(f"s{number}") for number in range(500)]))
        page = await store.read(0, 1000)
        assert (ids(page.events), page.reached) == (["0"], 1)
        page = await store.read(0, 2, [Filter(kind=("big",))])
        assert (ids(page.events), page.reached) == (["1"], 2)
        page = await store.read(11, 1000)
        assert (ids(page.events), page.reached) == (["11"], 12)
        page = await store.read(12, 1000)
        assert (len(page.events), page.reached) == (500, store.head)
        assert [event.sequence for event in await read(store, 0, 1000)] == list(range(1, 513))

    async def test_a_page_says_how_far_it_reaches(self, store: Store) -> None:
        """To the end of what was asked for, where nothing more matches; short of it behind its last event. Never back."""
        await store.append(
            Batch([draft("a"), draft("b", kind="rare"), draft("c"), draft("d", kind="rare"), draft("e")])
        )
        rare = [Filter(kind=("rare",))]
        reaches = {
            (0, 1, None): (["b"], 2),
            (0, 3, None): (["b", "d"], 5),
            (0, 3, 3): (["b"], 3),
            (4, 3, None): ([], 5),
            (5, 3, None): ([], 5),
            (9, 3, None): ([], 9),
            (4, 3, 2): ([], 4),
            (0, 3, 99): (["b", "d"], 5),
            (-3, 3, 1): ([], 1),
            (1, 0, None): ([], 1),
        }
        for (after, limit, upto), wanted in reaches.items():
            page = await store.read(after, limit, rare, upto)
            assert (ids(page.events), page.reached) == wanted, (after, limit, upto)

    async def test_filters(self, store: Store) -> None:
        """What is read is what `Filter.compile` accepts, for every field, several filters, and values that look like patterns."""
        drafts = [
            draft("1"),
            draft("2", type="task.succeeded", status="succeeded"),
            draft("3", task="studio/2", kind=None),
            draft("4", source="jobs", task="jobs/%", kind="a_c"),
            draft("5", source="jobs", task="jobs/*", kind="abc", type="task.created"),
            draft("6", type="source.gap", task=None, kind=None, status=None),
            draft("7", type="source.failed", source=None, task=None, kind=None, status=None),
        ]
        events = (await store.append(Batch(drafts))).events
        wheres: list[list[Filter]] = [
            [Filter()],
            [Filter(source=("jobs",))],
            [Filter(task=("studio/1", "studio/2"))],
            [Filter(task=("jobs/%",))],
            [Filter(task=("jobs/*", "\ud800"))],
            [Filter(kind=("a_c",))],
            [Filter(status=("succeeded", "none"))],
            [Filter(type=("task.*",))],
            [Filter(type=("*",))],
            [Filter(type=("task.s*", "source.gap"))],
            [Filter(type=("task_s*", "task%*"))],
            [Filter(type=("TASK.*",))],
            [Filter(source=("studio",)), Filter(type=("task.*",)), Filter(task=("studio/1", "jobs/%"))],
            [Filter(task=("studio/1",)), Filter(task=("studio/2",))],
            [Filter(kind=(*(f"k{n}" for n in range(40_000)), "abc")), Filter(source=("jobs",))],
            [Filter(task=(*(f"k{n}" for n in range(600)), "studio/2"))],
            [Filter(status=("\ud800",))],
        ]
        for where in wheres:
            tests = [one.compile() for one in where]
            wanted = [event for event in events if all(test(event) for test in tests)]
            assert await read(store, 0, 100, where) == wanted, where
            assert await read(store, 0, 2, where) == wanted[:2], where

    async def test_a_rare_match_is_found_far_away(self, store: Store) -> None:
        """A filter that matches little is answered over the whole log, with a limit or without."""
        await store.append(Batch([draft(f"{n}", task=f"studio/{n % 7}") for n in range(12_000)]))
        await store.append(Batch([draft("rare", status="failed", task="studio/x")]))
        assert ids(await read(store, 0, 5, [Filter(status="failed")])) == ["rare"]
        assert ids(await read(store, 0, 5, [Filter(task="studio/x")])) == ["rare"]
        assert len(await read(store, 0, 10_000, [Filter(task=("studio/3", "studio/4"))])) == 2 * 1714
        assert await read(store, 0, 5, [Filter(status="failed", task="studio/3")]) == []

    async def test_position_at(self, store: Store) -> None:
        """The greatest position received before a time, even where the clock was set back."""
        await store.append(
            Batch([draft("a", received=10.0), draft("b", received=30.0), draft("c", received=20.000001)])
        )
        wanted = {10.0: 0, 10.5: 1, 20.000001: 1, 20.000002: 3, 30.0: 3, 31.0: 3, 1e300: 3}
        assert {moment: await store.position_at(moment) for moment in wanted} == wanted

    # --- snapshots

    async def test_snapshot_pages(self, store: Store) -> None:
        """Pages of a snapshot are ordered by key, complete, and valid at the end of the log."""
        await store.append(Batch([draft("a")], [task(f"{n:03d}") for n in range(25)]))
        seen: list[str] = []
        after: str | None = None
        for _ in range(10):
            page = await store.snapshot([], unfinished=False, limit=7, after=after)
            assert page.sequence == 1
            seen += [one.task for one in page.tasks]
            after = page.next
            if after is None:
                break
        assert seen == [f"studio/{n:03d}" for n in range(25)]

    async def test_snapshot_filters(self, store: Store) -> None:
        """Filters apply but for types; finished tasks are left out where asked."""
        await store.append(
            Batch(
                [],
                [
                    task("1"),
                    task("2", status="succeeded", finished=True),
                    task("3", kind=None),
                    task("4", source="jobs"),
                ],
            )
        )

        async def keys(*where: Filter, unfinished: bool = False) -> list[str]:
            page = await store.snapshot(where, unfinished=unfinished, limit=100)
            assert page.next is None
            return [one.task for one in page.tasks]

        assert await keys() == ["jobs/4", "studio/1", "studio/2", "studio/3"]
        assert await keys(unfinished=True) == ["jobs/4", "studio/1", "studio/3"]
        assert await keys(Filter(source="studio"), unfinished=True) == ["studio/1", "studio/3"]
        assert await keys(Filter(kind="render", type="task.failed")) == ["jobs/4", "studio/1", "studio/2"]
        assert await keys(Filter(task=("studio/2", "jobs/4")), Filter(status="succeeded")) == ["studio/2"]
        assert await keys(Filter(task=(*(f"x/{n}" for n in range(600)), "studio/3"))) == ["studio/3"]

    @pytest.mark.parametrize("cursor", ["", "?", "é", "AAAA", "a3N0dWRpby8x=", "_w"])
    async def test_a_made_up_cursor_is_refused(self, store: Store, cursor: str) -> None:
        """A cursor that no page gave is a ValueError."""
        with pytest.raises(ValueError, match="not a cursor"):
            await store.snapshot([], unfinished=False, limit=1, after=cursor)

    # --- deliveries

    async def test_deliveries(self, store: Store) -> None:
        """Rows are replaced, listed by endpoint and state in order of position, and forgotten with their endpoint."""
        await store.deliver(
            Deliveries([row(3), row(1, "dead", due=None), row(2), row(2, endpoint="other")], {"hook": 3, "other": 2})
        )
        await store.deliver(Deliveries([row(2, "delivered", due=None)], {"hook": 5}))
        assert await store.positions() == {"hook": 5, "other": 2}
        assert await store.deliveries("hook") == [row(1, "dead", due=None), row(2, "delivered", due=None), row(3)]
        assert await store.deliveries("hook", "pending") == [row(3)]
        assert await store.deliveries("hook", after=1, limit=1) == [row(2, "delivered", due=None)]
        assert await store.deliveries("hook", after=10**30) == []
        assert await store.delivery("hook", 10**30) is None
        await asyncio.gather(
            store.deliver(Deliveries([row(9)], {"hook": 9})),
            store.forget_endpoint("hook"),
            store.deliver(Deliveries([row(4)], {"hook": 4})),
        )
        assert await store.deliveries("hook") == [row(4)]
        assert await store.positions() == {"hook": 4, "other": 2}

    async def test_parts_of_deliveries(self, store: Store) -> None:
        """Rows are read forwards or backwards, between two positions, and counted by state."""
        await store.deliver(Deliveries([row(n, "dead" if n % 2 else "delivered") for n in range(1, 8)], {"hook": 7}))
        assert [one.sequence for one in await store.deliveries("hook", after=2, upto=5)] == [3, 4, 5]
        assert [one.sequence for one in await store.deliveries("hook", newest=True, limit=2)] == [7, 6]
        assert [one.sequence for one in await store.deliveries("hook", "dead", upto=6, newest=True)] == [5, 3, 1]
        assert await store.deliveries("hook", upto=0) == []
        assert (await store.count_deliveries("hook", "dead"), await store.count_deliveries("none", "dead")) == (4, 0)

    async def test_records(self, reopen: Reopen) -> None:
        """A record is stored together with rows and positions, replaced, and forgotten with the endpoint; a position may go
        back."""
        store = await reopen()
        await store.deliver(Deliveries([row(1)], {"hook": 5, "other": 1}, {"hook": b"one", "other": b"\x00"}))
        await store.deliver(Deliveries(positions={"hook": 2}, records={"hook": b"two"}))
        store = await reopen()
        assert await store.endpoints() == {"hook": b"two", "other": b"\x00"}
        assert await store.positions() == {"hook": 2, "other": 1}
        await store.deliver(Deliveries([row(n) for n in range(1, 1300)]))
        await store.forget_endpoint("hook")
        assert (await store.endpoints(), await store.positions()) == ({"other": b"\x00"}, {"other": 1})
        assert await store.deliveries("hook") == []

    async def test_types(self, store: Store) -> None:
        """Types of events by position, as far as they are there."""
        await store.append(Batch([draft("a"), draft("b", type="source.gap")]))
        assert await store.types([2, 1, 9]) == {1: "task.progressed", 2: "source.gap"}
        assert await store.types([]) == {}

    # --- retention

    async def test_settled_deliveries_are_bounded(self, store: Store) -> None:
        """Beyond a number of rows, or bytes of their attempts, the oldest delivered ones go first and dead letters last;
        pending ones never."""
        rows = [row(n, "delivered", updated=2000.0 - n) for n in range(1, 701)]
        rows += [row(n, "dead", updated=float(n)) for n in range(701, 711)]
        rows += [row(n, "pending", updated=1.0) for n in range(711, 721)]
        await store.deliver(Deliveries(rows, {"hook": 720}))

        async def left() -> dict[str, list[int]]:
            found = await store.deliveries("hook")
            states = ("delivered", "dead", "pending")
            return {state: [one.sequence for one in found if one.state == state] for state in states}

        pending = list(range(711, 721))
        assert await store.trim(0.0, Bounds(delivery_rows=110)) == 0
        assert await left() == {"delivered": list(range(1, 101)), "dead": list(range(701, 711)), "pending": pending}
        size = len(rows[0].attempts)
        await store.trim(0.0, Bounds(delivery_bytes=12 * size))
        assert await left() == {"delivered": [1, 2], "dead": list(range(701, 711)), "pending": pending}
        await store.trim(705.5, Bounds(delivery_rows=8))  # what goes by its age counts
        assert await left() == {"delivered": [1, 2], "dead": list(range(706, 711)), "pending": pending}
        await store.trim(0.0, Bounds(delivery_rows=3))
        assert await left() == {"delivered": [], "dead": [708, 709, 710], "pending": pending}

    async def test_rows_above_the_position_stay(self, store: Store) -> None:
        """They are all that says that an event is delivered: without them it would be sent again after a restart."""
        rows = [row(n, state, updated=float(n)) for n, state in enumerate(["delivered", "dead", "skipped"] * 4, 1)]
        await store.deliver(Deliveries(rows, {"hook": 6, "other": 0}))
        await store.trim(1e9, Bounds(delivery_rows=0, delivery_bytes=0))
        assert [one.sequence for one in await store.deliveries("hook")] == [7, 8, 9, 10, 11, 12]
        await store.deliver(Deliveries(positions={"hook": 11}))
        await store.trim(0.0, Bounds(delivery_rows=0))
        assert [one.sequence for one in await store.deliveries("hook")] == [12]

    async def test_the_log_is_bounded_in_bytes(self, store: Store) -> None:
        """The oldest events go before their age where the log is too large, short of what an endpoint still needs."""
        await store.append(Batch([draft(f"{n}", received=float(n), text="x" * 2000) for n in range(1, 3001)]))
        await store.deliver(Deliveries([row(7, "dead", updated=1e9)], {"hook": 2900}))
        await store.trim(0.0, Bounds(log_bytes=1 << 40))
        assert store.floor == 0
        gone = await store.trim(0.0, Bounds(log_bytes=3 << 20))
        assert 1000 < gone < 2900
        assert store.floor == gone + 1
        assert [event.sequence for event in await read(store, 0, 2)] == [7, gone + 2]
        await store.trim(0.0, Bounds(log_bytes=1 << 10))
        assert [event.sequence for event in await read(store, 0, 2)] == [7, 2901]

    async def test_trim_removes_what_is_old(self, store: Store) -> None:
        """Old events and finished tasks go, unfinished tasks stay however old, and the floor says how far."""
        await store.append(
            Batch(
                [draft(f"{n}", received=float(n)) for n in range(1, 1301)],
                [
                    task("1", updated=5.0),
                    task("2", updated=5.0, finished=True),
                    task("3", updated=2000.0, finished=True),
                ],
            )
        )
        assert await store.trim(1200.5) == 1201
        assert (store.floor, store.head) == (1200, 1300)
        assert [event.sequence for event in await read(store, 0, 1000)] == list(range(1201, 1301))
        assert [one.id for one in await store.tasks("studio", ["1", "2", "3"])] == ["1", "3"]
        assert await store.trim(1200.5) == 0

    async def test_positions_are_never_used_again(self, reopen: Reopen) -> None:
        """An empty log goes on where the full one ended, after a restart too."""
        store = await reopen()
        await store.append(Batch([draft(f"{n}", received=1.0) for n in range(10)]))
        await store.trim(2.0)
        assert (store.head, store.floor) == (10, 10)
        store = await reopen()
        assert (store.head, store.floor) == (10, 10)
        assert (await store.append(Batch([draft("new")]))).events[0].sequence == 11

    async def test_a_delivery_never_loses_its_body(self, store: Store) -> None:
        """Events of pending deliveries and of dead letters stay, and so does all that an endpoint has not reached."""
        await store.append(Batch([draft(f"e{n}", received=1.0) for n in range(1, 11)]))
        await store.deliver(
            Deliveries([row(2), row(3, "dead"), row(4, "delivered"), row(5, "dead", updated=0.5)], {"hook": 8, "b": 9})
        )
        assert await store.trim(2.0) == 6
        assert [event.sequence for event in await read(store, 0, 100)] == [2, 3, 9, 10]
        assert store.floor == 8
        await store.deliver(Deliveries([row(2, "delivered"), row(3, "dead", updated=1.5)], {"hook": 10, "b": 10}))
        assert await store.trim(2.0) == 4
        assert [one.sequence for one in await store.deliveries("hook")] == [2, 4]

    async def test_appends_go_on_during_retention(self, store: Store) -> None:
        """An append made while a long trim runs is committed before the trim ends."""
        await store.append(Batch([draft(f"{n}", received=1.0) for n in range(5_000)]))
        trimming = asyncio.ensure_future(store.trim(2.0))
        await asyncio.sleep(0)
        await store.append(Batch([draft("between")]))
        assert not trimming.done()
        assert await trimming == 5_000
        assert ids(await read(store, 0, 10)) == ["between"]
