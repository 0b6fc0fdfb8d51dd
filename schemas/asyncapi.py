"""AsyncAPI 3.0: the stream, message by message, and the webhooks.

Made from the models of events, notices and commands and from the table of close codes, so that it says what they say. Must
not know how it is served.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas import event, examples, stream
from schemas.export import Generator
from schemas.filter import Filter

_REF = "#/components/schemas/"
#: What the log holds and webhooks deliver; the last one stands for families that are not known yet.
FAMILIES: tuple[type[event.Event], ...] = (event.TaskEvent, event.SourceEvent, event.WebhookEvent, event.Event)
_COMEBACK = {
    stream.Verdict.NEVER: "do not come back unchanged",
    stream.Verdict.LATER: "come back after `data.reconnect_after_ms` of `stream.closing`",
    stream.Verdict.BACKOFF: "come back with growing, random waits",
    stream.Verdict.AT_ONCE: "come back at once with `after`",
}

_STREAM = """\
One URL for everything. A WebSocket upgrade gives a WebSocket, `Accept: text/event-stream` the same events as Server-Sent
Events. Every text message is exactly one CloudEvent in JSON, the stream's own notices included; plain clients never send
anything. Coming back with `after` misses nothing that is still in the log: the position to come back with moves only with
events of the log and with `stream.synced`, never with snapshots or other notices."""

_WEBHOOKS = """\
A POST an event and endpoint, signed as in Standard Webhooks. Any 2xx is a success; 410 disables the endpoint; anything else
is tried again on the endpoint's schedule. At least once, in order per task: de-duplicate on `webhook-id`."""


def close_codes() -> str:
    """The table of close codes in Markdown: what each says, and whether to come back."""
    rows = [
        f"| {close.code} | `{close.reason}` | {_COMEBACK[close.verdict]} |"
        for close in sorted(stream.CLOSES.values(), key=lambda close: close.code)
    ]
    return "\n".join(["| close code | reason | the client should |", "| --- | --- | --- |", *rows])


def _schemas() -> dict[str, Any]:
    sent: list[type[BaseModel]] = [*FAMILIES, event.StreamEvent]
    received = list(stream.COMMANDS.values())
    inputs: list[tuple[type[BaseModel], Any]] = [
        (model, "serialization") for model in (*sent, *stream.NOTICES.values())
    ]
    inputs += [(model, "validation") for model in received]
    _, document = models_json_schema(inputs, ref_template=_REF + "{model}", schema_generator=Generator)
    schemas: dict[str, Any] = document["$defs"]
    return schemas


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF + model.__name__}


def _notice(kind: str, model: type[BaseModel]) -> dict[str, Any]:
    return {
        "name": kind,
        "title": kind,
        "summary": " ".join((model.__doc__ or "").split()),
        "payload": {
            "allOf": [
                _ref(event.StreamEvent),
                {"type": "object", "properties": {"type": {"const": kind}, "data": _ref(model)}},
            ]
        },
        "examples": [{"name": kind, "payload": examples.notice(kind)}],
    }


def _command(op: str, model: type[BaseModel]) -> dict[str, Any]:
    return {
        "name": op,
        "title": op,
        "summary": " ".join((model.__doc__ or "").split()),
        "payload": _ref(model),
        "examples": [{"name": op, "payload": examples.COMMANDS[op]}],
    }


def _messages() -> dict[str, Any]:
    return {
        "task": {
            "name": "task",
            "title": "An event of a task",
            "summary": f"Types: {', '.join(event.TASK_TYPES)}.",
            "payload": _ref(event.TaskEvent),
            "examples": [{"name": "succeeded", "payload": examples.TASK_EVENT}],
        },
        "source": {
            "name": "source",
            "title": "A notice about a source",
            "summary": f"Types: {', '.join(event.SOURCE_TYPES)}.",
            "payload": _ref(event.SourceEvent),
            "examples": [{"name": "connected", "payload": examples.SOURCE_EVENT}],
        },
        "webhook": {
            "name": "webhook",
            "title": "A notice about a webhook endpoint",
            "summary": f"Types: {', '.join(event.WEBHOOK_TYPES)}.",
            "payload": _ref(event.WebhookEvent),
            "examples": [{"name": "disabled", "payload": examples.WEBHOOK_EVENT}],
        },
        "other": {
            "name": "other",
            "title": "An event of another family",
            "summary": "None today. Clients ignore types that they do not know.",
            "payload": _ref(event.Event),
        },
        **{kind.replace(".", "_"): _notice(kind, model) for kind, model in stream.NOTICES.items()},
        **{op: _command(op, model) for op, model in stream.COMMANDS.items()},
        "delivery": {
            "name": "delivery",
            "title": "A signed event",
            "summary": "The CloudEvent, with the headers of Standard Webhooks.",
            "contentType": "application/cloudevents+json; charset=utf-8",
            "headers": webhook_headers(),
            "payload": {"anyOf": [_ref(model) for model in FAMILIES]},
            "bindings": {"http": {"bindingVersion": "0.3.0"}},
            "examples": [{"name": "succeeded", "payload": examples.TASK_EVENT}],
        },
    }


def webhook_headers() -> dict[str, Any]:
    """JSON Schema of the headers of a delivery (Standard Webhooks)."""
    return {
        "type": "object",
        "required": ["webhook-id", "webhook-timestamp", "webhook-signature"],
        "properties": {
            "webhook-id": {"type": "string", "description": "`id` of the event; the same for every attempt and replay"},
            "webhook-timestamp": {
                "type": "string",
                "pattern": r"^\d+$",
                "description": "seconds since 1970 of this attempt; refuse those that are minutes off",
            },
            "webhook-signature": {
                "type": "string",
                "pattern": r"^v1,[A-Za-z0-9+/]+={0,2}( v1,[A-Za-z0-9+/]+={0,2})*$",
                "description": "HMAC-SHA256 of `<webhook-id>.<webhook-timestamp>.<body>` in base64, one for each secret "
                "that is valid, separated by spaces; one that fits is enough",
            },
        },
    }


def stream_query() -> dict[str, Any]:
    """JSON Schema of the query of `/v1/stream`."""
    filters = {
        name: {"type": "string", "description": f"{field.description}; comma-separated or repeated"}
        for name, field in Filter.model_fields.items()
    }
    return {
        "type": "object",
        "properties": {
            **filters,
            "after": {
                "type": "string",
                "pattern": r"^([A-Za-z0-9_-]{1,64}:)?[0-9]{1,20}$",
                "description": "resume after this position, `<sequence>` or `<epoch>:<sequence>`",
            },
            "snapshot": {
                "type": "string",
                "enum": ["true", "false", "1", "0"],
                "description": "first the current state of every matching unfinished or named task, then live",
            },
            "subscribe": {"type": "string", "enum": ["none"], "description": "start without a subscription"},
            "token": {"type": "string", "description": "access token, where no header can be set"},
        },
    }


@cache
def document() -> dict[str, Any]:
    """The whole document. Do not change it."""
    messages = _messages()
    sent = ["task", "source", "webhook", "other", *(kind.replace(".", "_") for kind in stream.NOTICES)]
    channels = {
        "stream": {
            "address": "/v1/stream",
            "title": "The stream",
            "description": f"{_STREAM}\n\n{close_codes()}",
            "servers": [{"$ref": "#/servers/gateway"}],
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages if name != "delivery"},
            "bindings": {"ws": {"method": "GET", "query": stream_query(), "bindingVersion": "0.1.0"}},
        },
        "webhooks": {
            "address": None,
            "title": "Webhooks",
            "description": _WEBHOOKS,
            "messages": {"delivery": {"$ref": "#/components/messages/delivery"}},
        },
    }

    def operation(action: str, channel: str, names: list[str], summary: str) -> dict[str, Any]:
        return {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": summary,
            "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
        }

    deliver = operation("send", "webhooks", ["delivery"], "The gateway posts events to the endpoints.")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Mainstem stream and webhooks",
            "version": "1",
            "description": "Realtime task events of every upstream as CloudEvents: one stream, and signed webhooks.",
        },
        "defaultContentType": "application/cloudevents+json",
        "servers": {
            "gateway": {
                "host": "127.0.0.1:8080",
                "protocol": "ws",
                "description": "Where the gateway listens by default; behind a proxy that ends TLS it is `wss`.",
                "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in ("bearer", "query")],
            }
        },
        "channels": channels,
        "operations": {
            "sendEvents": operation("send", "stream", sent, "The gateway sends events and notices."),
            "receiveCommands": operation("receive", "stream", list(stream.COMMANDS), "A client may send commands."),
            "deliverEvents": {**deliver, "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}}},
        },
        "components": {
            "messages": messages,
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "query": {"type": "httpApiKey", "in": "query", "name": "token"},
            },
        },
    }
