"""What the upstream room hands its findings to.

Owns the protocol alone. Who implements it, and what becomes of an observation (task state, duplicates, the log), is not
known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from adapters.api import Observation, Stream


class Intake(Protocol):
    """The way into the log. What is handed over is taken in the order of the calls."""

    async def submit(
        self,
        source: str,
        stream: Stream,
        items: Sequence[Observation],
        *,
        received: float,
        cursor: dict[str, Any] | None = None,
    ) -> None:
        """Takes what one frame said, with the cursor that covers it; `items` may be empty where only the cursor moved.

        Waits while the log is behind: the caller reads nothing more from its socket meanwhile.
        """

    async def notice(self, source: str, adapter: str, kind: str, data: dict[str, object], /) -> None:
        """Takes a notice (`source.connected`, ...); fills `source` and `adapter` into `data`, gives it an id and a time."""

    async def flush(self) -> None:
        """Returns when everything taken so far is committed."""

    async def remember(self, source: str, key: str, value: dict[str, Any] | None, /) -> None:
        """Keeps a small fact in the row of `Store.cursors(source)` with this key; None removes it."""

    def attached(self, source: str, stream_key: str, up: bool) -> None:
        """A stream of a source is connected, or gone."""
