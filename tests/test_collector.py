"""What is set aside for the search for garbage, and when."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from gateway import collector
from gateway.collector import Collector


class Census:
    """How many connections came, and are there."""

    arrived = 0
    present = 0


@pytest.fixture
def census() -> Iterator[Census]:
    """Leaves the collector of this process as it was."""
    thresholds = gc.get_threshold()
    yield Census()
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0


async def test_a_wave_is_set_aside(census: Census) -> None:
    """After enough arrivals, what has survived a search is not looked at again; before that nothing changes."""
    watched = Collector(lambda: census.arrived, lambda: census.present)
    watched.start()
    try:
        before = gc.get_freeze_count()
        assert before > 0
        kept = [[index] for index in range(5000)]
        census.arrived = collector.WAVE - 1
        gc.collect(1)
        assert gc.get_freeze_count() <= before
        census.arrived = collector.WAVE
        gc.collect(1)
        assert gc.get_freeze_count() >= before + len(kept) // 2
    finally:
        watched.stop()
        watched.stop()


async def test_what_was_set_aside_is_reviewed(census: Census) -> None:
    """A cycle that was set aside while it lived is found once few are connected, not while there are many."""
    watched = Collector(lambda: census.arrived, lambda: census.present)
    watched.start()
    try:
        cycle: list[object] = []
        cycle.append(cycle)
        seen = _finalized(cycle)
        census.arrived, census.present = collector.REVIEW, collector.FEW + 1
        gc.collect(1)
        del cycle
        gc.collect()
        assert not seen.is_set()
        census.arrived, census.present = 2 * collector.REVIEW, collector.FEW
        gc.collect(1)
        async with asyncio.timeout(5):
            await seen.wait()
    finally:
        watched.stop()


def _finalized(cycle: list[object]) -> asyncio.Event:
    """Set when the cycle is freed."""
    event = asyncio.Event()

    class Witness:
        def __del__(self) -> None:
            event.set()

    cycle.append(Witness())
    return event
