"""How a subscription starts."""

from __future__ import annotations

import pytest

from gateway.stream import query
from gateway.stream.query import Unreadable, parse
from gateway.stream.resume import UNKNOWN, Position, decide
from gateway.stream.resume import parse as parse_position
from schemas import asyncapi


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("0", Position(0)),
        ("00000000000000000012", Position(12)),
        ("abc:12", Position(12, "abc")),
        ("99999999999999999999", Position(10**20 - 1)),
    ],
)
def test_positions(text: str, position: Position) -> None:
    """`<sequence>` and `<epoch>:<sequence>`."""
    assert parse_position(text) == position


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", ":1", "a:", "a:b:1", " 1", "1" * 21, "\u0663", "1\n"])
def test_what_is_no_position(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="not a position"):
        parse_position(text)


@pytest.mark.parametrize(
    ("after", "snapshot", "outcome"),
    [
        (None, False, "live"),
        (None, True, "snapshot"),
        (Position(5), False, "replayed"),
        (Position(10), False, "replayed"),
        (Position(20), False, "replayed"),
        (Position(10), True, "replayed"),
        (Position(4), False, "reset"),
        (Position(4), True, "reset"),
        (Position(21), False, "reset"),
        (Position(10, "e"), False, "replayed"),
        (Position(10, "f"), False, "reset"),
        (UNKNOWN, False, "reset"),
    ],
)
def test_decisions(after: Position | None, snapshot: bool, outcome: str) -> None:
    """Replay where the log still has everything, and never a pretence of completeness."""
    assert decide(after, snapshot=snapshot, epoch="e", floor=5, head=20) == outcome


def test_query() -> None:
    """All parameters together; unknown ones are named and change nothing else."""
    pairs = [("source", "a,b"), ("type", "task.*"), ("after", "7"), ("snapshot", "true"), ("token", "t")]
    ask = parse([*pairs, ("x", "y")])
    assert ask.wanted.source == ("a", "b")
    assert (ask.after, ask.snapshot, ask.implicit, ask.unknown) == (Position(7), True, True, ("x",))
    assert parse(pairs).unknown == ()
    assert parse([("subscribe", "none")]).implicit is False


@pytest.mark.parametrize(
    "pair",
    [
        ("after", "x"), ("after", ""), ("snapshot", "maybe"), ("subscribe", "all"), ("type", "a*b"), ("task", ""),
        ("status", "bogus"), ("status", "running,"),
    ],
)  # fmt: skip
def test_unreadable(pair: tuple[str, str]) -> None:
    """The parameter is named."""
    with pytest.raises(Unreadable, match=pair[0]):
        parse([pair])


def test_the_documents_know_the_same_parameters() -> None:
    """What is said to be known is what the documents declare."""
    assert set(query.PARAMETERS) == set(asyncapi.stream_query()["properties"])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a", "b", "a", "type"], ("a", "b")),
        ([*"abcdefgh"], ("a", "b", "c", "d", "e")),
        (["x" * 1000, "x" * 2000, "y"], ("x" * 32, "y")),
        (["\udcff", ""], ("?", "")),
        (["TYPE"], ("TYPE",)),
    ],
)
def test_names_that_nobody_knows(names: list[str], told: tuple[str, ...]) -> None:
    """Each once, a few, none long, all as text that can be sent."""
    assert query.unknown(names, query.PARAMETERS) == told


def test_contradiction() -> None:
    """Two positions are no position."""
    with pytest.raises(Unreadable, match="more than once"):
        parse([("after", "1"), ("after", "2")])


def test_last_event_id() -> None:
    """It wins over the URL, which a browser repeats; an unreadable one means a reset, because an error would be final."""
    assert parse([("after", "1")], "9").after == Position(9)
    assert parse([("after", "1")], "").after == Position(1)
    assert parse([], "junk").after == UNKNOWN
