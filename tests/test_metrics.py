"""Our histogram says what the library's would."""

from __future__ import annotations

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from gateway.metrics import Histogram

BOUNDS = (0.005, 0.25, 1, 30)


@given(st.lists(st.sampled_from(BOUNDS) | st.floats(0, 100)))
def test_the_exposition_is_the_librarys(values: list[float]) -> None:
    """To the byte, for values on the bounds as well."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = Histogram("wait_seconds", "How long", BOUNDS)
    ours.register(one)
    other = prometheus_client.Histogram("wait_seconds", "How long", registry=theirs, buckets=BOUNDS)
    for value in values:
        one.observe(value)
        other.observe(value)
    assert generate_latest(ours) == generate_latest(theirs)
