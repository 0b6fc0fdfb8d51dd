"""What the gateway sends, as objects: one CloudEvents 1.0 event, and the task that it is about.

Reads leniently: keys that this version does not know are in `data`, and nothing but the frame of an event is required, so
that a newer gateway does not break an older program. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Statuses in which a task will not move again, unless its upstream runs it once more.
FINISHED = frozenset({"succeeded", "failed", "cancelled", "deleted"})


@dataclass(frozen=True, slots=True)
class Task:
    """A task's state after an event; None where the gateway does not know. Times are RFC 3339 UTC."""

    key: str
    id: str
    source: str
    adapter: str
    status: str
    kind: str | None = None
    name: str | None = None
    native_status: str | None = None
    progress: float | None = None
    attempt: int | None = None
    created_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None

    @property
    def finished(self) -> bool:
        """It has succeeded or failed, or was cancelled or deleted."""
        return self.status in FINISHED


_TASK_FIELDS = tuple(Task.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        id: the same for the same occurrence, however often it is heard of: what to de-duplicate on.
        type: `task.progressed`, `source.gap`, ...
        source: where it comes from, `/<adapter>/<source name>`.
        subject: the upstream's task id, or the source's name.
        time: when it happened, RFC 3339 UTC.
        sequence: its position in the gateway's log.
        data: everything else, as in the contract: `detail`, `input`, `result`, `error`, `origin`, `changed`, `native`, ...
        task: the task after the event; None on `source.*` and `stream.*`.
        text: the event as it was received, one line of JSON.
    """

    id: str
    type: str
    source: str
    time: str
    sequence: int
    data: Mapping[str, Any] = field(repr=False)
    subject: str | None = None
    task: Task | None = None
    text: str = field(default="", repr=False, compare=False)

    @property
    def in_log(self) -> bool:
        """It has a place in the gateway's log, which a program can resume after. Snapshots and notices have none."""
        return not self.type.startswith("stream.") and self.type != "task.snapshot"

    @property
    def result(self) -> Any:
        """What the task has brought forth."""
        return self.data.get("result")

    @property
    def error(self) -> Mapping[str, Any] | None:
        """Why the task failed: `code`, `message`, `suggestion`."""
        error = self.data.get("error")
        return error if isinstance(error, Mapping) else None


def parse(text: str) -> Event:
    """One text message of the stream.

    Raises:
        ValueError: it is not an event.
    """
    try:
        value = json.loads(text)
        data = value["data"]
        task = data.get("task") if value["type"].startswith("task.") else None
        return Event(
            id=value["id"],
            type=value["type"],
            source=value["source"],
            time=value["time"],
            sequence=int(value["sequence"]),
            data=data,
            subject=value.get("subject"),
            task=None if task is None else Task(**{name: task[name] for name in _TASK_FIELDS if name in task}),
            text=text,
        )
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not an event of the gateway: {type(error).__name__}") from None
