"""What every resource of the HTTP API takes and answers, as data: one entry a method and path.

`Route`s stay free of it: the tests hold the two against each other, scopes included. Must not know how it is rendered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from gateway.http.route import ANY_TOKEN, OPEN
from gateway.webhooks.config import EndpointConfig
from schemas import asyncapi, event, examples, resources

JSON: Final = "application/json"

#: What every guarded resource may answer, whatever it is.
GUARDED: Final = {
    401: "No token, or one that is not valid: `missing_token`, `bad_token`, `token_expired`.",
    403: "The token lacks the scope (`insufficient_scope`), or pages of this origin may not call (`origin_refused`).",
    503: "Not now: `timed_out`, `log_unavailable`, `keys_unavailable`. `Retry-After` says when to try again.",
}
#: What every resource may answer.
ALWAYS: Final = {421: "The server does not answer to this `Host` (`wrong_host`)."}
#: What every resource of `/v1` but the stream may answer.
UNKNOWN: Final = "The query has a parameter that the resource does not know (`unknown_parameter`); `errors` names it."
_BODY: Final = {
    400: "The body cannot be read, or a field of it is not valid: `invalid_json`, `invalid_body`.",
    413: "The body is larger than 1 MiB (`body_too_large`).",
    415: "The body is said to be something else than JSON (`unsupported_media_type`).",
}
_QUERY: Final = {400: "A parameter of the query is not valid (`invalid_parameter`); `errors` names it."}


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: what it means, its model, and an example. Without a model it has no body."""

    text: str
    model: type[BaseModel] | None = None
    example: Any = None
    media: str = JSON
    schema: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    Attributes:
        scopes: as in `Route.scopes`.
        query: names of parameters, of `_parameters`.
        body: model of the request's body; `optional`: it may be left out.
        refusals: what it may answer beside what every resource may.
    """

    method: str
    path: str
    id: str
    tag: str
    summary: str
    scopes: tuple[str, ...] | None
    answers: Mapping[int, Answer]
    text: str = ""
    query: tuple[str, ...] = ()
    body: type[BaseModel] | None = None
    optional: bool = False
    patch: bool = False
    example: Any = None
    refusals: Mapping[int, str] = field(default_factory=dict)


_READ: Final = ("events:read",)
_PROGRESS: Final = ("events:read:progress",)
_HOOKS: Final = ("webhooks:write",)
_FILTER: Final = ("source", "task", "kind", "status")
_PAGE: Final = ("limit", "cursor")
#: Of lists that are short.
_WHOLE: Final = "All of them, in the order of their names, unless `limit` asks for pages."
_NO_TASK: Final = "There is no such task, or it is outside of the token's bounds (`task_not_found`)."
_NO_HOOK: Final = "There is no such endpoint (`webhook_not_found`)."
_DISABLED: Final = "The endpoint is disabled (`webhook_disabled`)."
_NO_DELIVERY: Final = "There is no such delivery (`delivery_not_found`)."
_WATCH: Final = {
    "source": "studio", "task_id": examples.TASK_ID, "endpoint": f"/ws/tasks/{examples.TASK_ID}", "configured": False,
    "state": "connecting", "since": "2026-05-27T00:07:44.912Z", "error": None,
}  # fmt: skip
_SECRET: Final = {"secret": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
_ENDPOINT: Final = {
    **EndpointConfig(
        name="billing",
        url="https://billing.example.com/hooks",
        secret=SecretStr(_SECRET["secret"]),
        type=("task.succeeded", "task.failed"),
        headers={"X-Team": SecretStr("billing")},
    ).model_dump(mode="json", exclude={"secret"}),
    "origin": "api",
    "secrets": {"active": 1, "overlap_until": None, "public_key": None},
    "health": {
        "state": "delivering", "disabled": None, "failing_since": None, "breaker": "closed", "pending": 0, "in_flight": 0,
        "dead": 0, "position": examples.SEQUENCE, "lag": 0, "last_error": None, "last_error_at": None,
        "last_delivered_at": "2026-05-27T00:08:44.402Z", "paused_until": None, "replay_upto": None,
    },
}  # fmt: skip
_REPLAYED: Final = {"endpoint": "billing", "after": "00000000000000000017", "complete": True}
_DELIVERY: Final = {
    "id": "billing.42", "event_id": examples.TASK_EVENT["id"], "endpoint": "billing", "state": "pending",
    "attempts": [
        {"at": "2026-05-27T00:08:44.402Z", "status": 503, "duration_ms": 81.5, "error": "it answered 503", "response": "busy"}
    ],
    "next_attempt_at": "2026-05-27T00:08:49.731Z", "sequence": examples.SEQUENCE, "type": "task.succeeded",
    "task": examples.TASK_EVENT["partitionkey"],
}  # fmt: skip


def _component(name: str) -> dict[str, str]:
    """A schema that is made from the settings of an endpoint, and so by nobody's model."""
    return {"$ref": f"#/components/schemas/{name}"}


def _listed(*items: Any, **more: Any) -> dict[str, Any]:
    return {"items": list(items), "next": None, **more}


OPERATIONS: Final = (
    # --- tasks and events ---
    Operation(
        method="GET", path="/v1/tasks", id="listTasks", tag="tasks", scopes=_READ, query=(*_FILTER, *_PAGE),
        summary="Current states of tasks",
        text="Tasks that match the filter, finished ones included, ordered by key. States have no type, so a filter on "
        "`type` is refused.",
        answers={
            200: Answer("A page of tasks.", resources.TaskList, _listed(examples.TASK_STATE, sequence=examples.SEQUENCE))
        },
        refusals=_QUERY,
    ),
    Operation(
        method="GET", path="/v1/tasks/{source}/{id}", id="getTask", tag="tasks", scopes=_PROGRESS,
        summary="Current state of one task",
        text="A token with `events:read:progress` alone gets it redacted.",
        answers={200: Answer("The task.", resources.TaskState, examples.TASK_STATE)},
        refusals={404: _NO_TASK},
    ),
    Operation(
        method="GET", path="/v1/tasks/{source}/{id}/download", id="downloadTask", tag="tasks", scopes=_READ,
        summary="Where the asset of a task can be downloaded",
        text="Asks the upstream (Triverse) and passes the public part of its answer on.",
        answers={
            200: Answer(
                "What the upstream says.",
                example={"download_url": "https://assets.example.com/fox.glb?expires=1780000000"},
                schema={"type": "object", "additionalProperties": True},
            )
        },
        refusals={
            404: f"{_NO_TASK} Or nothing can be downloaded: `unknown_source`, `no_downloads`, `no_download`.",
            409: "The source is not enabled (`source_disabled`).",
            502: "The upstream did not answer as documented (`upstream_error`).",
            504: "The upstream did not answer in time (`upstream_timeout`).",
        },
    ),
    Operation(
        method="GET", path="/v1/events", id="listEvents", tag="events", scopes=_READ,
        query=(*_FILTER, "type", "position", *_PAGE), summary="The log, page by page",
        text="Events after a position that match the filter, oldest first; without `after`, from the oldest that is kept. To "
        "poll, pass `position` of the answer as `after`.",
        answers={
            200: Answer(
                "A page of events.",
                resources.EventList,
                _listed(examples.TASK_EVENT, position=f"{examples.EPOCH}:{examples.SEQUENCE}"),
            )
        },
        refusals={
            **_QUERY,
            410: "The position is older than the log, or of another log (`position_gone`); the member `oldest` is the one from "
            "which on everything is there.",
        },
    ),
    Operation(
        method="GET", path="/v1/stream", id="stream", tag="events", scopes=OPEN,
        query=(*_FILTER, "type", "after", "snapshot", "subscribe", "token"),
        summary="Events as they happen: WebSocket or Server-Sent Events",
        text="`/asyncapi.json` describes the messages. The token may also come as the first message of a WebSocket. A "
        "parameter that is not known changes nothing, and `stream.error` tells of it (`unknown_parameter`).\n\n"
        + asyncapi.close_codes(),
        answers={
            101: Answer("A WebSocket (RFC 6455)."),
            200: Answer("Server-Sent Events.", media="text/event-stream", schema={"type": "string"}),
        },
        refusals={
            400: "The query or the handshake cannot be read: `invalid_query`, `bad_handshake`.",
            401: GUARDED[401],
            403: "The origin or the scope does not allow it: `origin_refused`, `not_allowed`.",
            426: "Neither a WebSocket nor Server-Sent Events were asked for (`upgrade_required`).",
            429: "Too many connections (`too_many_connections`).",
            503: "Shutting down (`draining`), as many connections as there may be (`full`), or `keys_unavailable`.",
        },
    ),
    # --- sources and watches ---
    Operation(
        method="GET", path="/v1/sources", id="listSources", tag="sources", scopes=_READ, query=_PAGE,
        summary="How the connections to the upstreams are doing", text=_WHOLE,
        answers={
            200: Answer(
                "All sources.",
                resources.SourceList,
                _listed(
                    {
                        "name": "studio", "adapter": "triverse", "enabled": True, "state": "live",
                        "streams": [
                            {
                                "endpoint": "/ws/tasks/all", "state": "live", "since": "2026-05-27T00:00:00.012Z",
                                "last_frame_at": "2026-05-27T00:08:44.318Z", "reconnects": 0, "error": None,
                            }
                        ],
                        "last_frame_at": "2026-05-27T00:08:44.318Z", "reconnects": 0, "gaps": 0, "error": None,
                    }
                ),
            )
        },
    ),
    Operation(
        method="GET", path="/v1/watches", id="listWatches", tag="watches", scopes=("watches:write", "events:read"),
        query=_PAGE, summary="Watches of single tasks", text=_WHOLE,
        answers={200: Answer("All watches.", resources.WatchList, _listed(_WATCH))},
    ),
    Operation(
        method="POST", path="/v1/watches", id="startWatch", tag="watches", scopes=("watches:write",),
        summary="Watch a single task",
        text="By its id, or with the upstream's answer to its creation: then the task is known before its first frame.",
        body=resources.WatchRequest, example={"source": "studio", "task_id": examples.TASK_ID},
        answers={
            200: Answer("It was watched already.", resources.Watch, _WATCH),
            201: Answer("The watch.", resources.Watch, _WATCH, headers={"Location": "path of the watch"}),
        },
        refusals={
            **_BODY,
            404: f"{_NO_TASK} Or there is no such source (`unknown_source`).",
            409: "The source cannot do it: `source_disabled`, `no_watches`, `stopping`.",
            422: "`created` is no task creation response (`not_a_creation`).",
            429: "The source has as many watches as it may have (`too_many_watches`).",
        },
    ),
    Operation(
        method="DELETE", path="/v1/watches/{source}/{id}", id="stopWatch", tag="watches", scopes=("watches:write",),
        summary="Stop watching a single task",
        answers={204: Answer("It is not watched any more.")},
        refusals={
            404: "There is no such watch, task or source: `task_not_found`, `unknown_watch`, `unknown_source`.",
            409: "It is in the configuration file (`configured_watch`), or the source is not enabled (`source_disabled`).",
        },
    ),
    # --- webhooks ---
    Operation(
        method="GET", path="/v1/webhooks", id="listWebhooks", tag="webhooks", scopes=_HOOKS, query=_PAGE,
        summary="Webhook endpoints and how they are doing", text=_WHOLE,
        answers={200: Answer("All endpoints.", example=_listed(_ENDPOINT), schema=_component("EndpointList"))},
    ),
    Operation(
        method="POST", path="/v1/webhooks", id="createWebhook", tag="webhooks", scopes=_HOOKS,
        summary="Create an endpoint",
        text="Where no `secret` is given, one is generated and shown in this answer alone.",
        body=EndpointConfig,
        example={"name": "billing", "url": "https://billing.example.com/hooks", "type": ["task.succeeded", "task.failed"]},
        answers={
            201: Answer(
                "The endpoint.",
                example={**_ENDPOINT, "doubts": [], **_SECRET},
                schema=_component("EndpointCreated"),
                headers={"Location": "path of the endpoint"},
            )
        },
        refusals={**_BODY, 409: "There is an endpoint of this name (`webhook_exists`), or too many (`too_many_webhooks`)."},
    ),
    Operation(
        method="GET", path="/v1/webhooks/{name}", id="getWebhook", tag="webhooks", scopes=_HOOKS, summary="One endpoint",
        answers={200: Answer("The endpoint.", example=_ENDPOINT, schema=_component("Endpoint"))},
        refusals={404: _NO_HOOK},
    ),
    Operation(
        method="PATCH", path="/v1/webhooks/{name}", id="changeWebhook", tag="webhooks", scopes=_HOOKS,
        summary="Change an endpoint",
        text="A JSON merge patch (RFC 7396): null returns a setting to its default. Changes of an endpoint of the "
        "configuration file hold for as long as the file says what it said when they were made.",
        body=EndpointConfig, patch=True, optional=True, example={"enabled": False},
        answers={
            200: Answer(
                "As it is now.",
                example={**_ENDPOINT, "enabled": False, "doubts": []},
                schema=_component("EndpointChanged"),
            ),
        },
        refusals={**_BODY, 404: _NO_HOOK},
    ),
    Operation(
        method="DELETE", path="/v1/webhooks/{name}", id="deleteWebhook", tag="webhooks", scopes=_HOOKS,
        summary="Delete an endpoint",
        answers={204: Answer("It is gone.")},
        refusals={404: _NO_HOOK, 409: "It is in the configuration file (`webhook_in_file`): disable it instead."},
    ),
    Operation(
        method="POST", path="/v1/webhooks/{name}/test", id="testWebhook", tag="webhooks", scopes=_HOOKS,
        summary="Send a test event",
        text="An event of type `webhook.test`, to this endpoint only, past its filter.",
        answers={
            202: Answer(
                "Its delivery.",
                resources.Delivery,
                {**_DELIVERY, "attempts": [], "type": "webhook.test", "task": None},
                headers={"Location": "path of the delivery"},
            )
        },
        refusals={**_BODY, 404: _NO_HOOK, 409: _DISABLED},
    ),
    Operation(
        method="POST", path="/v1/webhooks/{name}/enable", id="enableWebhook", tag="webhooks", scopes=_HOOKS,
        summary="Enable an endpoint that was disabled",
        text="It gets what happens from now on; `replay` fetches the rest.",
        answers={200: Answer("The endpoint.", example=_ENDPOINT, schema=_component("Endpoint"))},
        refusals={**_BODY, 404: _NO_HOOK},
    ),
    Operation(
        method="POST", path="/v1/webhooks/{name}/rotate-secret", id="rotateSecret", tag="webhooks", scopes=_HOOKS,
        summary="Replace the secret",
        text="For `overlap` seconds deliveries carry a signature of the old secret as well.",
        body=resources.RotateRequest, optional=True, example={"overlap": 3600},
        answers={200: Answer("The new secret.", resources.Secret, _SECRET)},
        refusals={
            **_BODY,
            404: _NO_HOOK,
            409: "Ten secrets sign, and an overlap is kept (`too_many_secrets`): `detail` says when one is free.",
        },
    ),
    Operation(
        method="POST", path="/v1/webhooks/{name}/replay", id="replayWebhook", tag="webhooks", scopes=_HOOKS,
        summary="Send everything again from a position or time",
        text="Exactly one of `after` and `since`. Every delivery keeps its `webhook-id`.",
        body=resources.ReplayRequest, example={"since": "24h"},
        answers={202: Answer("From where.", resources.Replayed, _REPLAYED)},
        refusals={**_BODY, 404: _NO_HOOK, 409: _DISABLED, 410: "The position is of another log (`position_gone`)."},
    ),
    Operation(
        method="POST", path="/v1/webhooks/{name}/retry", id="retryDeadLetters", tag="webhooks", scopes=_HOOKS,
        summary="Try all dead letters of an endpoint again",
        answers={202: Answer("How many.", resources.Retried, {"endpoint": "billing", "retried": 3})},
        refusals={**_BODY, 404: _NO_HOOK, 409: _DISABLED},
    ),
    Operation(
        method="GET", path="/v1/webhooks/{name}/deliveries", id="listDeliveries", tag="deliveries", scopes=_HOOKS,
        query=("state", *_PAGE), summary="Deliveries of an endpoint",
        answers={200: Answer("A page of deliveries, newest first.", resources.DeliveryList, _listed(_DELIVERY))},
        refusals={**_QUERY, 404: _NO_HOOK},
    ),
    Operation(
        method="GET", path="/v1/deliveries/{id}", id="getDelivery", tag="deliveries", scopes=_HOOKS,
        summary="One delivery with all its attempts",
        answers={200: Answer("The delivery.", resources.Delivery, _DELIVERY)},
        refusals={404: _NO_DELIVERY},
    ),
    Operation(
        method="POST", path="/v1/deliveries/{id}/retry", id="retryDelivery", tag="deliveries", scopes=_HOOKS,
        summary="Try a delivery again, whatever came of it",
        answers={202: Answer("The delivery.", resources.Delivery, _DELIVERY)},
        refusals={**_BODY, 404: _NO_DELIVERY, 409: _DISABLED},
    ),
    # --- documents ---
    *(
        Operation(
            method="GET", path=path, id=name, tag="documents", scopes=ANY_TOKEN, summary="All JSON Schemas",
            answers={
                200: Answer(
                    "Where each is.",
                    resources.SchemaList,
                    _listed(
                        {
                            "name": "task-event", "id": event.TASK_SCHEMA, "title": "data of task.* events",
                            "url": "/schemas/task-event.json",
                        }
                    ),
                )
            },
        )
        for path, name in (("/schemas/", "listSchemas"), ("/schemas", "listSchemasToo"))
    ),
    Operation(
        method="GET", path="/schemas/{name}.json", id="getSchema", tag="documents", scopes=ANY_TOKEN,
        summary="One JSON Schema",
        answers={
            200: Answer("The schema (2020-12).", media="application/schema+json", schema={"type": ["object", "boolean"]})
        },
        refusals={404: "There is no such schema (`schema_not_found`)."},
    ),
    Operation(
        method="GET", path="/openapi.json", id="getOpenApi", tag="documents", scopes=ANY_TOKEN, summary="This document",
        answers={200: Answer("OpenAPI 3.1.", schema={"type": "object"})},
    ),
    Operation(
        method="GET", path="/asyncapi.json", id="getAsyncApi", tag="documents", scopes=ANY_TOKEN,
        summary="The stream and the webhooks, message by message",
        answers={200: Answer("AsyncAPI 3.0.", schema={"type": "object"})},
    ),
    # --- for whoever runs the process ---
    Operation(
        method="GET", path="/healthz", id="alive", tag="operations", scopes=OPEN, summary="Whether the process answers",
        answers={200: Answer("It does.", resources.Alive, {"status": "ok", "version": "1.0.0"})},
    ),
    Operation(
        method="GET", path="/readyz", id="ready", tag="operations", scopes=OPEN,
        summary="Whether the gateway takes in and passes on",
        answers={
            status: Answer(
                text,
                resources.Ready,
                {
                    "status": word,
                    "checks": {
                        "log": {"ok": True}, "draining": {"ok": word == "ready"}, "sources": {"ok": True, "failed": []},
                        "tasks": {"ok": True, "fallen": []},
                    },
                    "sources": [{"name": "studio", "adapter": "triverse", "enabled": True, "state": "live"}],
                },
            )
            for status, word, text in ((200, "ready", "It does."), (503, "unready", "It does not; the checks say why."))
        },
    ),
    Operation(
        method="GET", path="/metrics", id="metrics", tag="operations", scopes=OPEN, summary="Prometheus metrics",
        answers={200: Answer("The text format.", media="text/plain", schema={"type": "string"})},
    ),
)  # fmt: skip
