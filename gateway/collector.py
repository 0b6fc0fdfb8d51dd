"""Collector: keeps the search for garbage short while thousands of connections live.

A full search looks at everything that lives, some 60 objects a connection, and nothing else runs meanwhile: a quarter of a
second at 5,000 connections. So what has survived two searches while connections came is set aside (`gc.freeze`): later
searches do not look at it. Reference counts still free it, and the end of a connection leaves no cycles behind, so nothing
is lost by that; what might be is fetched back now and then while few are connected. Must not know what a connection is.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

#: Allocations between two searches among the youngest, and how many of those make one among what survived the first:
#: about 3,000 objects, two milliseconds. The last value is Python's own.
THRESHOLDS = (700, 4, 10)
#: Connections that have come since the last time make it worth setting aside what survived.
WAVE = 25
#: After so many have come, and while at most so many are there, what was set aside is looked at again.
REVIEW, FEW = 10_000, 1_000


class Collector:
    """Sets aside what has come to stay.

    Args:
        arrived: how many connections there have been.
        present: how many there are.
    """

    def __init__(self, arrived: Callable[[], int], present: Callable[[], int]) -> None:
        self._arrived = arrived
        self._present = present
        self._frozen_at = 0
        self._reviewed_at = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thresholds = gc.get_threshold()

    def start(self) -> None:
        """Sets aside all that was made until now, and watches from now on."""
        self._loop = asyncio.get_running_loop()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)
        gc.callbacks.append(self._watch)

    def stop(self) -> None:
        """Leaves everything as it was. Idempotent."""
        if self._watch in gc.callbacks:
            gc.callbacks.remove(self._watch)
            gc.set_threshold(*self._thresholds)
            gc.unfreeze()

    def _watch(self, phase: str, info: dict[str, Any]) -> None:
        """Called by Python around every search."""
        if phase != "stop" or info["generation"] != 1:
            return
        arrived = self._arrived()
        if arrived - self._frozen_at < WAVE:
            return
        self._frozen_at = arrived
        gc.freeze()
        if arrived - self._reviewed_at >= REVIEW and self._present() <= FEW and self._loop is not None:
            self._reviewed_at = arrived
            self._loop.call_soon(self._review)  # not from within a search

    def _review(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
