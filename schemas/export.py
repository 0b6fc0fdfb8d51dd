"""JSON Schemas (2020-12) of what the gateway sends, made from the models.

A `dataschema` attribute identifies the schema of an event's `data` (CloudEvents 1.0.2, section 3.1), so the schemas whose
`$id` is one describe `data`; `event` describes the whole event. Must not know how schemas are served.
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter

from schemas import event, problem

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: `$id` of the schemas that no `dataschema` names.
EVENT_SCHEMA = "urn:mainstem:schema:event:1"
PROBLEM_SCHEMA = "urn:mainstem:schema:problem:1"


class StreamData(event.Model):
    """`data` of a `stream.*` notice: what the type of the notice calls for."""

    id: str | None = Field(default=None, description="the subscription; `default` for the one that the URL asks for")
    session: str | None = Field(default=None, description="stream.opened: name of the connection")
    sequence: event.Sequence | None = Field(default=None, description="position in the log that the notice speaks of")
    epoch: str | None = Field(default=None, description="stream.opened: name of the log, part of a resume position")
    scope: str | None = Field(default=None, description="stream.opened: scopes of the connection, space-separated")
    resume: str | None = Field(default=None, description="stream.subscribed: live, replayed, snapshot or reset")
    code: str | int | None = Field(default=None, description="stream.error: short constant for programs")
    message: str | None = Field(default=None, description="stream.error: for a person")
    task: str | None = Field(default=None, description="stream.conflated: key of the task")
    skipped: int | None = Field(default=None, description="stream.conflated: how many progress events were folded away")
    reason: str | None = Field(default=None, description="stream.closing: why")
    reconnect_after_ms: float | None = Field(default=None, description="stream.closing: when to come back")


def _finished(schema: dict[str, Any], identifier: str, title: str) -> dict[str, Any]:
    body = {key: value for key, value in schema.items() if key != "title"}
    return {"$schema": DIALECT, "$id": identifier, "title": title, **body}


def _of(model: type[BaseModel], identifier: str, title: str) -> dict[str, Any]:
    return _finished(model.model_json_schema(mode="serialization"), identifier, title)


def _event() -> dict[str, Any]:
    """Whole events: a task event, a notice about a source, an endpoint or of the stream, or any other."""
    families = (event.TaskEvent, event.SourceEvent, event.WebhookEvent, event.StreamEvent)
    schema = TypeAdapter(
        event.TaskEvent | event.SourceEvent | event.WebhookEvent | event.StreamEvent | event.Event
    ).json_schema(mode="serialization")
    # The first model whose `type` fits decides, so a validator's message speaks of that one; `anyOf` would let a
    # malformed task event pass as an event of no known family.
    definitions = schema["$defs"]
    cases: dict[str, Any] = {"$ref": "#/$defs/Event"}
    for model in reversed(families):
        pattern = definitions[model.__name__]["properties"]["type"]["pattern"]
        cases = {
            "if": {"properties": {"type": {"pattern": pattern}}, "required": ["type"]},
            "then": {"$ref": f"#/$defs/{model.__name__}"},
            "else": cases,
        }
    return _finished(
        {"type": "object", **cases, "$defs": definitions}, EVENT_SCHEMA, "Mainstem event (CloudEvents 1.0)"
    )


@cache
def documents() -> MappingProxyType[str, dict[str, Any]]:
    """Name of each schema, as in the `/schemas/<name>.json` it is served under, and the schema. Do not change them."""
    return MappingProxyType(
        {
            "event": _event(),
            "task-event": _of(event.TaskData, event.TASK_SCHEMA, "data of task.* events"),
            "source-event": _of(event.SourceData, event.SOURCE_SCHEMA, "data of source.* events"),
            "stream-event": _of(StreamData, event.STREAM_SCHEMA, "data of stream.* notices"),
            "webhook-event": _of(event.WebhookData, event.WEBHOOK_SCHEMA, "data of webhook.* events"),
            "problem": _of(problem.Problem, PROBLEM_SCHEMA, "Problem details (RFC 9457)"),
        }
    )
