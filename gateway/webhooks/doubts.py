"""Filters that are valid and yet can match nothing, as after a slip of the pen. Pure.

Owns what of a filter is doubtful and how that is said. Must not know where filters come from, nor refuse any: a file
outlives the gateway that it was written for, while who waits at a terminal is better refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.validation import suggest
from schemas.event import SOURCE_TYPES, TASK_TYPES, WEBHOOK_TYPES
from schemas.filter import STATUSES, Filter

_TYPES = (*TASK_TYPES, *SOURCE_TYPES, *WEBHOOK_TYPES)


def of(where: Filter, sources: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
    """What cannot match, each with its field.

    Args:
        where: the filter.
        sources: names of the sources that there are; None: not known, so any may be meant.
    """
    for status in where.status:
        if status not in STATUSES:
            yield "status", f"no task has the status {status!r}{suggest(status, STATUSES)}"
    for wanted in where.type:
        if wanted.endswith("*"):
            if not any(known.startswith(wanted[:-1]) for known in _TYPES):
                yield "type", f"no event has a type that begins with {wanted[:-1]!r}"
        elif wanted not in _TYPES:
            yield "type", f"no event has the type {wanted!r}{suggest(wanted, _TYPES)}"
    for source in where.source:
        if sources is not None and source not in sources:
            yield "source", f"there is no source {source!r}{suggest(source, sources)}"
    for task in where.task:
        source, slash, _ = task.partition("/")
        if not slash:
            yield "task", f"{task!r} is no task key: these are <source name>/<task id>"
        elif sources is not None and source not in sources:
            yield "task", f"{task!r}: there is no source {source!r}{suggest(source, sources)}"
