"""`python -m bench.unstored -c FILE`: the gateway with a log that is a list in memory, to see it without its disk.

Everything else is what `mainstem run` starts. On SIGUSR1 it says how long collections of garbage have stopped it.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from gateway import app, cli
from gateway.store.api import SEQUENCE, Batch, Committed, Deliveries, LogEvent, Page, Reach, Snapshot, TaskRow
from schemas.filter import Filter

#: Events that the list keeps.
_KEPT = 4096


class MemoryStore:
    """The parts of `gateway.store.api.Store` that a gateway without webhooks uses while nobody asks for history."""

    epoch = "0" * 12
    trouble = None

    def __init__(self, *_: object, **__: object) -> None:
        self.head = 0
        self.floor = 0
        self._events: list[LogEvent] = []
        self._rows: dict[str, TaskRow] = {}

    async def open(self) -> None:
        """See `gateway.store.api.Store`, here and below."""

    async def close(self) -> None: ...

    async def append(self, batch: Batch) -> Committed:
        events = []
        for draft in batch.drafts:
            self.head += 1
            body = b"%b%020d%b" % (draft.body[: SEQUENCE.start], self.head, draft.body[SEQUENCE.stop :])
            events.append(
                LogEvent(
                    self.head, draft.id, draft.type, draft.source, draft.task, draft.kind, draft.status,
                    draft.received, body,
                )
            )  # fmt: skip
        for row in batch.tasks:
            self._rows[row.task] = row
        self._events += events
        if len(self._events) > 2 * _KEPT:
            del self._events[:-_KEPT]
            self.floor = self._events[0].sequence - 1
        return Committed(events, [])

    async def read(self, after: int, limit: int, where: Sequence[Filter] = (), upto: int | None = None) -> Page:
        tests = [item.compile() for item in where]
        found = [event for event in self._events if event.sequence > after and all(test(event) for test in tests)]
        return Page(found[:limit], found[limit - 1].sequence if len(found) > limit else max(after, self.head))

    async def tasks(self, source: str, ids: Sequence[str]) -> list[TaskRow]:
        return [row for id in ids if (row := self._rows.get(f"{source}/{id}")) is not None]

    async def snapshot(self, *_: object, **__: object) -> Snapshot:
        return Snapshot(self.head, [], None)

    async def reach(self, source: str, stream: str | None) -> Reach:
        return Reach([], None, None)

    async def cursors(self, source: str) -> dict[str, bytes]:
        return {}

    async def positions(self) -> dict[str, int]:
        return {}

    async def endpoints(self) -> dict[str, bytes]:
        return {}

    async def deliver(self, results: Deliveries) -> None: ...

    async def trim(self, before: float, bounds: object = None) -> int:
        return 0


class Pauses:
    """How long collections of garbage have stopped the process, milliseconds."""

    def __init__(self) -> None:
        self._longest = [0.0, 0.0, 0.0]
        self._began = 0.0
        gc.callbacks.append(self._watch)
        signal.signal(signal.SIGUSR1, self._say)

    def _watch(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            spent = (time.thread_time() - self._began) * 1000
            generation = int(info["generation"])
            self._longest[generation] = max(self._longest[generation], spent)

    def _say(self, number: int, frame: FrameType | None) -> None:
        """The longest so far by generation, and what a full collection takes now; the count begins anew."""
        longest = list(self._longest)
        began = time.thread_time()
        gc.collect()
        full = (time.thread_time() - began) * 1000
        self._longest = [0.0, 0.0, 0.0]
        print(json.dumps({"event": "pauses", "longest": longest, "full": full}), flush=True)


if __name__ == "__main__":
    app.SqliteStore = MemoryStore  # type: ignore[assignment, misc]
    Pauses()
    cli.main(["run", *sys.argv[1:]])
