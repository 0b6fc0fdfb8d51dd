"""The token bucket."""

from __future__ import annotations

import pytest

from gateway.webhooks.rate import Bucket


def test_no_limit() -> None:
    """Without a rate nothing waits."""
    bucket = Bucket(None, 0.0)
    for _ in range(100):
        assert bucket.wait(0.0) == 0
        bucket.take()


@pytest.mark.parametrize("rate", [0.5, 1.0, 7.0, 50.0, 1000.0])
def test_rate_holds_over_any_stretch(rate: float) -> None:
    """Waiting as told, the rate is kept: over n requests no more than a tenth of a second's worth ahead."""
    bucket, now, times = Bucket(rate, 0.0), 0.0, []
    for _ in range(500):
        now += bucket.wait(now)
        assert bucket.wait(now) == 0
        bucket.take()
        times.append(now)
    burst = max(1.0, rate / 10)
    for start in (0, 100, 300):
        assert times[start + 199] - times[start] >= (199 - burst) / rate - 1e-3


def test_idle_time_does_not_add_up() -> None:
    """After a long rest there is no burst."""
    bucket = Bucket(2.0, 0.0)
    assert bucket.wait(1e6) == 0
    bucket.take()
    assert bucket.wait(1e6) == pytest.approx(0.5)
