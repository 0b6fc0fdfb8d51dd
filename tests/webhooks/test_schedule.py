"""Retry delays, Retry-After and the verdict on an answer."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks import schedule
from gateway.webhooks.schedule import Fate, Verdict


def test_default_schedule() -> None:
    """Ten attempts over 75 h 35 m 5 s, as the contract lists them."""
    assert schedule.DEFAULT_DELAYS == (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    fates = [schedule.judge(500, n, schedule.DEFAULT_DELAYS, None, 0.0) for n in range(1, 11)]
    assert [verdict.delay for verdict in fates[:9]] == list(schedule.DEFAULT_DELAYS)
    assert fates[9] == Verdict(Fate.DEAD)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    """Any 2xx is a delivery, whatever else the answer says."""
    assert schedule.judge(status, 99, (), 5.0, 0.5).fate is Fate.DELIVERED


@pytest.mark.parametrize("status", [None, 100, 199, 300, 302, 400, 404, 415, 429, 500, 503])
def test_everything_else_is_retried(status: int | None) -> None:
    """No answer and every other answer are failures that are tried again."""
    assert schedule.judge(status, 1, (7.0,), None, 0.0) == Verdict(Fate.RETRY, 7.0)
    assert schedule.judge(status, 2, (7.0,), None, 0.0) == Verdict(Fate.DEAD)
    assert schedule.judge(status, 1, (), None, 0.0) == Verdict(Fate.DEAD)


def test_410_disables() -> None:
    """Gone is final on the first attempt."""
    assert schedule.judge(410, 1, (7.0,), None, 0.0) == Verdict(Fate.DISABLE)


@given(
    chance=st.floats(0, 1, exclude_max=True),
    delay=st.floats(0, 86400),
    asked=st.none() | st.floats(0, 86400),
)
def test_jitter_and_retry_after_only_lengthen(chance: float, delay: float, asked: float | None) -> None:
    """The next attempt is never earlier than the schedule or the receiver says, nor a fifth later than both."""
    verdict = schedule.judge(500, 1, (delay,), asked, chance)
    lowest = max(delay, asked or 0)
    assert lowest <= verdict.delay <= max(delay * (1 + schedule.JITTER), asked or 0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", None), ("soon", None), ("-5", None), ("٣", None), ("1e3", None), (".5", None), ("1.5.5", None), ("+5", None),
        ("0", 0), ("120", 120), (" 7 ", 7), ("99999999", 86400), ("9" * 400, 86400), ("9" * 16000, 86400),
        ("120.5", 121), ("120.0", 120), ("7.", 7), ("0.001", 1), ("86399.9", 86400), ("9" * 400 + ".9", 86400),
        (formatdate(1030, usegmt=True), 30), (formatdate(10, usegmt=True), 0), (formatdate(10**9, usegmt=True), 86400),
        ("Thu, 01 Jan 1970 00:17:10", 30), ("Thu, 01 Jan 1970 01:17:10 +0100", 30),
        ("Thu, 99 Foo 1970 00:00:00 GMT", None), ("Thu, 01 Jan 99999 00:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after(value: str, seconds: float | None) -> None:
    """Seconds and HTTP dates are read, bounded by a day; everything else is as if it were not there. A part of a second is
    rounded up, never to a time before the one asked for."""
    assert schedule.parse_retry_after([value], 1000.0) == seconds


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([], None), (["120", "600"], 600), (["600", "120"], 600), (["soon", "120"], 120), (["120", "soon"], 120),
        (["soon", ""], None), (["120", formatdate(1600, usegmt=True), "7"], 600), (["999999", "5"], 86400),
    ],
)  # fmt: skip
def test_the_longest_retry_after_holds(values: list[str], seconds: float | None) -> None:
    """A proxy adds its own to the receiver's: whoever asked for less has been waited for as well."""
    assert schedule.parse_retry_after(values, 1000.0) == seconds


@given(st.text(max_size=60))
def test_retry_after_never_raises(value: str) -> None:
    """A hostile header cannot do more than ask for a day."""
    seconds = schedule.parse_retry_after([value], 1000.0)
    assert seconds is None or 0 <= seconds <= schedule.MAX_RETRY_AFTER
