"""Text from upstreams on a terminal: made harmless, made to fit. Pure.

Names of tasks, steps and errors are whatever an upstream says. A terminal obeys control characters (C0, C1: cursor
movement, window titles, clipboard writes), and bidirectional overrides make a line read as another one: none of them is
ever written.
"""

from __future__ import annotations

import re
import unicodedata

#: Categories (Unicode, 4.5) that are no glyphs: control, format, surrogate, line and paragraph separator.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Characters of a text that are looked at at all: more than the longest setting, a URL, has.
_MOST = 4000
#: Marks in a row on one letter that are shown.
_MARKS = 2

#: What JSON lets stand unescaped and a terminal obeys, or cannot be encoded: DEL, C1, format, separators, surrogates.
_RAW = re.compile(
    "[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def plain(text: object) -> str:
    """A text on one line, without anything that a terminal would obey; what is taken out shows as U+FFFD.

    The one rule for whatever commands print of what others said.
    """
    whole = str(text)
    shown: list[str] = []
    marks = 0
    for char in whole[:_MOST]:
        category = unicodedata.category(char)
        marks = marks + 1 if category.startswith("M") else 0
        if marks <= _MARKS:
            shown.append(" " if char in "\t\n\r" else "\ufffd" if category in _UNSEEN else char)
    return "".join(shown) + ("…" if len(whole) > _MOST else "")


def fit(text: object, width: int) -> str:
    """Exactly so many columns of a plain text: cut with an ellipsis, or filled with blanks. Wide characters count as two."""
    from rich.cells import cell_len, set_cell_size  # here: not every command that makes text harmless also cuts it

    clean = plain(text)
    if cell_len(clean) > width:
        return set_cell_size(clean, width - 1) + "…" if width > 0 else ""
    return set_cell_size(clean, width)


def cut(text: object, width: int) -> str:
    """At most so many columns of a plain text."""
    return fit(text, width).rstrip()


def json_line(text: str) -> str:
    """One line of JSON, the same value, without characters that a terminal would obey."""
    return _RAW.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return "".join(f"\\u{unit:04x}" for unit in _units(match.group()))


def _units(char: str) -> list[int]:
    """UTF-16 code units: how JSON writes what lies beyond the first plane."""
    data = char.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[index : index + 2]) for index in range(0, len(data), 2)]


def bar(progress: float | None, width: int) -> str:
    """A bar of so many columns; dots where the progress is not known."""
    if progress is None:
        return "·" * width
    eighths = round(min(max(progress, 0.0), 100.0) / 100 * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "")).ljust(width, "░")
