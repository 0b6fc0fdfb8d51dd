"""The attempts of a delivery: few bytes in the log, the contract's shape outside."""

from __future__ import annotations

from gateway.webhooks import history

AT = 1_767_225_600.25
TEXT = "2026-01-01T00:00:00.250000Z"


def test_kept_small_and_listed_whole() -> None:
    """Every member is listed, those that were not worth a byte as well."""
    kept = history.append(history.NONE, history.attempt(AT, 503, 0.0123456, "HTTP 503", "busy"))
    kept = history.append(kept, history.attempt(AT, 204, 0.001, None, None))
    kept = history.append(kept, history.end(AT, "the endpoint is disabled"))
    assert history.listed(kept) == [
        {"at": TEXT, "status": 503, "duration_ms": 12.346, "error": "HTTP 503", "response": "busy"},
        {"at": TEXT, "status": 204, "duration_ms": 1.0, "error": None, "response": None},
        {"at": TEXT, "status": None, "duration_ms": None, "error": "the endpoint is disabled", "response": None},
    ]
    assert b'{"at":1767225600.25,"status":204,"duration_ms":1.0}' in kept
    assert history.listed(history.NONE) == []


def test_of_a_log_of_schema_1() -> None:
    """Its times are text, and it goes on with attempts made now."""
    old = b'[{"at":"2026-01-01T00:00:00.250000Z","status":204,"duration_ms":1.0,"error":null,"response":null}]'
    first, second = history.listed(history.append(old, history.attempt(AT, 204, 0.001, None, None)))
    assert first == second


def test_the_newest_are_kept() -> None:
    """A delivery that is replayed again and again does not grow without end."""
    kept = history.NONE
    for number in range(history.KEPT + 5):
        kept = history.append(kept, history.attempt(AT, number, 0.001, None, None))
    assert [one["status"] for one in history.listed(kept)] == list(range(5, history.KEPT + 5))
