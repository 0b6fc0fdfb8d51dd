"""What commands print: columns, pairs and JSON, harmless to a terminal. Pure. Must not know what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from gateway.commands import text

#: Stands where there is nothing.
NOTHING = "-"


def cell(value: object) -> str:
    """A value on one line."""
    if value is None or value in ("", [], {}):
        return NOTHING
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    if isinstance(value, float):
        return f"{value:g}"
    return text.plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def moment(value: str | None) -> str:
    """A timestamp to the second."""
    return NOTHING if value is None else text.plain(value[:19].replace("T", " ") + "Z")


def columns(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns under a head, numbers to the right. Wide characters count as two."""
    from rich.cells import cell_len

    raw = list(rows)
    cells = [list(head), *([cell(value) for value in row] for row in raw)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    numeric = [bool(raw) and all(isinstance(value, int) for value in column) for column in zip(*raw, strict=True)]
    numeric = numeric or [False] * len(head)
    lines = (
        "  ".join(
            words.rjust(width) if right else words + " " * (width - cell_len(words))
            for words, width, right in zip(row, widths, numeric, strict=True)
        )
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def pairs(values: Iterable[tuple[str, object]]) -> str:
    """A name and a value a line."""
    items = list(values)
    width = max((len(name) for name, _ in items), default=0)
    return "\n".join(f"{name.ljust(width)}  {cell(value)}" for name, value in items)


def as_json(value: Any) -> str:
    """A value for programs, in ASCII: nothing in it is obeyed by a terminal either."""
    return json.dumps(value, indent=2)
