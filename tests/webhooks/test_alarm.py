"""The timer on the injected clock."""

from __future__ import annotations

import asyncio

from gateway.webhooks.alarm import Alarm
from tests.webhooks.fakes import ManualClock


async def test_time_that_has_passed_before_the_timer_began_to_sleep() -> None:
    """A time that is over by the time the timer's task runs is not missed."""
    clock, calls = ManualClock(), []
    alarm = Alarm(clock, lambda: calls.append(clock.monotonic()), "alarm")
    alarm.set(clock.monotonic() + 5)
    await clock.advance(6)
    await asyncio.sleep(0.01)
    assert calls == [1006]
    await alarm.close()


async def test_earliest_time_counts() -> None:
    """Of several times the earliest rings, once; a later one can be set again after it."""
    clock, calls = ManualClock(), []
    alarm = Alarm(clock, lambda: calls.append(clock.monotonic()), "alarm")
    for at in (1009, 1003, 1005):
        alarm.set(at)
        await asyncio.sleep(0)
    await clock.advance(4)
    assert calls == [1003]
    await clock.advance(10)
    assert calls == [1003]
    alarm.set(1020)
    await asyncio.sleep(0)
    await clock.advance(10)
    assert calls == [1003, 1020]
    await alarm.close()


async def test_cancelled_time_does_not_ring() -> None:
    """Nothing is left of a time that was forgotten."""
    clock, calls = ManualClock(), []
    alarm = Alarm(clock, lambda: calls.append(1), "alarm")
    alarm.set(1001)
    await asyncio.sleep(0)
    await alarm.close()
    await clock.advance(5)
    await alarm.close()
    assert calls == []
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "alarm"]
