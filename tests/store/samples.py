"""Events, tasks and batches for the tests of the store."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.store.api import BODY_HEAD, NO_SEQUENCE, SEQUENCE, Draft, LogEvent, Store, TaskRow
from schemas.filter import Filter


def body(text: str = "") -> bytes:
    return BODY_HEAD + NO_SEQUENCE.encode() + b'","data":"' + text.encode() + b'"}'


def draft(
    id: str,
    *,
    type: str = "task.progressed",
    source: str | None = "studio",
    task: str | None = "studio/1",
    kind: str | None = "render",
    status: str | None = "running",
    received: float = 1000.0,
    text: str = "",
) -> Draft:
    return Draft(id, type, source, task, kind, status, received, body(text or id))


def task(
    id: str,
    *,
    source: str = "studio",
    kind: str | None = "render",
    status: str = "running",
    finished: bool = False,
    created_at: str | None = "2026-01-01T00:00:00Z",
    stream: str | None = "all",
    updated: float = 1000.0,
    state: bytes = b"{}",
) -> TaskRow:
    return TaskRow(source, id, kind, status, finished, created_at, stream, updated, state)


async def read(
    store: Store, after: int, limit: int, where: Sequence[Filter] = (), upto: int | None = None
) -> list[LogEvent]:
    """Events page after page, up to a limit, as everybody reads them who needs more than a page; and that pages are such."""
    found: list[LogEvent] = []
    end = max(after, store.head if upto is None else min(upto, store.head), 0)
    while len(found) < limit and after < end:
        page = await store.read(after, limit - len(found), where, upto)
        positions = [event.sequence for event in page.events]
        assert positions == sorted(set(positions))
        assert all(after < position <= page.reached for position in positions)
        assert len(positions) <= limit - len(found)
        assert page.reached == end or (positions and page.reached < end)
        found += page.events
        after = page.reached
    return found


def ids(events: list[LogEvent]) -> list[str]:
    return [event.id for event in events]


def positioned(draft: Draft, sequence: int) -> bytes:
    """The body that the log must hold."""
    return draft.body[: SEQUENCE.start] + f"{sequence:020d}".encode() + draft.body[SEQUENCE.stop :]
