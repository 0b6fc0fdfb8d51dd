"""When to try again."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream import backoff
from gateway.upstream.backoff import Backoff

chances = st.floats(0, 1)


def test_full_jitter_doubles_up_to_the_maximum() -> None:
    """The n-th wait is random between 0 and min(max, initial * 2^n)."""
    steps = Backoff(0.5, 60)
    assert [steps.next_delay("retry", 1.0) for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert steps.next_delay("retry", 0.5) == 30
    assert steps.attempt == 10


def test_reset_starts_over() -> None:
    """After a success the next wait is a short one."""
    steps = Backoff(0.5, 60)
    for _ in range(5):
        steps.next_delay("retry", 1.0)
    steps.reset()
    assert steps.next_delay("retry", 1.0) == 0.5


@given(chance=chances, initial=st.floats(1e-6, 3600), maximum=st.floats(1e-3, 86400), count=st.integers(1, 2000))
def test_never_a_storm_and_never_beyond_the_maximum(chance: float, initial: float, maximum: float, count: int) -> None:
    """Whatever chance says, there is a least wait, and no `retry` waits longer than the maximum."""
    steps = Backoff(initial, maximum)
    for _ in range(min(count, 20)):
        delay = steps.next_delay("retry", chance)
        assert min(backoff.FLOOR, initial, maximum) <= delay <= maximum
    steps._attempt = count
    assert steps.next_delay("retry", chance) <= maximum


@given(chance=chances)
def test_slow_down_waits_the_whole_maximum(chance: float) -> None:
    """`slow_down` waits the maximum and up to a quarter more, from the first time on."""
    assert 60 <= Backoff(0.5, 60).next_delay("slow_down", chance) <= 75


def test_retry_after_is_a_lower_bound_and_has_a_limit() -> None:
    """What the upstream asks for is honoured if it is longer, up to an hour."""
    assert Backoff(0.5, 60).next_delay("slow_down", 0.0, 300) == 300
    assert Backoff(0.5, 60).next_delay("slow_down", 0.0, 10) == 60
    assert Backoff(0.5, 60).next_delay("slow_down", 0.0, 1e9) == 3600
    assert Backoff(0.5, 60).next_delay("retry", 0.0, 7) == 7
    assert Backoff(8, 60).next_delay("retry", 1.0, 1) == 8


@pytest.mark.parametrize(("maximum", "least"), [(0.1, 30), (60, 60), (3600, 300)])
def test_minimum_uptime_follows_the_maximum(maximum: float, least: float) -> None:
    """A silent connection counts as a success after the longest wait, within 30 s and 5 min."""
    assert Backoff(0.5, maximum).minimum_uptime == least


def test_retry_after_header() -> None:
    """RFC 9110, section 10.2.3: seconds or an HTTP date."""
    now = 1_800_000_000.0
    date = datetime.fromtimestamp(now + 90, UTC)
    assert backoff.retry_after(" 120 ", now) == 120
    assert backoff.retry_after(format_datetime(date, usegmt=True), now) == 90
    assert backoff.retry_after(format_datetime(date, usegmt=True), now + 1000) == 0
    assert backoff.retry_after(None, now) is None
    assert backoff.retry_after("soon", now) is None
    assert backoff.retry_after("9" * 5000, now) == 999_999_999


@given(st.text())
def test_retry_after_takes_anything(text: str) -> None:
    """No header breaks it."""
    found = backoff.retry_after(text, 0.0)
    assert found is None or found >= 0


def test_what_counts_as_a_success() -> None:
    """A long life, or a few seconds with something of use; with short waits configured, as short a time will do."""
    usual, short = Backoff(0.5, 60), Backoff(0.1, 1)
    assert [
        usual.was_well(uptime, useful=useful) for uptime, useful in ((4, True), (5, True), (59, False), (60, False))
    ] == [
        False,
        True,
        False,
        True,
    ]
    assert short.was_well(1, useful=True)
    assert not short.was_well(0.9, useful=True)
