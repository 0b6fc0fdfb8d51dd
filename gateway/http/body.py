"""The JSON object that a request brings: strict JSON (RFC 8259) in UTF-8, no name twice, not nested without end.

Must not know what the members mean; a refusal names a member and never repeats a value.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import msgspec
from aiohttp import web

from gateway.errors import Invalid, Refused
from gateway.http import reading
from gateway.validation import suggest

#: Objects and lists inside of each other: more than anything here needs, less than what exhausts a stack.
_DEPTH = 16
#: Members of one object, and characters of a name: what is wrong with each is said, so there is an end to that.
_MEMBERS, _NAME = 256, 256


async def read(request: web.Request, known: Collection[str] | None = None) -> dict[str, Any]:
    """The object in the body of a request; an empty body is an empty object.

    Args:
        known: the names that it may have; None: whoever takes it looks at them.

    Raises:
        Invalid: a name is given twice, or is not known.
        Refused: 400, it is no JSON object; 415, it does not claim to be JSON.
    """
    text = await reading.body(request)
    if not text.strip():
        return {}
    try:
        msgspec.json.decode(text)  # refuses what the standard library lets pass: NaN, lone surrogates, other encodings
        value = json.loads(text, object_pairs_hook=_once)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Refused(400, "invalid_json", "The body is not valid JSON.") from error
    if not isinstance(value, dict):
        raise Invalid({"body": "must be an object"})
    if _is_deeper(value, _DEPTH):
        raise Refused(400, "invalid_json", "The body is nested too deeply.")
    if known is not None and (unknown := value.keys() - set(known)):
        raise Invalid({name: "unknown key" + suggest(name, sorted(known)) for name in sorted(unknown)})
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(pairs) > _MEMBERS or any(len(name) > _NAME for name in value):
        raise Invalid({"body": f"an object has at most {_MEMBERS} members, with names of at most {_NAME} characters"})
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise Invalid({name: "is given twice" for name in sorted(value) if names.count(name) > 1})
    return value


def _is_deeper(value: object, depth: int) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth < 0 or any(_is_deeper(item, depth - 1) for item in items)
