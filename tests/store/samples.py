"""Events, tasks and batches for the tests of the store."""

from __future__ import annotations

from gateway.store.api import BODY_HEAD, NO_SEQUENCE, SEQUENCE, Draft, LogEvent, TaskRow


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


def ids(events: list[LogEvent]) -> list[str]:
    return [event.id for event in events]


def positioned(draft: Draft, sequence: int) -> bytes:
    """The body that the log must hold."""
    return draft.body[: SEQUENCE.start] + f"{sequence:020d}".encode() + draft.body[SEQUENCE.stop :]
