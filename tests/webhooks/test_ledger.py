"""What the stored position may cover."""

from __future__ import annotations

from gateway.store.api import Deliveries, DeliveryRow
from gateway.webhooks.lanes import Item
from gateway.webhooks.ledger import LAG, Ledger


def item(sequence: int) -> Item:
    return Item(sequence, f"e{sequence}", "t", "t")


def row(sequence: int, state: str = "delivered") -> DeliveryRow:
    return DeliveryRow("hook", sequence, f"e{sequence}", "t", state, 1, None, b"[1]", 0.0)


def collected(ledger: Ledger, *, final: bool = False) -> Deliveries:
    into = Deliveries()
    ledger.collect(into, final=final)
    return into


def test_position_waits_for_the_first_open_delivery() -> None:
    """A result above an open delivery is stored, the position stays below it."""
    ledger = Ledger("hook", 0)
    items = [item(n) for n in (3, 5, 8)]
    for one in items:
        ledger.open(one)
    ledger.reach(9)
    ledger.record(items[1], row(5))
    batch = collected(ledger)
    assert [r.sequence for r in batch.rows] == [5]
    assert batch.positions == {"hook": 2}
    ledger.saved()
    ledger.record(items[0], row(3, "pending"))
    assert collected(ledger).positions == {"hook": 7}
    ledger.saved()
    ledger.record(items[2], row(8))
    assert collected(ledger).positions == {"hook": 9}


def test_what_was_not_saved_is_handed_over_again() -> None:
    """A write that nobody knows the end of is made again, newer results of the same delivery in place of older ones."""
    ledger = Ledger("hook", 0)
    first, second = item(1), item(2)
    ledger.open(first)
    ledger.open(second)
    ledger.reach(2)
    ledger.record(first, row(1, "pending"))
    collected(ledger)
    newer = row(1)
    ledger.record(first, newer)
    ledger.record(second, row(2))
    batch = collected(ledger)
    assert [(r.sequence, r.state) for r in batch.rows] == [(1, "delivered"), (2, "delivered")]
    assert batch.positions == {"hook": 2}
    assert ledger.unsaved == 2
    ledger.saved()
    assert ledger.unsaved == 0
    assert collected(ledger, final=True) == Deliveries()


def test_position_alone_is_written_rarely() -> None:
    """Events that nobody wants move the position now and then, and at the end."""
    ledger = Ledger("hook", 0)
    ledger.reach(LAG - 1)
    assert not ledger.lags
    assert collected(ledger) == Deliveries()
    ledger.saved()
    assert collected(ledger, final=True).positions == {"hook": LAG - 1}
    ledger.saved()
    ledger.reach(2 * LAG)
    assert ledger.lags
    assert collected(ledger).positions == {"hook": 2 * LAG}
    ledger.saved()
    assert not ledger.lags


def test_rewind_goes_back_in_the_store_too() -> None:
    """After a rewind the stored position is lower, and what was open behind it holds nothing up."""
    ledger = Ledger("hook", 0)
    items = [item(n) for n in (2, 5)]
    for one in items:
        ledger.open(one)
    ledger.reach(9)
    ledger.record(items[0], row(2))
    assert collected(ledger).positions == {"hook": 4}
    ledger.saved()
    ledger.rewind(1)
    assert (ledger.read, ledger.position) == (1, 1)
    assert collected(ledger).positions == {"hook": 1}
    ledger.saved()
    assert collected(ledger, final=True) == Deliveries()
    ledger.rewind(7)
    assert ledger.read == 1


def test_rows_that_the_store_does_not_have_yet() -> None:
    """From `watch` on it is known which rows are newer than what is being read, even once they are stored."""
    ledger = Ledger("hook", 0)
    ledger.record(item(1), row(1))
    with ledger.watch():
        second = row(2, "pending")
        ledger.record(item(2), second)
        collected(ledger)
        ledger.saved()
        assert {n: r.state for n, r in ledger.newer(0, 9).items()} == {1: "delivered", 2: "pending"}
        assert ledger.newer(1, 2) == {2: second}
    assert ledger.newer(0, 9) == {}


def test_attempts_leave_memory_once_stored() -> None:
    """A parked delivery keeps its attempts only until the store has them, newer ones a little longer."""
    ledger = Ledger("hook", 0)
    one = item(1)
    ledger.open(one)
    ledger.record(one, row(1, "pending"))
    assert one.attempts == b"[1]"
    collected(ledger)
    ledger.saved()
    assert one.attempts is None
    older = row(1, "pending")
    ledger.record(one, older)
    collected(ledger)
    one.attempts = b"[1, 2]"
    ledger.saved()
    assert one.attempts == b"[1, 2]"
