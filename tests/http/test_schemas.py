"""`/schemas/`, and the schemas themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from jsonschema import Draft202012Validator

from schemas import event, export
from tests.http.checks import bearer, problem_of
from tests.http.fakes import envelope, source_event, stream_event, task_data, task_event

ANYBODY = bearer("nothing")
SAMPLES = {
    "task": task_event(1, "studio/t1").body,
    "finished": task_event(2, "studio/t1", "task.succeeded", "succeeded").body,
    "source": source_event(3, "studio").body,
    "opened": stream_event("stream.opened", {"session": "s", "sequence": "0" * 20, "epoch": "e", "scope": "admin"}),
    "closing": stream_event("stream.closing", {"reason": "draining", "reconnect_after_ms": 1200}),
    "test": envelope(
        "webhook.test",
        9,
        {"endpoint": "billing", "by": "token:ops"},
        source="/mainstem",
        subject="billing",
        dataschema=event.WEBHOOK_SCHEMA,
    ),
}


async def get(client: TestClient, path: str) -> dict[str, Any]:
    async with client.get(path, headers=ANYBODY) as response:
        assert response.status == 200
        body: dict[str, Any] = await response.json(content_type=None)
        return body


@pytest.mark.parametrize("path", ["/schemas/", "/schemas"])
async def test_all_schemas_are_listed_and_served(client: TestClient, path: str) -> None:
    """Each is JSON Schema 2020-12, under its name, with the `$id` that the list gives."""
    body = await get(client, path)
    assert body["next"] is None
    for item in body["items"]:
        schema = await get(client, item["url"])
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema["$id"] == item["id"]
        Draft202012Validator.check_schema(schema)
    assert {item["id"] for item in body["items"]} >= {
        event.TASK_SCHEMA, event.SOURCE_SCHEMA, event.STREAM_SCHEMA, event.WEBHOOK_SCHEMA,
    }  # fmt: skip


async def test_the_content_type_says_schema(client: TestClient) -> None:
    """`application/schema+json`."""
    async with client.get("/schemas/event.json", headers=ANYBODY) as response:
        assert response.content_type == "application/schema+json"


async def test_an_unknown_schema(client: TestClient) -> None:
    """404."""
    async with client.get("/schemas/nothing.json", headers=ANYBODY) as response:
        await problem_of(response, 404, "schema_not_found")


@pytest.mark.parametrize("name", SAMPLES)
def test_events_are_valid_as_a_whole_and_by_their_dataschema(name: str) -> None:
    """The schema that `dataschema` names describes `data`; `event` describes all of it; the model agrees."""
    value = json.loads(SAMPLES[name])
    schemas = {document["$id"]: document for document in export.documents().values()}
    Draft202012Validator(schemas[value["dataschema"]]).validate(value["data"])
    Draft202012Validator(schemas[export.EVENT_SCHEMA]).validate(value)
    event.validate(value)


@pytest.mark.parametrize(
    ("name", "path", "wrong"),
    [
        ("task", ("sequence",), "7"),
        ("task", ("id",), "a b"),
        ("task", ("time",), "yesterday"),
        ("task", ("type",), "tasks.created"),
        ("task", ("partitionkey",), None),
        ("task", ("data", "origin"), "rumour"),
        ("task", ("data", "task", "status"), "started"),
        ("task", ("data", "task", "progress"), 101),
        ("task", ("data", "task", "queue"), {"position": 1}),
        ("task", ("data", "changed"), None),
        ("source", ("data", "adapter"), None),
        ("source", ("data", "from"), "yesterday"),
        ("opened", ("source",), "/triverse/studio"),
    ],
)
def test_what_breaks_the_contract_is_not_valid(name: str, path: tuple[str, ...], wrong: object) -> None:
    """A schema that accepts everything would prove nothing."""
    value = json.loads(SAMPLES[name])
    place = value
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong
    assert not Draft202012Validator(export.documents()["event"]).is_valid(value)


@pytest.mark.parametrize("key", list(task_data("studio", "t1")))
def test_every_key_of_task_data_is_required(key: str) -> None:
    """All keys are always present, null where unknown."""
    data = task_data("studio", "t1")
    del data[key]
    assert not Draft202012Validator(export.documents()["task-event"]).is_valid(data)
