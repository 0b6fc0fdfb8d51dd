"""All configured sources: started together, stopped together, otherwise strangers to each other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from adapters.api import Adapter
from gateway.clock import Clock
from gateway.errors import Refused
from gateway.metrics import Metrics
from gateway.store.api import Store
from gateway.upstream.intake import Intake
from gateway.upstream.limits import Limits
from gateway.upstream.supervisor import Supervisor
from gateway.upstream.tapped import Tap


class Sources:
    """One supervisor per enabled source."""

    def __init__(
        self,
        adapters: Sequence[Adapter[Any]],
        intake: Intake,
        store: Store,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        limits: Limits | None = None,
        tap: Tap | None = None,
    ) -> None:
        self._adapters = {adapter.config.name: adapter for adapter in adapters}
        self._supervisors = {
            name: Supervisor(adapter, intake, store, clock, rng, metrics, limits, tap)
            for name, adapter in self._adapters.items()
            if adapter.config.enabled
        }

    async def start(self) -> None:
        """Starts every source; none waits for a connection of another.

        Raises:
            StoreError: what is kept across restarts cannot be read.
        """
        for supervisor in self._supervisors.values():
            await supervisor.start()

    async def stop(self) -> None:
        """Closes every connection; bounded, idempotent. The intake must still be there: it is told of each close."""
        await asyncio.gather(*(supervisor.stop() for supervisor in self._supervisors.values()))

    def get(self, name: str) -> Supervisor:
        """The supervisor of a source.

        Raises:
            Refused: no such source, or it is disabled.
        """
        if name not in self._adapters:
            raise Refused(404, "unknown_source", f"no source is called {name}")
        if name not in self._supervisors:
            raise Refused(409, "source_disabled", f"source {name} is disabled")
        return self._supervisors[name]

    def names(self) -> list[str]:
        """Of the enabled sources, as configured."""
        return list(self._supervisors)

    def status(self) -> list[dict[str, Any]]:
        """For `GET /v1/sources`: every configured source."""
        return [
            self._supervisors[name].status() if name in self._supervisors else _disabled(adapter)
            for name, adapter in self._adapters.items()
        ]

    def trouble(self) -> dict[str, str]:
        """Sources that are not ready for good, and why; an empty mapping lets `/readyz` be green."""
        found = {name: supervisor.trouble for name, supervisor in self._supervisors.items()}
        return {name: why for name, why in found.items() if why is not None}

    def watches(self) -> list[dict[str, Any]]:
        """For `GET /v1/watches`: the single-task watches of every source."""
        return [watch for supervisor in self._supervisors.values() for watch in supervisor.watches()]


def _disabled(adapter: Adapter[Any]) -> dict[str, Any]:
    return {
        "name": adapter.config.name,
        "adapter": adapter.config.adapter,
        "enabled": False,
        "state": "disabled",
        "streams": [],
        "last_frame_at": None,
        "reconnects": 0,
        "gaps": 0,
        "error": None,
    }
