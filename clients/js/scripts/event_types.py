"""TypeScript types of the events, made from the JSON Schemas that the gateway exports: prints `types/event.d.ts`.

Knows only what those schemas use; anything else is an error, so that no type silently becomes `unknown`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

from schemas import export

HEAD = """\
// Made by scripts/event_types.py from the gateway's JSON Schemas. Do not edit.
"""
TAIL = """\
/** Whatever the stream sends. `type` tells which it is. */
export type MainstemEvent = {union};
"""
#: What stands in for `data` of notices, whose schema is a document of its own.
_NOTICE = "StreamData"
_PLAIN = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null"}
_PREFIX = re.compile(r"\^([a-z]+)\\\.\[a-z_\]\+\$")

Schema = Mapping[str, Any]


def render() -> str:
    """The whole file."""
    documents = export.documents()
    definitions = dict(documents["event"]["$defs"])
    notice = {key: value for key, value in documents["stream-event"].items() if not key.startswith("$")}
    definitions[_NOTICE] = notice
    del definitions["Event"]  # an event of no known family, which no stream sends
    parts = [_definition(name, definitions[name]) for name in sorted(definitions)]
    union = " | ".join(name for name in sorted(definitions) if name.endswith("Event"))
    return "\n".join([HEAD, *parts, TAIL.format(union=union)])


def _definition(name: str, schema: Schema) -> str:
    text = _comment(schema, "")
    if schema.get("type") == "object" and "properties" in schema:
        return f"{text}export interface {name} {_members(name, schema)}\n"
    return f"{text}export type {name} = {_type(schema)};\n"


def _members(name: str, schema: Schema) -> str:
    required = set(schema.get("required", ()))
    lines = ["{"]
    for key, value in schema["properties"].items():
        shape = _NOTICE if (name, key) == ("StreamEvent", "data") else _type(value)
        lines.append(f"{_comment(value, '  ')}  {key}{'' if key in required else '?'}: {shape};")
    return "\n".join([*lines, "}"])


def _comment(schema: Schema, indent: str) -> str:
    text = schema.get("description", "")
    if not text:
        return ""
    assert "*/" not in text
    return f"{indent}/** {' '.join(text.split())} */\n"


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(option) for option in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "array":
        inner = _type(schema["items"])
        return f"({inner})[]" if "|" in inner else f"{inner}[]"
    if kind == "string" and (match := _PREFIX.fullmatch(schema.get("pattern", ""))):
        return f"`{match[1]}.${{string}}`"
    if kind in _PLAIN:
        return _PLAIN[kind]
    if not set(schema) - {"title", "description"}:
        return "unknown"  # any JSON
    if kind == "object":
        return "Record<string, unknown>"
    raise ValueError(f"no type for {schema}")


if __name__ == "__main__":
    sys.stdout.write(render())
