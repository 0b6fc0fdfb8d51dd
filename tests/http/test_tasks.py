"""`/v1/tasks`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient
from yarl import URL

from gateway.upstream.download import Download
from schemas.event import Status
from tests.http.checks import bearer, fields, problem_of
from tests.http.fakes import World, row, task_data, task_event

READER = bearer("reader")


async def get(client: TestClient, path: str, **params: Any) -> dict[str, Any]:
    async with client.get(path, params=params, headers=READER) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "application/json"
        body: dict[str, Any] = await response.json()
        return body


def keys(body: dict[str, Any]) -> list[str]:
    return [item["task"]["key"] for item in body["items"]]


async def test_a_task_is_the_data_of_its_snapshot_and_its_position(client: TestClient, world: World) -> None:
    """Nothing is added to the snapshot's data but `sequence`, 20 digits."""
    world.add(row("studio/t1", sequence=41))
    expected = task_data("studio", "t1") | {"origin": "snapshot", "sequence": f"{41:020d}"}
    assert await get(client, "/v1/tasks/studio/t1") == expected
    assert (await get(client, "/v1/tasks"))["items"] == [expected]


async def test_an_unknown_task_is_not_found(client: TestClient) -> None:
    """404, and the answer says so."""
    async with client.get("/v1/tasks/studio/t1", headers=READER) as response:
        await problem_of(response, 404, "task_not_found")


@pytest.mark.parametrize("task_id", ["a/b", "a b", "50%", "ä", "%2F", "a?b#c", "..", "x'--"])
async def test_ids_may_hold_any_character(client: TestClient, world: World, task_id: str) -> None:
    """An id is one segment of the path, percent-encoded, and arrives as it was."""
    world.add(row(f"studio/{task_id}"))
    path = quote(task_id, safe="").replace(".", "%2E")
    async with client.get(URL(f"/v1/tasks/studio/{path}", encoded=True), headers=READER) as response:
        assert response.status == 200, await response.text()
        assert (await response.json())["task"]["id"] == task_id


async def test_finished_tasks_are_listed_and_filters_apply(client: TestClient, world: World) -> None:
    """Parameters are repeatable or comma-separated, OR within one, AND between them."""
    world.add(
        row("studio/a"), row("studio/b", "succeeded"), row("labs/c", "failed"), row("labs/d", kind="text-to-model")
    )  # fmt: skip
    assert keys(await get(client, "/v1/tasks")) == ["labs/c", "labs/d", "studio/a", "studio/b"]
    assert keys(await get(client, "/v1/tasks", status="succeeded,failed")) == ["labs/c", "studio/b"]
    assert keys(await get(client, "/v1/tasks?status=succeeded&status=failed&source=labs")) == ["labs/c"]
    assert keys(await get(client, "/v1/tasks", kind="text-to-model")) == ["labs/d"]
    assert keys(await get(client, "/v1/tasks", task="studio/a,labs/d")) == ["labs/d", "studio/a"]
    assert keys(await get(client, "/v1/tasks", source="nowhere")) == []


async def test_pages_follow_each_other(client: TestClient, world: World) -> None:
    """`next` is the `cursor` of the next page, null on the last; the list says at which position it is valid."""
    world.add(*(row(f"studio/{number:02d}") for number in range(5)))
    world.log(task_event(9, "studio/00"))
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        body = await get(client, "/v1/tasks", limit="2", **cursor)
        assert body["sequence"] == f"{9:020d}"
        seen += keys(body)
        cursor = {"cursor": body["next"]}
    assert cursor == {"cursor": None}
    assert seen == [f"studio/{number:02d}" for number in range(5)]


async def test_a_hundred_where_no_limit_is_given(client: TestClient, world: World) -> None:
    """The default limit is 100, the greatest 1000."""
    world.add(*(row(f"studio/{number:04d}") for number in range(1005)))
    assert len((await get(client, "/v1/tasks"))["items"]) == 100
    assert len((await get(client, "/v1/tasks", limit="1000"))["items"]) == 1000


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=%21%21", "cursor"),
        ("cursor=YQ==&cursor=YQ==", "cursor"),
        ("source=", "source"),
        ("status=running,,failed", "status"),
        ("status=bogus", "status"),
        ("status=running,Failed", "status"),
    ],
)
async def test_a_bad_parameter_is_named(client: TestClient, query: str, name: str) -> None:
    """400 with the name of the parameter, in words and in `errors`."""
    async with client.get(URL(f"/v1/tasks?{query}", encoded=True), headers=READER) as response:
        body = await problem_of(response, 400, "invalid_parameter")
    assert fields(body) == [name]
    assert name in body["detail"]


@pytest.mark.parametrize("status", list(Status))
async def test_every_status_may_be_asked_for(client: TestClient, status: str) -> None:
    """Also those that no task has now."""
    assert keys(await get(client, "/v1/tasks", status=status)) == []


async def test_a_status_that_there_is_not_is_named_with_those_that_there_are(client: TestClient) -> None:
    """Nobody should look for a failed task with a misspelt word and find none."""
    async with client.get("/v1/tasks?status=stauts", headers=READER) as response:
        body = await problem_of(response, 400, "invalid_parameter")
    known = "pending, queued, dispatched, running, succeeded, failed, cancelled, deleted, unknown"
    assert body["detail"] == f"status: there is no status 'stauts'; known: {known}"


async def test_an_empty_cursor_is_the_beginning_and_an_empty_limit_is_no_number(
    client: TestClient, world: World
) -> None:
    """So the description of the API has it."""
    world.add(row("studio/a"))
    assert keys(await get(client, "/v1/tasks", limit="1", cursor="")) == ["studio/a"]
    async with client.get("/v1/tasks", params={"limit": ""}, headers=READER) as response:
        await problem_of(response, 400, "invalid_parameter")


async def test_download_is_passed_on(client: TestClient, world: World) -> None:
    """The upstream's answer, byte for byte, for tasks known and unknown."""
    for task_id in ("t1", "t2"):
        async with client.get(f"/v1/tasks/studio/{task_id}/download", headers=READER) as response:
            assert response.status == 200
            assert await response.read() == bytes(world.sources.all["studio"].download.body or b"")
        world.add(row("studio/t2"))


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (Download(status=404, code="no_download", message="Nothing."), 404, "no_download"),
        (Download(status=502, code="upstream_error", message="It failed."), 502, "upstream_error"),
        (Download(status=504, code="upstream_timeout", message="Too late."), 504, "upstream_timeout"),
        (Download(status=502), 502, "upstream_failed"),
    ],
)
async def test_a_failed_download_says_whose_fault(
    client: TestClient, world: World, failure: Download, status: int, code: str
) -> None:
    """An upstream that has none is 404, one that fails 502, one that does not answer 504."""
    world.sources.all["studio"].download = failure
    async with client.get("/v1/tasks/studio/t1/download", headers=READER) as response:
        await problem_of(response, status, code)


@pytest.mark.parametrize(("source", "status"), [("nowhere", 404), ("off", 409)])
async def test_no_download_without_the_source(client: TestClient, source: str, status: int) -> None:
    """A source that is not there, or not enabled, cannot be asked."""
    async with client.get(f"/v1/tasks/{source}/t1/download", headers=READER) as response:
        await problem_of(response, status)
