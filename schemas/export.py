"""JSON Schemas (2020-12) of what the gateway sends, made from the models.

A `dataschema` attribute identifies the schema of an event's `data` (CloudEvents 1.0.2, section 3.1), so the schemas whose
`$id` is one describe `data`; `event` describes the whole event. Must not know how schemas are served.
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from schemas import event, problem, stream

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: `$id` of the schemas that no `dataschema` names.
EVENT_SCHEMA = "urn:mainstem:schema:event:1"
PROBLEM_SCHEMA = "urn:mainstem:schema:problem:1"


class Generator(GenerateJsonSchema):
    """Schemas without a title a field: code generators make a type of its own of each."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _finished(schema: dict[str, Any], identifier: str, title: str) -> dict[str, Any]:
    body = {key: value for key, value in schema.items() if key != "title"}
    return {"$schema": DIALECT, "$id": identifier, "title": title, **body}


def _of(model: type[BaseModel], identifier: str, title: str) -> dict[str, Any]:
    schema = model.model_json_schema(mode="serialization", schema_generator=Generator)
    return _finished(schema, identifier, title)


def _case(kind: dict[str, Any], model: type[BaseModel], otherwise: dict[str, Any]) -> dict[str, Any]:
    return {
        "if": {"properties": {"type": kind}, "required": ["type"]},
        "then": {"$ref": f"#/$defs/{model.__name__}"},
        "else": otherwise,
    }


def _event() -> dict[str, Any]:
    """Whole events: a task event, a notice about a source, an endpoint or of the stream, or any other."""
    families = (event.TaskEvent, event.SourceEvent, event.WebhookEvent, event.StreamEvent)
    schema = TypeAdapter(
        event.TaskEvent | event.SourceEvent | event.WebhookEvent | event.StreamEvent | event.Event
    ).json_schema(mode="serialization", schema_generator=Generator)
    # The first model whose `type` fits decides, so a validator's message speaks of that one; `anyOf` would let a
    # malformed task event pass as an event of no known family.
    definitions = schema["$defs"]
    cases: dict[str, Any] = {"$ref": "#/$defs/Event"}
    for model in reversed(families):
        pattern = definitions[model.__name__]["properties"]["type"]["pattern"]
        cases = _case({"pattern": pattern}, model, cases)
    return _finished(
        {"type": "object", **cases, "$defs": definitions}, EVENT_SCHEMA, "Mainstem event (CloudEvents 1.0)"
    )


def _stream_data() -> dict[str, Any]:
    """`data` of any notice of the stream: the members of all of them, each as the notices that have it say."""
    members: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for kind, model in stream.NOTICES.items():
        properties = model.model_json_schema(mode="serialization", schema_generator=Generator)["properties"]
        for name, schema in properties.items():
            members.setdefault(name, []).append((kind, schema))
    merged: dict[str, Any] = {}
    for name, found in members.items():
        texts = [f"{kind}: {schema['description']}" for kind, schema in found if "description" in schema]
        shapes: list[dict[str, Any]] = []
        for _, schema in found:
            shape = {key: value for key, value in schema.items() if key not in ("description", "default")}
            for branch in shape.get("anyOf", [shape]):
                if branch not in shapes:
                    shapes.append(branch)
        merged[name] = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
        merged[name] |= {"description": "; ".join(texts)} if texts else {}
    return {
        "type": "object",
        "description": "What the type of the notice calls for; see the AsyncAPI document.",
        "properties": merged,
        "additionalProperties": True,
    }


@cache
def documents() -> MappingProxyType[str, dict[str, Any]]:
    """Name of each schema, as in the `/schemas/<name>.json` it is served under, and the schema. Do not change them."""
    return MappingProxyType(
        {
            "event": _event(),
            "task-event": _of(event.TaskData, event.TASK_SCHEMA, "data of task.* events"),
            "source-event": _of(event.SourceData, event.SOURCE_SCHEMA, "data of source.* events"),
            "stream-event": _finished(_stream_data(), event.STREAM_SCHEMA, "data of stream.* notices"),
            "webhook-event": _of(event.WebhookData, event.WEBHOOK_SCHEMA, "data of webhook.* events"),
            "problem": _of(problem.Problem, PROBLEM_SCHEMA, "Problem details (RFC 9457)"),
        }
    )
