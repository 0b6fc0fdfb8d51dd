"""The event-stream rules of the WHATWG HTML standard, one by one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.sse import Event, Parser, parse

STREAM = '\ufeff: hello\r\nevent: update\r\ndata: {\rdata:  "a": 1\ndata:}\n\nid: 7\nretry: 10\nnonsense\ndata: ü\r\n\r\ndata\n\n'
EVENTS = [Event("update", '{\n "a": 1\n}'), Event("message", "ü"), Event("message", "")]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ('event: update\ndata: {"a":1}', [Event("update", '{"a":1}')]),
        ('data: {"a":1}\nevent: update\n\n', [Event("update", '{"a":1}')]),
        ("event:update\ndata:x\n\n", [Event("update", "x")]),
        ("data:  two spaces\n\n", [Event("message", " two spaces")]),
        ("event: a\ndata: 1\n\nevent: b\ndata: 2\n\n", [Event("a", "1"), Event("b", "2")]),
        ("event: a\n\ndata: 1\n\n", [Event("message", "1")]),
        (": comment\n\n", []),
        ("event: only\n\n", []),
        ("", []),
        ("data: 1\r", [Event("message", "1")]),
        ("data: 1\r\n\r\n", [Event("message", "1")]),
        ("data: a\ndata\ndata: b\n\n", [Event("message", "a\n\nb")]),
    ],
)
def test_a_frame_is_read_by_the_rules(text: str, events: list[Event]) -> None:
    """Any order of fields, CRLF, CR and LF, optional space, several data lines, comments, several events in a frame."""
    assert parse(text) == events


def test_the_whole_example() -> None:
    """A byte order mark is skipped once; mixed line ends are one stream."""
    assert parse(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_it_does_not_matter_where_text_is_cut(cuts: list[int]) -> None:
    """Incremental: any cut, between CR and LF too, gives the same events."""
    parser, edges, events = Parser(), [0, *sorted(cuts), len(STREAM)], []
    for start, end in pairwise(edges):
        events += parser.feed(STREAM[start:end])
    assert events + parser.close() == EVENTS


@given(st.text(alphabet="data:evn \r\n\ufeffx"))
def test_every_single_character_split_equals_the_whole(text: str) -> None:
    """For any text, feeding it character by character is the same as feeding it at once."""
    parser, events = Parser(), []
    for character in text:
        events += parser.feed(character)
    assert events + parser.close() == parse(text)
