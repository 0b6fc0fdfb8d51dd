"""Reading what clients send."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stream.commands import Allowance, Malformed, parse
from schemas import stream
from schemas.filter import Filter


def test_commands() -> None:
    """Every command of the contract."""
    text = '{"op":"subscribe","id":"a","filter":{"task":["s/1"],"type":["task.*"]},"after":"5","snapshot":true}'
    command = parse(text)
    assert command == stream.Subscribe(
        op="subscribe", id="a", filter=Filter(task=("s/1",), type=("task.*",)), after="5", snapshot=True
    )
    assert parse('{"op":"subscribe","id":"a"}') == stream.Subscribe(op="subscribe", id="a")
    assert parse('{"op":"subscribe","id":"a","after":7}') == stream.Subscribe(op="subscribe", id="a", after=7)
    assert parse('{"op":"unsubscribe","id":"a"}') == stream.Unsubscribe(op="unsubscribe", id="a")
    assert parse('{"op":"ping"}') == stream.Ping(op="ping")
    token = parse('{"op":"authenticate","token":"hush"}')
    assert token == stream.Authenticate(op="authenticate", token="hush")
    assert "hush" not in repr(token)


@pytest.mark.parametrize(
    ("command", "field"),
    [
        ({"op": "subscribe"}, "id"),
        ({"op": "subscribe", "id": ""}, "id"),
        ({"op": "subscribe", "id": 5}, "id"),
        ({"op": "subscribe", "id": "a", "filter": {"type": ["a*b"]}}, "filter.type"),
        ({"op": "subscribe", "id": "a", "filter": {"colour": ["x"]}}, "filter.colour"),
        ({"op": "subscribe", "id": "a", "filter": []}, "filter"),
        ({"op": "subscribe", "id": "a", "filter": {"status": ["running", "bogus"]}}, "filter.status"),
        ({"op": "subscribe", "id": "a", "filter": {"task": [5]}}, "filter.task.0"),
        ({"op": "subscribe", "id": "a", "after": True}, "after"),
        ({"op": "subscribe", "id": "a", "after": -1}, "after"),
        ({"op": "subscribe", "id": "a", "after": [1]}, "after"),
        ({"op": "subscribe", "id": "a", "snapshot": "yes"}, "snapshot"),
        ({"op": "subscribe", "id": "a", "fliter": {}}, "fliter"),
        ({"op": "unsubscribe"}, "id"),
        ({"op": "authenticate", "token": 5}, "token"),
        ({"op": "authenticate"}, "token"),
        ({"op": "dance"}, "op"),
        ({"op": ["ping"]}, "op"),
        ({}, "op"),
    ],
)
def test_malformed_commands_name_the_field(command: dict[str, object], field: str) -> None:
    """The error says which part is meant."""
    found = parse(json.dumps(command))
    assert isinstance(found, Malformed)
    assert found.field == field


def test_a_status_that_there_is_not_is_named_with_those_that_there_are() -> None:
    """A subscription with it would be silent for ever."""
    found = parse('{"op":"subscribe","id":"a","filter":{"status":"bogus","type":"task.of_tomorrow"}}')
    known = "pending, queued, dispatched, running, succeeded, failed, cancelled, deleted, unknown"
    text = f"filter.status: there is no status 'bogus'; known: {known}"
    assert found == Malformed("invalid_field", text, "filter.status", "a")


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "5", '"ping"', "null", "[" * 5000])
def test_what_is_no_object(text: str) -> None:
    """Anything else is told apart from a command."""
    assert isinstance(parse(text), Malformed)


def test_secrets_are_not_repeated() -> None:
    """A mistake in an authenticate command does not echo the token."""
    found = parse('{"op":"authenticate","token":"hush","extra":"hush"}')
    assert isinstance(found, Malformed)
    assert "hush" not in repr(found)


@given(st.text() | st.binary())
def test_nothing_raises(text: str | bytes) -> None:
    """Whatever a client sends, there is an answer."""
    parse(text)


def test_allowance() -> None:
    """A burst, then the rate."""
    allowance = Allowance(10, 3, 0.0)
    assert [allowance.spend(0.0) for _ in range(4)] == [True, True, True, False]
    assert allowance.spend(0.1)
    assert not allowance.spend(0.1)
    assert [allowance.spend(60.0) for _ in range(4)] == [True, True, True, False]
