"""JSON of upstreams, passed on as it came: compact, and without what its upstream documents as internal."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

#: What decoding JSON from anywhere can raise. A cut escape is a DecodeError; deep nesting recurses.
DECODE_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)

EXCERPT = 200

#: Escapes of UTF-16 surrogates: pairs, each of which is a character, or half a pair, which is none. An even number of
#: backslashes before them are escaped ones themselves; after an odd number they are no escapes but text.
_SURROGATES = re.compile(
    r"(?<!\\)((?:\\\\)*+)"
    r"(?:((?:\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})++)|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def decoded(text: str | bytes, decode: Callable[[str], T]) -> T:
    """What a decoder makes of an upstream's JSON, which it is given compact.

    A text that was cut in the middle of a character holds half of a surrogate pair. That is JSON (RFC 8259, section 8.2),
    and what the JSON.stringify of JavaScript writes, but no Unicode, and decoders refuse it. Then each half is taken for
    U+FFFD: a broken character must not cost the news that a task is done.

    Args:
        text: as it came; bytes are UTF-8.
        decode: called with the text, and again where that fails and there was a half to replace.

    Raises:
        one of `DECODE_ERRORS`: it is not JSON, or not what the decoder expects.
    """
    if isinstance(text, bytes):
        text = text.decode()
    try:
        return decode(compact(text))
    except msgspec.DecodeError:
        whole = _SURROGATES.sub(_whole, text)
        if whole == text:
            raise
    return decode(compact(whole))


def _whole(found: re.Match[str]) -> str:
    return found[0] if found[2] else found[1] + "\\ufffd"


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
