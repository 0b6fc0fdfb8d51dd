"""The configuration file described: a JSON Schema for editors, and the page for people. Both are made from the models.

A field of another type than text may also hold a reference such as `${PORT}`, because references are filled in before the
models see a value. Must not know how either is written or served.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from adapters import registry
from adapters.api import SourceConfig
from gateway.config import Settings
from schemas.export import DIALECT, Generator
from schemas.filter import FIELDS

IDENTIFIER: Final = "urn:mainstem:schema:configuration:1"

_REF: Final = "#/$defs/"
_FILLED: Final = {"type": "string", "pattern": r"\$\{[^}]+\}", "description": "filled in before it is read"}
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"))
_LENGTH: Final = "length of time"
#: Keywords that a reference would not satisfy.
_STRICT: Final = ("pattern", "enum", "const", "maxLength")


def _models() -> dict[str, dict[str, Any]]:
    configs = [registry.load(name).Config for name in registry.BUILT_IN]
    models: list[tuple[type[BaseModel], Any]] = [
        (Settings, "validation"),
        (SourceConfig, "validation"),
        *((model, "validation") for model in configs),
    ]
    _, document = models_json_schema(models, ref_template=_REF + "{model}", schema_generator=Generator)
    definitions: dict[str, dict[str, Any]] = document["$defs"]
    return definitions


def _config_of(name: str) -> str:
    return registry.load(name).Config.__name__


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a configuration file, built-in adapters with all their keys."""
    definitions = _models()
    open_fields = definitions["EndpointConfig"]["properties"]
    for name in FIELDS:  # a single value is a list of one
        field = open_fields[name]
        single = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        open_fields[name] = {**single, "description": field["description"], "default": field["default"]}
    whole = definitions.pop("Settings")
    for definition in [whole, *definitions.values()]:
        properties = definition["properties"]
        definition["properties"] = {name: _fillable(field) for name, field in properties.items()}
    sections = {}
    for name, section in whole["properties"].items():
        told = {key: value for key, value in section.items() if key in ("description", "default")}
        rest = {key: value for key, value in section.items() if key not in told}
        if name == "sources":
            rest["items"] = {"$ref": _REF + "Source"}
        sections[name] = {"anyOf": [rest, {"type": "null"}], **told}
    definitions["Source"] = _any_source(definitions)
    definitions["Filled"] = _FILLED
    return {
        "$schema": DIALECT,
        "$id": IDENTIFIER,
        "title": "Mainstem configuration",
        "description": "Text may hold ${VAR}, ${VAR:-default} and ${file:/path}.",
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
        "$defs": dict(sorted(definitions.items())),
    }


def _any_source(definitions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A source by its adapter; one of an adapter that is not built in may have any further keys."""
    foreign = {**definitions.pop("SourceConfig"), "additionalProperties": True}
    cases: dict[str, Any] = foreign
    for name in reversed(list(registry.BUILT_IN)):
        cases = {
            "if": {"properties": {"adapter": {"const": name}}, "required": ["adapter"]},
            "then": {"$ref": _REF + _config_of(name)},
            "else": cases,
        }
    words = {"anyOf": [{"enum": list(registry.BUILT_IN)}, {"type": "string"}]}
    return {"type": "object", "required": ["adapter"], "properties": {"adapter": words}, **cases}


def _fillable(field: dict[str, Any]) -> dict[str, Any]:
    """The same, and a reference wherever a reference would otherwise not do."""
    told = {key: value for key, value in field.items() if key in ("description", "default", "title")}
    shape = {key: value for key, value in field.items() if key not in told}
    branches = shape["anyOf"] if set(shape) == {"anyOf"} else [shape]
    branches = [{**branch, "items": _fillable(branch["items"])} if "items" in branch else branch for branch in branches]
    scalar = any(branch.get("type") in ("integer", "number", "boolean") for branch in branches)
    strict = any(branch.get("type") == "string" and any(key in branch for key in _STRICT) for branch in branches)
    plain = any(branch.get("type") == "string" and not any(key in branch for key in _STRICT) for branch in branches)
    if (scalar or strict) and not plain:
        branches = [*branches, {"$ref": _REF + "Filled"}]
    return {**(branches[0] if len(branches) == 1 else {"anyOf": branches}), **told}


# --- the page --------------------------------------------------------------------------------------------------------

_INTRODUCTION: Final = """\
# Configuration

Made from the code by `make documents`: every section, every key, its type, its default.
[`config.example.yaml`](../config.example.yaml) is the same by example. `mainstem check -c config.yaml` names every problem
with its key and line.

The file is YAML 1.2. Unknown and duplicate keys are errors. An empty file is valid. Relative paths start at the file.

| in any text | becomes |
| --- | --- |
| `${VAR}` | the environment variable; an error where it is not set or empty |
| `${VAR:-default}` | the same, or the default |
| `${file:/path}` | the content of a file, such as a mounted secret, without line breaks at its end |
| `$${` | a literal `${` |

Where `VAR` is not set and `VAR_FILE` is, `${VAR}` is the content of the file that `VAR_FILE` names, as container platforms
hand over secrets. To set both is an error. Inside of `{ }` and `[ ]` such text needs quotes.

A running gateway reads the file again on SIGHUP: `webhooks`, `log` and `auth` (but for its `mode`) are followed at once, every
other key that differs is named in the log and waits for a restart ([operations](operations.md#changing-the-configuration)).

A **length of time** is a number of seconds, or a number with a unit: `500ms`, `90s`, `15m`, `12h`, `7d`.

Editors that speak YAML check the file while it is written, given this first line beside a copy of
[`mainstem.schema.json`](../schemas/documents/mainstem.schema.json), which a gateway also serves at
`/schemas/mainstem.schema.json`:

```yaml
# yaml-language-server: $schema=mainstem.schema.json
```
"""


def page() -> str:
    """The reference in Markdown."""
    definitions = _models()
    parts = [_INTRODUCTION]
    for name, section in definitions["Settings"]["properties"].items():
        shape = section.get("items", section)
        if name == "sources":
            parts += _sources(definitions)
            continue
        heading = f"## `{name}`" + (" (a list)" if "items" in section else "")
        parts.append(_table(heading, definitions[shape["$ref"].removeprefix(_REF)], definitions))
        if name == "auth":
            parts.append(_table("### `auth.tokens` (a list)", definitions["StaticToken"], definitions))
    return "\n".join(parts)


def _sources(definitions: Mapping[str, Any]) -> Iterator[str]:
    common = definitions["SourceConfig"]
    yield _table("## `sources` (a list)", common, definitions)
    yield _table("### `sources[].reconnect`", definitions["Reconnect"], definitions)
    for name in registry.BUILT_IN:
        own = definitions[_config_of(name)]
        fields = {key: field for key, field in own["properties"].items() if key not in common["properties"]}
        yield _table(f"### `adapter: {name}`", {**own, "properties": fields}, definitions)


def _table(heading: str, model: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    rows = [
        f"| `{name}` | {_type(field, definitions)} | {_default(name, field, model)} | {_cell(field.get('description', ''))} |"
        for name, field in model["properties"].items()
    ]
    about = " ".join(model.get("description", "").split())
    about = about.removeprefix(heading.removeprefix("### ")).removeprefix(":").removeprefix(".").strip()
    about = about[:1].upper() + about[1:]
    return "\n".join(
        [
            heading,
            "",
            *([about, ""] if about else []),
            "| key | type | default | meaning |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if field.get("title") == _LENGTH:
        return _LENGTH
    if "$ref" in field:
        name = field["$ref"].removeprefix(_REF)
        return f"mapping: {', '.join(f'`{key}`' for key in definitions[name]['properties'])}"
    if "anyOf" in field:
        return " or ".join(_type(branch, definitions) for branch in field["anyOf"] if branch.get("type") != "null")
    if "enum" in field:
        return " or ".join(f"`{word}`" for word in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    kind = field["type"]
    if kind == "array":
        items = field["items"]
        return "list of mappings" if "$ref" in items else f"list of {_type(items, definitions)}"
    if kind == "object":
        return "mapping of text to secret text"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    return ("secret " if field.get("writeOnly") else "") + words[kind] + _bounds(field)


def _bounds(field: Mapping[str, Any]) -> str:
    low, above, high = (field.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    parts = []
    if low is not None:
        parts.append(f"from {low:g}")
    if above is not None:
        parts.append(f"over {above:g}")
    if high is not None:
        parts.append(f"up to {int(high) if high == int(high) else high}")
    return f" {' '.join(parts)}" if parts else ""


def _default(name: str, field: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    if name in model.get("required", ()):
        return "required"
    value = field.get("default")
    if value is None or value in ([], {}):
        return "-"
    if _is_length(field):
        return f"`{_length(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`[{', '.join(f'{item:g}' for item in value)}]`"
    if isinstance(value, dict):
        return f"`{{{', '.join(f'{key}: {item:g}' for key, item in value.items())}}}`"
    return f"`{value if not isinstance(value, float) else format(value, 'g')}`"


def _is_length(field: Mapping[str, Any]) -> bool:
    return field.get("title") == _LENGTH or any(branch.get("title") == _LENGTH for branch in field.get("anyOf", ()))


def _length(seconds: float) -> str:
    for unit, letter in _UNITS:
        if seconds % unit == 0:
            return f"{seconds / unit:g}{letter}"
    return f"{seconds:g}s"
