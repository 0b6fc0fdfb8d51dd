"""`/v1/watches`."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from tests.http.checks import bearer, fields, problem_of
from tests.http.fakes import World

WATCHER = bearer("watcher")


async def test_a_watch_comes_and_goes(client: TestClient, world: World) -> None:
    """201 with the watch and where it is, 200 when it is asked for again, 204 when it is stopped, then 404."""
    body = {"source": "studio", "task_id": "t1", "note": "unknown fields are ignored"}
    watch = {"source": "studio", "task_id": "t1", "state": "connecting"}
    async with client.post("/v1/watches", json=body, headers=WATCHER) as response:
        assert (response.status, await response.json()) == (201, watch)
        location = response.headers["Location"]
    async with client.post("/v1/watches", json=body, headers=WATCHER) as response:
        assert (response.status, await response.json()) == (200, watch)
        assert "Location" not in response.headers
    async with client.get("/v1/watches", headers=WATCHER) as response:
        assert await response.json() == {"items": [watch], "next": None}
    async with client.delete(location, headers=WATCHER) as response:
        assert (response.status, await response.read()) == (204, b"")
    async with client.delete(location, headers=WATCHER) as response:
        await problem_of(response, 404, "unknown_watch")
    assert world.sources.all["studio"].watched == {}


async def test_a_creation_response_makes_the_task_known(client: TestClient, world: World) -> None:
    """The bytes of `created` are handed on as they came, before the watch begins."""
    created = '{ "id": "t/7", "kind": "image-to-model", "big": 123456789012345678901234567890 }'
    body = f'{{"source": "studio", "created": {created}}}'
    async with client.post("/v1/watches", data=body, headers=WATCHER) as response:
        assert (response.status, (await response.json())["task_id"]) == (201, "t/7")
        assert response.headers["Location"] == "/v1/watches/studio/t%2F7"
    assert world.sources.all["studio"].submitted == [created.encode()]
    assert list(world.sources.all["studio"].watched) == ["t/7"]


async def test_id_and_creation_response_may_both_be_given(client: TestClient, world: World) -> None:
    """Where they speak of the same task."""
    created = {"id": "t7", "kind": "image-to-model"}
    body = {"source": "studio", "created": created}
    async with client.post("/v1/watches", json=body | {"task_id": "t7"}, headers=WATCHER) as response:
        assert response.status == 201
    async with client.post("/v1/watches", json=body | {"task_id": "t8"}, headers=WATCHER) as response:
        assert fields(await problem_of(response, 400, "invalid_body")) == ["task_id"]
    assert world.sources.all["studio"].watched == {"t7": "connecting"}


async def test_a_watch_that_is_over_is_begun_anew(client: TestClient, world: World) -> None:
    """One that is listed still, although its task is finished, is no running one."""
    world.sources.all["studio"].watched["t1"] = "finished"
    async with client.post("/v1/watches", json={"source": "studio", "task_id": "t1"}, headers=WATCHER) as response:
        assert (response.status, (await response.json())["state"]) == (201, "connecting")


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, ["source"]),
        ({"source": 5, "task_id": "t1"}, ["source"]),
        ({"source": "studio"}, ["task_id"]),
        ({"source": "studio", "task_id": None}, ["task_id"]),
        ({"source": "studio", "task_id": ""}, ["task_id"]),
        ({"source": "studio", "task_id": "t" * 257}, ["task_id"]),
        ({"source": "studio", "task_id": ["t1"]}, ["task_id"]),
        ({"source": "studio", "task_id": "no such id"}, ["task_id"]),
        ({"source": "studio", "created": {"uuid": "t1"}}, ["created"]),
        ({"source": "studio", "created": None}, ["created"]),
        ([], ["body"]),
        ("studio/t1", ["body"]),
    ],
)
async def test_a_bad_body_is_explained(client: TestClient, world: World, body: Any, names: list[str]) -> None:
    """400 with the name of the field."""
    async with client.post("/v1/watches", json=body, headers=WATCHER) as response:
        problem = await problem_of(response, 400, "invalid_body")
    assert fields(problem) == names
    assert "$" not in problem["detail"]
    assert (world.sources.all["studio"].submitted, world.sources.all["studio"].watched) == ([], {})


async def test_a_creation_response_that_says_nothing(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that finds no task in it is a refusal of the field."""
    monkeypatch.setattr(world.sources.all["studio"].adapter, "created", lambda payload: [])
    async with client.post("/v1/watches", json={"source": "studio", "created": {}}, headers=WATCHER) as response:
        assert fields(await problem_of(response, 400, "invalid_body")) == ["created"]


async def test_a_refusal_of_the_pipeline_is_passed_on(client: TestClient, world: World) -> None:
    """And nothing is watched."""
    body = {"source": "studio", "created": {"id": "t-refuse", "kind": "x"}}
    async with client.post("/v1/watches", json=body, headers=WATCHER) as response:
        await problem_of(response, 422, "not_a_creation")
    assert world.sources.all["studio"].watched == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"source":',
        b"\xff\xfe",
        b'{"source":"\xff"}',
        b'{"source":"studio","task_id":"\\ud83d"}',
        b"[" * 50_000,
        json.dumps("x").encode()[:-1],
    ],
)
async def test_what_is_not_json_is_said_to_be_so(client: TestClient, body: bytes) -> None:
    """400, whatever the bytes."""
    async with client.post("/v1/watches", data=body, headers=WATCHER) as response:
        assert (await problem_of(response, 400))["code"] in {"invalid_json", "invalid_body"}


@pytest.mark.parametrize(("source", "status"), [("nowhere", 404), ("off", 409)])
async def test_no_watch_without_the_source(client: TestClient, source: str, status: int) -> None:
    """A source that is not there, or not enabled, cannot watch."""
    async with client.post("/v1/watches", json={"source": source, "task_id": "t1"}, headers=WATCHER) as response:
        await problem_of(response, status)
    async with client.delete(f"/v1/watches/{source}/t1", headers=WATCHER) as response:
        await problem_of(response, status)


async def test_an_upstream_without_single_task_watches(client: TestClient) -> None:
    """Says so."""
    async with client.post("/v1/watches", json={"source": "ops", "task_id": "1"}, headers=WATCHER) as response:
        await problem_of(response, 409, "no_watches")


async def test_a_body_over_a_mebibyte_is_refused(client: TestClient, world: World) -> None:
    """413, and nothing happened."""
    async with client.post("/v1/watches", data=io.BytesIO(b" " * (1024 * 1024 + 1)), headers=WATCHER) as response:
        await problem_of(response, 413, "body_too_large")
