"""JSON of upstreams, passed on as it came: compact, and without what its upstream documents as internal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

#: What decoding JSON from anywhere can raise. A lone surrogate or a cut escape is a DecodeError; deep nesting recurses.
DECODE_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)

EXCERPT = 200


def compact(text: str) -> str:
    """The same JSON without line breaks between its tokens, so that it fits one line of an event stream.

    Raises:
        msgspec.DecodeError: it is not JSON.
    """
    if "\n" in text or "\r" in text:
        return msgspec.json.format(text, indent=-1)
    return text


def excerpt(text: str | bytes) -> str:
    """The start of something that was not understood, for the log."""
    if isinstance(text, bytes):
        text = text[: EXCERPT * 4].decode("utf-8", "replace")
    return text[:EXCERPT]


def without(value: Any, internal: Callable[[str], bool]) -> Any:
    """A decoded JSON value without the keys that are internal, at any depth."""
    if isinstance(value, dict):
        return {key: without(item, internal) for key, item in value.items() if not internal(key)}
    if isinstance(value, list):
        return [without(item, internal) for item in value]
    return value


def number(value: object) -> float | None:
    """A finite number, or None: booleans and texts are no numbers."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def percent(value: object) -> float | None:
    """Progress clamped to 0-100, or None where it is not a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0 if value < 0 else 100 if value > 100 else value
    return None


def integer(value: object) -> int | None:
    """An integer, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text(value: object) -> str | None:
    """A text that is not empty, or None."""
    return value if isinstance(value, str) and value else None
