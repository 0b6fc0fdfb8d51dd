"""OpenAPI 3.1: every resource of the HTTP API, what it takes, what it answers, and the webhooks it sends.

Rendered from `operations` and the models. Must not know how the document is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.http import reading
from gateway.http.operations import ALWAYS, GUARDED, JSON, OPERATIONS, UNKNOWN, Answer, Operation
from gateway.http.route import OPEN
from gateway.webhooks.config import EndpointConfig
from schemas import asyncapi, examples, resources
from schemas.export import Generator
from schemas.filter import STATUSES, Filter
from schemas.problem import MEDIA_TYPE, TYPE_PREFIX, Problem

_REF: Final = "#/components/"
#: Refusals that say when to try again.
_DELAYED: Final = frozenset({429, 503})

_ABOUT: Final = """\
Errors are problem details (RFC 9457): `code` is for programs, `detail` for people, `errors` names fields and parameters.

Lists answer `items` and `next`, to be passed as `cursor` for the next page. Under `/v1`, a parameter that a resource does not
know is refused (`unknown_parameter`): a misspelt filter would otherwise be answered with everything. The stream, whose URL
clients and proxies add to, tells of it and goes on. Members of an answer that a client does not know are to be ignored.

Every GET but the stream's answers HEAD, too. `/healthz`, `/readyz` and `/metrics` need no token; the documents
(`/openapi.json`, `/asyncapi.json`, `/schemas/`) need one, of whatever scope. With `auth.mode: none` nothing does."""

_TAGS: Final = {
    "tasks": "Current states.",
    "events": "What happened, in order.",
    "sources": "The upstreams.",
    "watches": "Single tasks that are watched beside what the configuration asks for.",
    "webhooks": "Endpoints that events are posted to.",
    "deliveries": "Events on their way to endpoints.",
    "documents": "Machine-readable descriptions.",
    "operations": "Open to all, without a token.",
}

_PATHS: Final = {
    "source": "name of the source",
    "id": "id: of a task as its upstream writes it, or of a delivery",
    "name": "name of the endpoint, or of the schema",
}


def _parameters() -> dict[str, Any]:
    """Every parameter of a query by its name."""

    def of(name: str, text: str, schema: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return {"name": name, "in": "query", "description": text, "schema": dict(schema), **more}

    words = {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[^,]+$"}}
    query = asyncapi.stream_query()["properties"]
    found = {
        name: of(name, f"{item.description}; comma-separated or repeated", words, style="form", explode=False)
        for name, item in Filter.model_fields.items()
    }
    found["status"]["schema"] = {**words, "items": {"type": "string", "enum": [*STATUSES]}}
    # `**` would be a wildcard in the middle, which is refused
    found["type"]["schema"] = {**words, "items": {"type": "string", "pattern": r"^([^*,]+\*?|\*)$"}}
    found |= {
        name: of(name, query[name]["description"], {k: v for k, v in query[name].items() if k != "description"})
        for name in ("after", "snapshot", "subscribe", "token")
    }
    # The read API takes an empty position for none, so that a loop can begin with one.
    position = {"type": "string", "pattern": r"^(([A-Za-z0-9_-]{1,64}:)?[0-9]{1,20})?$"}
    found["position"] = of("after", "read after this position, `<sequence>` or `<epoch>:<sequence>`", position)
    limit = {"type": "integer", "minimum": 1, "maximum": reading.LIMIT, "default": reading.DEFAULT_LIMIT}
    found["limit"] = of("limit", "most items of a page", limit)
    found["cursor"] = of("cursor", "`next` of an earlier answer", {"type": "string"})
    found["state"] = of("state", "only those", {"type": "string", "enum": ["pending", "delivered", "dead", "skipped"]})
    return found


def _schemas() -> dict[str, Any]:
    models: list[tuple[type[BaseModel], Any]] = [(Problem, "serialization"), (resources.EndpointAbout, "serialization")]
    for operation in OPERATIONS:
        models += [(answer.model, "serialization") for answer in operation.answers.values() if answer.model is not None]
        if operation.body is not None and operation.body is not EndpointConfig:
            models.append((operation.body, "validation"))
    unique = list(dict.fromkeys(models))
    _, document = models_json_schema(unique, ref_template=_REF + "schemas/{model}", schema_generator=Generator)
    schemas: dict[str, Any] = document["$defs"]
    # The API refuses keys that it does not know; what consumers send is checked more strictly than what they get.
    for operation in OPERATIONS:
        if operation.body is not None and operation.body.__name__ in schemas:
            schemas[operation.body.__name__]["additionalProperties"] = operation.path == "/v1/watches"
    schemas["WatchRequest"]["anyOf"] = [{"required": ["task_id"]}, {"required": ["created"]}]
    about = schemas.pop("EndpointAbout")
    return schemas | _endpoint_inputs() | _endpoint_answers(about)


def _endpoint_inputs() -> dict[str, Any]:
    """What creates an endpoint, where the secret may be left out, and what changes one."""
    whole = EndpointConfig.model_json_schema(mode="validation", schema_generator=Generator)
    properties = whole["properties"]
    for name in Filter.model_fields:
        word = {"type": "string", "minLength": 1}
        properties[name] = {"anyOf": [word, {**properties[name], "items": word}]} | {
            "description": properties[name].pop("description"), "default": properties[name].pop("default"),
        }  # fmt: skip
    create = {
        **whole,
        "description": "Settings of a new endpoint.",
        "required": [name for name in whole["required"] if name != "secret"],
    }
    headers = properties["headers"]  # a merge patch reaches into it
    changes = {**headers, "additionalProperties": {"anyOf": [headers["additionalProperties"], {"type": "null"}]}}
    patch = {
        "type": "object",
        "description": "Settings to change; null returns one to its default, and takes a header out.",
        "additionalProperties": False,
        "properties": {
            name: schema
            if name in whole["required"]
            else {"anyOf": [{key: value for key, value in schema.items() if key != "default"}, {"type": "null"}]}
            for name, schema in (properties | {"headers": changes}).items()
            if name != "name"
        },
    }
    return {"EndpointSettings": create, "EndpointChange": patch}


def _endpoint_answers(about: dict[str, Any]) -> dict[str, Any]:
    """An endpoint as it is answered: its settings without the secret, and what stands beside them."""
    settings = EndpointConfig.model_json_schema(mode="serialization", schema_generator=Generator)
    properties = {name: schema for name, schema in settings["properties"].items() if name != "secret"}
    properties["headers"] = {
        "type": "object", "additionalProperties": {"type": "string"}, "description": "names are shown, values are masked",
    }  # fmt: skip
    endpoint = {
        "type": "object",
        "description": "A webhook endpoint: its settings, never its secret, and how it is doing.",
        "properties": properties | about["properties"],
        "required": [*properties, *about["required"]],
        "additionalProperties": True,
    }
    ref = {"$ref": _REF + "schemas/Endpoint"}
    secret = {"type": "string", "description": "only where it was generated, and only in this answer"}
    doubts = {
        "type": "array",
        "items": {"$ref": _REF + "schemas/FieldProblem"},
        "description": "what of the filter can match nothing, as `mainstem check` says it",
    }
    changed = {"allOf": [ref, {"type": "object", "properties": {"doubts": doubts}, "required": ["doubts"]}]}
    return {
        "Endpoint": endpoint,
        "EndpointChanged": changed,
        "EndpointCreated": {
            "allOf": [{"$ref": _REF + "schemas/EndpointChanged"}, {"type": "object", "properties": {"secret": secret}}]
        },
        "EndpointList": {
            "type": "object",
            "description": "All endpoints, ordered by name.",
            "properties": {"items": {"type": "array", "items": ref}, "next": {"type": ["string", "null"]}},
            "required": ["items", "next"],
        },
    }


def _refusal(status: int, text: str) -> dict[str, Any]:
    header = {"Retry-After": {"$ref": _REF + "headers/Retry-After"}} if status in _DELAYED else {}
    header |= {"WWW-Authenticate": {"$ref": _REF + "headers/WWW-Authenticate"}} if status == 401 else {}
    body = {"content": {MEDIA_TYPE: {"schema": {"$ref": _REF + "schemas/Problem"}}}}
    return {"description": text, **({"headers": header} if header else {}), **body}


def _answer(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.text}
    if answer.headers:
        told["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
        }
    schema = {"$ref": _REF + f"schemas/{answer.model.__name__}"} if answer.model is not None else answer.schema
    if schema is not None:
        content: dict[str, Any] = {"schema": schema}
        if answer.example is not None:
            content["example"] = answer.example
        told["content"] = {answer.media: content}
    return told


def _body_of(operation: Operation) -> dict[str, Any]:
    assert operation.body is not None
    name = operation.body.__name__
    if operation.body is EndpointConfig:
        name = "EndpointChange" if operation.patch else "EndpointSettings"
    content = {"schema": {"$ref": _REF + f"schemas/{name}"}, "example": operation.example}
    media = ("application/merge-patch+json", JSON) if operation.patch else (JSON,)
    return {"required": not operation.optional, "content": dict.fromkeys(media, content)}


def _security(scopes: tuple[str, ...] | None) -> list[dict[str, list[str]]]:
    if scopes is OPEN:
        return []
    alternatives = [[scope] for scope in scopes] or [[]]
    return [{scheme: list(needed)} for needed in alternatives for scheme in ("bearer", "query")]


def _operation(operation: Operation) -> dict[str, Any]:
    refusals = {**ALWAYS, **operation.refusals}
    if operation.scopes is not OPEN:
        refusals = {**GUARDED, **refusals}
    else:
        refusals = {403: "Pages of this origin may not call (`origin_refused`).", **refusals}
    if operation.path.startswith("/v1/") and operation.scopes is not OPEN:
        refusals[400] = " ".join(filter(None, (refusals.get(400), UNKNOWN)))
    answers = {status: _answer(answer) for status, answer in operation.answers.items()}
    answers |= {status: _refusal(status, text) for status, text in refusals.items() if status not in answers}
    names = [part.partition("}")[0] for part in operation.path.split("{")[1:]]
    parameters = [
        {"name": name, "in": "path", "required": True, "description": _PATHS[name], "schema": {"type": "string"}}
        for name in names
    ]
    parameters += [{"$ref": f"{_REF}parameters/{name}"} for name in operation.query]
    scopes = " or ".join(f"`{scope}`" for scope in operation.scopes or ())
    text = " ".join(filter(None, (operation.text, f"Needs the scope {scopes}." if scopes else "")))
    return {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        **({"description": text} if text else {}),
        "security": _security(operation.scopes),
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": _body_of(operation)} if operation.body is not None else {}),
        "responses": {str(status): answers[status] for status in sorted(answers)},
    }


def _delivery() -> dict[str, Any]:
    headers = asyncapi.webhook_headers()
    families = [{"$ref": f"{_REF}schemas/{model.__name__}"} for model in asyncapi.FAMILIES]
    return {
        "operationId": "deliverEvent",
        "summary": "An event is posted to an endpoint",
        "description": "Signed as in Standard Webhooks. At least once, in order per task: de-duplicate on `webhook-id`.",
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": schema["description"],
             "schema": {key: value for key, value in schema.items() if key != "description"}}
            for name, schema in headers["properties"].items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/cloudevents+json": {
                    "schema": {"anyOf": families},
                    "example": examples.TASK_EVENT,
                }
            },
        },
        "responses": {
            "2XX": {"description": "Delivered. The body is not read."},
            "410": {"description": "Stop: the endpoint is disabled."},
            "429": {"description": "Tried again, not before `Retry-After`."},
            "default": {"description": "Tried again on the endpoint's schedule; after that it is a dead letter."},
        },
    }  # fmt: skip


@cache
def document() -> dict[str, Any]:
    """The whole document. Do not change it."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    problem = {
        "type": TYPE_PREFIX + "invalid_parameter", "title": "Bad Request", "status": 400,
        "detail": f"limit: must be a number from 1 to {reading.LIMIT}", "instance": "/v1/tasks", "code": "invalid_parameter",
        "errors": [{"field": "limit", "detail": f"must be a number from 1 to {reading.LIMIT}"}],
    }  # fmt: skip
    schemas = _schemas()
    schemas["Problem"]["examples"] = [problem]
    used = {name for operation in OPERATIONS for name in operation.query}
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Mainstem",
            "version": "1",
            "summary": "Realtime task APIs in, one durable stream of CloudEvents and signed webhooks out.",
            "description": _ABOUT,
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{"bearer": []}, {"query": []}],
        "paths": paths,
        "webhooks": {"event": {"post": _delivery()}},
        "components": {
            "schemas": schemas,
            "parameters": {name: schema for name, schema in _parameters().items() if name in used},
            "headers": {
                "Retry-After": {"description": "seconds", "schema": {"type": "string", "pattern": r"^\d+$"}},
                "WWW-Authenticate": {"description": "RFC 6750", "schema": {"type": "string"}},
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer",
                    "description": "A JSON Web Token of the configured issuer, or a static token. The scopes of an operation "
                    "are alternatives; `admin` includes all.",
                },
                "query": {
                    "type": "apiKey", "in": "query", "name": "token", "description": "the same, where no header can be set",
                },
            },
        },
    }  # fmt: skip
