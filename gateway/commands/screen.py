"""A terminal with rows at its bottom that are drawn anew, and lines that scroll away above them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from typing import TextIO

_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"
#: Lines are not wrapped while drawing: what was measured in columns stays that many lines, whatever a terminal thinks of a
#: character's width. Terminals that know it take the whole as one frame (mode 2026).
_BEGIN, _END = "\x1b[?2026h\x1b[?7l", "\x1b[?7h\x1b[?2026l"


def wants_color(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether colours are welcome: a terminal, and no `NO_COLOR` (no-color.org)."""
    return is_terminal(stream, environ) and not environ.get("NO_COLOR")


def is_terminal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the cursor can be moved."""
    return stream.isatty() and environ.get("TERM") != "dumb"


class Screen:
    """Draws on a terminal. Close it, so that the cursor is seen again.

    Args:
        stream: the terminal.
        rows: the rows, given the columns and lines that there are for them.
    """

    def __init__(self, stream: TextIO, rows: Callable[[int, int], list[str]]) -> None:
        self._stream = stream
        self._rows = rows
        self._drawn = 0
        self._waiting: list[str] = []
        self._put(_HIDE)

    @property
    def width(self) -> int:
        """Columns; the last one stays free, because some terminals wrap there."""
        return max(self._size().columns - 1, 1)

    def add(self, line: str) -> None:
        """A line that scrolls away, with the next `draw`."""
        self._waiting.append(line)

    def draw(self) -> None:
        """Brings the terminal up to date."""
        rows = self._rows(self.width, max(self._size().lines - 1, 0))
        lines, self._waiting = self._waiting, []
        self._put(_BEGIN + self._erase() + "".join(f"{line}\n" for line in (*lines, *rows)) + _END)
        self._drawn = len(rows)

    def close(self) -> None:
        """Leaves the lines, takes the rows away. Idempotent."""
        lines, self._waiting = self._waiting, []
        self._put(self._erase() + "".join(f"{line}\n" for line in lines) + _SHOW)
        self._drawn = 0

    def _erase(self) -> str:
        return f"\x1b[{self._drawn}A\x1b[J" if self._drawn else "\r"

    def _size(self) -> os.terminal_size:
        """Columns and lines; what the terminal does not say (a serial line, ssh without a size) as is usual, 80 and 24."""
        try:
            columns, lines = os.get_terminal_size(self._stream.fileno())
        except OSError:
            columns, lines = 0, 0
        usual = shutil.get_terminal_size()
        return os.terminal_size((columns or usual.columns, lines or usual.lines))

    def _put(self, data: str) -> None:
        self._stream.write(data)
        self._stream.flush()
