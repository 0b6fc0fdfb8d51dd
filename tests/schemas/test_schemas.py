"""What crosses a boundary: timestamps, lengths of time, filters, the schema of record."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas import event, rfc3339
from schemas.duration import Seconds
from schemas.filter import Filter


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("2025-02-24T10:32:00.000Z", "2025-02-24T10:32:00.000Z"),
        ("2025-01-16T11:07:57.954470+00:00", "2025-01-16T11:07:57.954470Z"),
        ("2026-05-27T00:00:00Z", "2026-05-27T00:00:00Z"),
        ("2026-05-27 00:00:00", "2026-05-27T00:00:00Z"),
        ("2026-05-27T00:00:00.5", "2026-05-27T00:00:00.5Z"),
        ("2026-05-27t00:00:00z", "2026-05-27T00:00:00Z"),
        ("2026-05-27T02:00:00.123456789+02:00", "2026-05-27T00:00:00.123456Z"),
        ("2026-05-27T02:00:00+0200", "2026-05-27T00:00:00.000000Z"),
        ("2026-05-27T00:00:00.123456789Z", "2026-05-27T00:00:00.123456789Z"),
    ],
)
def test_timestamps_become_utc(text: str, normal: str) -> None:
    """RFC 3339 with Z; digits are kept where it is UTC already."""
    assert rfc3339.normalize(text) == normal
    assert rfc3339.normalize(normal) == normal
    assert rfc3339.parse(text) == pytest.approx(rfc3339.parse(normal))


@pytest.mark.parametrize(
    "text",
    [
        None, 5, "", "now", "2026-05-27", "2026-13-27T00:00:00Z", "2026-05-27T24:00:01Z", "2026-05-27T00:00:00.Z",
        "2026-05-27T00:00:00.1aZ", "2025-W08-1T10:32:00Z", "2026-05-27T00:00:00,000Z", "0001-01-01T00:00:00+14:00",
        "2026-05-27T00:00:00.000+00:00Z", "2026-05-27T0٠:00:00Z", "2026-05-27T00:00:00" + "0" * 60, "2026-02-30 00:00:00",
    ],
)  # fmt: skip
def test_what_is_no_timestamp_is_none(text: object) -> None:
    """Never an exception, never a guess."""
    assert rfc3339.normalize(text) is None


def test_parsing_says_what_is_wrong() -> None:
    """For callers that know that it must be a time."""
    with pytest.raises(ValueError, match="'soon' is not a timestamp"):
        rfc3339.parse("soon")


@given(st.integers(0, 4_102_444_800_000_000))
def test_rendering_is_exact_to_the_microsecond(micros: int) -> None:
    """There and back."""
    assert round(rfc3339.parse(rfc3339.render(micros / 1e6)) * 1e6) == pytest.approx(micros, abs=1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h", 3600), ("90s", 90), ("7d", 604800), (" 15 m ", 900), ("500ms", 0.5), (2, 2), ("2.5", 2.5)],
)
def test_lengths_of_time(text: object, seconds: float) -> None:
    """A number of seconds, or a number with a unit."""
    assert TypeAdapter(Seconds).validate_python(text) == seconds


@pytest.mark.parametrize("text", ["soon", "1w", "-1s", "0", 0, -1, None, "1h30m"])
def test_what_is_no_length_of_time_is_an_error(text: object) -> None:
    """And says how one is written."""
    with pytest.raises(ValidationError):
        TypeAdapter(Seconds).validate_python(text)


@dataclass
class Subject:
    type: str = "task.succeeded"
    source: str | None = "studio"
    task: str | None = "studio/1"
    kind: str | None = "image"
    status: str | None = "succeeded"


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("", True), ("source=studio", True), ("source=a&source=studio", True), ("source=a,studio", True), ("source=a", False),
        ("source=studio&kind=video", False), ("type=task.*", True), ("type=task.succ*", True), ("type=*", True),
        ("type=source.*", False), ("type=task.succeeded", True), ("type=task.succeed", False), ("task=studio/1&status=succeeded", True),
        ("limit=5", True), ("source=a, studio ,b", True), ("source= studio", True),
    ],
)  # fmt: skip
def test_filters(query: str, matches: bool) -> None:
    """Values of one parameter are OR-ed, parameters AND-ed; parameters of others are not looked at. Blanks around a value are
    how people write lists, and would make it match nothing."""
    pairs = [tuple(pair.split("=")) for pair in query.split("&") if pair]
    assert Filter.from_query(pairs).compile()(Subject()) is matches  # type: ignore[arg-type]


def test_a_filter_on_a_field_that_is_not_there_does_not_match() -> None:
    """contract, section 2."""
    assert not Filter(task=("studio/1",)).compile()(Subject(task=None))
    assert not Filter(kind=("image",)).compile()(Subject(kind=None))


@pytest.mark.parametrize("query", [[("source", "a,,b")], [("source", "a, ,b")], [("source", " ")], [("source", "a,")]])
def test_an_empty_part_is_an_error(query: list[tuple[str, str]]) -> None:
    """Blanks are not a value either."""
    with pytest.raises(ValidationError):
        Filter.from_query(query)


@pytest.mark.parametrize(
    "wrong", [{"type": "task.*.x"}, {"source": ""}, {"source": ["a", ""]}, {"colour": ["red"]}, {"kind": [5]}]
)
def test_a_wrong_filter_is_an_error(wrong: dict[str, object]) -> None:
    """An empty value, a `*` in the middle, an unknown field."""
    with pytest.raises(ValidationError):
        Filter.model_validate(wrong)


def test_a_single_value_is_a_list_of_one() -> None:
    """In commands and in the configuration."""
    assert Filter.model_validate({"source": "studio"}) == Filter(source=("studio",))


def test_the_tables_of_the_event_agree() -> None:
    """Every status has a rank and a type; every type of a status is a type of the event."""
    statuses = {str(status) for status in event.Status}
    assert set(event.RANK) == set(event.TYPE_OF_STATUS) == statuses
    assert set(event.TYPE_OF_STATUS.values()) <= set(event.TASK_TYPES)
    assert statuses >= event.FINISHED


def test_what_is_no_canonical_event_is_refused() -> None:
    """The schema of record is strict about what is known and open to what is added."""
    notice = {
        "specversion": "1.0", "id": "a", "source": "/mainstem", "type": "source.gap", "subject": "studio",
        "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json", "dataschema": "urn:x", "sequence": "0" * 20,
        "data": {"source": "studio", "adapter": "triverse", "from": "2026-01-01T00:00:00Z", "tomorrow": 1},
    }  # fmt: skip
    event.validate(notice)
    for wrong in (
        {"time": "2026-01-01T00:00:00+00:00"},
        {"sequence": "1"},
        {"source": "/triverse/studio"},
        {"id": "a.b"},
        {"data": 5},
    ):
        with pytest.raises(ValidationError):
            event.validate({**notice, **wrong})
