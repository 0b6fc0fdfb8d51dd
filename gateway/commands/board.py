"""What `mainstem tail` shows of a stream: a row per task that moves, a line for what is over. Pure.

Must not know the terminal beyond its width and height, nor where events come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gateway.commands import text
from mainstem_client import Event, Task

#: Tasks that are remembered; beyond it the one that was heard of least lately is forgotten.
MOST = 5000

_COLORS = {
    "succeeded": "32", "failed": "31", "cancelled": "33", "deleted": "33", "running": "36", "dispatched": "34",
    "connected": "32", "disconnected": "33", "gap": "33", "finished": "32",
}  # fmt: skip
_SIGNS = {"succeeded": "✓", "failed": "✗", "cancelled": "−", "deleted": "−"}
#: Rows of running tasks come before those that wait.
_ORDER = {"running": 0, "dispatched": 1, "queued": 2, "pending": 3}


@dataclass(slots=True)
class _Row:
    task: Task
    step: str
    number: int


@dataclass(slots=True)
class Board:
    """The tasks that are under way.

    Attributes:
        color: lines and rows have colours (SGR).
    """

    color: bool = True
    _rows: dict[str, _Row] = field(default_factory=dict)
    _numbers: int = 0

    def take(self, event: Event) -> bool:
        """Takes an event in; whether a line is due: something is over, or has no progress to show in a row."""
        task = event.task
        if task is None:
            return event.type.startswith("source.")
        row = self._rows.pop(task.key, None)
        if task.finished or task.status == "unknown":
            return event.type != "task.snapshot"
        if row is None:
            self._numbers += 1
            row = _Row(task, "", self._numbers)
        row.task, row.step = task, _step(event) or row.step
        self._rows[task.key] = row  # put back at the end: the dict's order is the order of news
        if len(self._rows) > MOST:
            del self._rows[next(iter(self._rows))]
        return False

    def clear(self) -> None:
        """Forgets every task: current states are about to come."""
        self._rows.clear()

    def rows(self, width: int, height: int) -> list[str]:
        """At most `height` lines of at most `width` columns."""
        rows = sorted(self._rows.values(), key=lambda row: (_ORDER.get(row.task.status, 9), row.number))
        shown = rows if len(rows) <= height else rows[: max(height - 1, 0)]
        lines = [self._row(row, width) for row in shown]
        if len(shown) < len(rows) and height > 0:
            lines.append(text.cut(f"… and {len(rows) - len(shown)} more", width))
        return lines

    def _row(self, row: _Row, width: int) -> str:
        task = row.task
        room = 20 if width >= 100 else 12 if width >= 64 else 6 if width >= 40 else 0
        percent = "" if task.progress is None else f"{task.progress:.0f}%"
        right = f" {percent:>4} {task.status:<10}"
        step = 20 if width >= 119 else 0
        over = width - room - len(right) - step - 1
        if over < 8:
            return text.cut(f"{percent:>4} {task.id}", width)
        left = task.id
        if over >= 60:
            left = f"{text.fit(task.source, 10)} {text.fit(task.name or task.kind or '', 18)} {task.id}"
        elif over >= 30:
            left = f"{text.cut(task.source, 10)} {task.id}"
        line = f"{text.fit(left, over)} {self._tint(text.bar(task.progress, room), task.status)}{right}"
        return (line + text.cut(row.step, step)).rstrip()

    def line(self, event: Event, width: int | None = None) -> str:
        """One line about an event; `width` None: as long as it is."""
        word = event.type.partition(".")[2]
        parts = [_clock(event), f"{_SIGNS.get(word, ' ')} {text.plain(event.type):<20}"]
        if event.task is None:
            data = event.data
            parts += [text.plain(data.get("source") or event.subject or ""), text.plain(data.get("endpoint") or "")]
            parts += [text.plain(data[key]) for key in ("error", "code") if data.get(key)]
            if word == "gap":
                recovered = "state recovered" if data.get("recovered") else "not recovered"
                parts.append(text.plain(f"from {data.get('from')} to {data.get('to')}, {recovered}"))
        else:
            task = event.task
            parts += [text.fit(task.source, 10), text.fit(task.name or task.kind or "", 20), text.plain(task.id)]
            if task.progress is not None and not task.finished:
                parts.append(f"{task.progress:.0f}%")
            if task.finished and (length := _length(task)):
                parts.append(f"in {length}")
            if (error := event.error) is not None:
                parts.append(text.plain(error.get("message") or error.get("code") or ""))
        line = "  ".join(part for part in parts if part.strip()).rstrip()
        return self._tint(line if width is None else text.cut(line, width), word)

    def _tint(self, words: str, status: str) -> str:
        color = _COLORS.get(status) if self.color else None
        return words if color is None else f"\x1b[{color}m{words}\x1b[0m"


def _step(event: Event) -> str:
    detail = event.data.get("detail")
    if not isinstance(detail, Mapping):
        return ""
    return next((str(detail[key]) for key in ("step", "message") if detail.get(key)), "")


def _clock(event: Event) -> str:
    return text.plain(str(event.data.get("received_at") or event.time)[11:19])


def _length(task: Task) -> str | None:
    """How long a finished task took."""
    begin, end = task.started_at or task.created_at, task.completed_at
    if begin is None or end is None:
        return None
    try:
        seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
    except (ValueError, TypeError):
        return None
    if seconds < 0:
        return None
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
