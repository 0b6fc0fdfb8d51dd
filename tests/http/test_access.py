"""Every route with every kind of token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from aiohttp.test_utils import TestClient

from gateway.errors import Refused
from tests.http.checks import bearer, problem_of
from tests.http.fakes import World, bounded, row, task_event

WHO = ("anonymous", "unknown", "nothing", "reader", "progress", "watcher", "hooks", "admin")

#: route → the status for each of `WHO`
MATRIX = {
    ("GET", "/healthz"): (200, 200, 200, 200, 200, 200, 200, 200),
    ("GET", "/readyz"): (200, 200, 200, 200, 200, 200, 200, 200),
    ("GET", "/metrics"): (200, 200, 200, 200, 200, 200, 200, 200),
    ("GET", "/v1/tasks"): (401, 401, 403, 200, 403, 403, 403, 200),
    ("GET", "/v1/tasks/studio/t1"): (401, 401, 403, 200, 200, 403, 403, 200),
    ("GET", "/v1/tasks/studio/t1/download"): (401, 401, 403, 200, 403, 403, 403, 200),
    ("GET", "/v1/events"): (401, 401, 403, 200, 403, 403, 403, 200),
    ("GET", "/v1/sources"): (401, 401, 403, 200, 403, 403, 403, 200),
    ("GET", "/v1/watches"): (401, 401, 403, 200, 403, 200, 403, 200),
    ("POST", "/v1/watches"): (401, 401, 403, 403, 403, 201, 403, 201),
    ("DELETE", "/v1/watches/studio/t9"): (401, 401, 403, 403, 403, 204, 403, 204),
    ("GET", "/schemas/"): (401, 401, 200, 200, 200, 200, 200, 200),
    ("GET", "/schemas/task-event.json"): (401, 401, 200, 200, 200, 200, 200, 200),
    # The stream looks at tokens itself.
    ("GET", "/v1/stream"): (200, 200, 200, 200, 200, 200, 200, 200),
}
CASES = [(*route, who, status) for route, row_ in MATRIX.items() for who, status in zip(WHO, row_, strict=True)]


def furnish(world: World) -> None:
    world.add(row("studio/t1"))
    world.log(task_event(1, "studio/t1"))
    world.sources.all["studio"].watched["t9"] = "live"


@pytest.mark.parametrize(("method", "path", "who", "status"), CASES)
async def test_every_route_asks_for_its_scope(
    client: TestClient, world: World, method: str, path: str, who: str, status: int
) -> None:
    """A route answers those who hold its scope, 401 to those who hold no good token, 403 to the rest."""
    furnish(world)
    headers = {} if who == "anonymous" else bearer(who)
    body = {"source": "studio", "task_id": "t1"} if method == "POST" else None
    async with client.request(method, path, headers=headers, json=body) as response:
        if status < 400:
            assert response.status == status
            return
        await problem_of(response, status, "insufficient_scope" if status == 403 else "unauthorized")
        challenge = response.headers["WWW-Authenticate"]
        assert challenge.startswith("Bearer")
        assert ('error="invalid_token"' in challenge) == (who == "unknown")
        assert ('error="insufficient_scope"' in challenge) == (status == 403)
    assert world.sources.all["studio"].watched == {"t9": "live"}


@pytest.mark.parametrize("route", list(MATRIX))
async def test_without_authentication_all_is_allowed(client: TestClient, world: World, route: tuple[str, str]) -> None:
    """In mode `none` the authenticator grants everything, without a token."""
    furnish(world)
    world.authenticator.open_to_all = True
    method, path = route
    body = {"source": "studio", "task_id": "t1"} if method == "POST" else None
    async with client.request(method, path, json=body) as response:
        assert response.status == MATRIX[route][-1]


async def test_a_token_in_the_url_is_as_good(client: TestClient, world: World) -> None:
    """Clients that cannot set headers present the token in the query."""
    async with client.get("/v1/tasks", params={"token": "reader"}) as response:
        assert response.status == 200
    async with client.get("/v1/tasks", params={"token": "guess"}) as response:
        await problem_of(response, 401)


async def test_an_authenticator_may_forbid(client: TestClient, world: World) -> None:
    """A 403 of the authenticator is no challenge to present another token."""
    world.authenticator.failure = Refused(403, "forbidden", "Not from here.")
    async with client.get("/v1/tasks") as response:
        assert (await problem_of(response, 403, "forbidden"))["detail"] == "Not from here."
        assert "WWW-Authenticate" not in response.headers


async def test_a_broken_authenticator_is_no_refusal(client: TestClient, world: World) -> None:
    """Whatever else goes wrong there is a failure of the gateway, and lets nobody in."""
    world.authenticator.failure = RuntimeError("key set unreadable")
    async with client.get("/v1/tasks", headers=bearer("admin")) as response:
        assert "key set" not in str(await problem_of(response, 500, "internal_error"))


BOUNDS = [{"source": ("studio",)}, {"task": ("studio/t1", "studio/t9")}, {"kind": ("image-to-model",)}]


@pytest.mark.parametrize("bounds", BOUNDS)
async def test_bounds_hold_everywhere(client: TestClient, world: World, bounds: dict[str, tuple[str, ...]]) -> None:
    """What is outside of a token's bounds is in no list, and is not found where it is asked for."""
    world.authenticator.grants["bounded"] = bounded(**bounds)
    world.add(row("studio/t1"), row("labs/t2", kind="text-to-model"))
    world.log(
        task_event(1, "studio/t1"),
        msgspec.structs.replace(task_event(2, "labs/t2"), kind="text-to-model"),
    )
    for name, task_id in (("studio", "t1"), ("labs", "t2")):
        world.sources.all[name].watched[task_id] = "live"
    headers = bearer("bounded")

    for path, key in (("/v1/tasks", "task"), ("/v1/events", "data"), ("/v1/watches", None)):
        async with client.get(path, headers=headers) as response:
            items = (await response.json())["items"]
            assert len(items) == 1, path
            inner = items[0]["data"]["task"] if key == "data" else items[0]["task"] if key else items[0]
            assert inner["source"] == "studio"
    for method, path in (
        ("GET", "/v1/tasks/labs/t2"),
        ("GET", "/v1/tasks/labs/t2/download"),
        ("DELETE", "/v1/watches/labs/t2"),
    ):
        async with client.request(method, path, headers=headers) as response:
            inside = await problem_of(response, 404)
        async with client.request(method, path.replace("t2", "t404"), headers=headers) as response:
            nowhere = await problem_of(response, 404)
        assert inside | {"instance": ""} == nowhere | {"instance": ""}, "the answer tells that it exists"
    async with client.post("/v1/watches", json={"source": "labs", "task_id": "t2"}, headers=headers) as response:
        await problem_of(response, 404)
    assert list(world.sources.all["labs"].watched) == ["t2"]
    for path in ("/v1/tasks/studio/t1", "/v1/tasks/studio/t1/download"):
        async with client.get(path, headers=headers) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("bounds", "names"),
    [
        ({}, ["labs", "off", "ops", "studio"]),
        ({"source": ("labs",)}, ["labs"]),
        ({"task": ("labs/t1",)}, ["labs"]),
        ({"source": ("labs",), "task": ("studio/t1",)}, []),
    ],
)
async def test_sources_within_bounds(
    client: TestClient, world: World, bounds: dict[str, tuple[str, ...]], names: list[str]
) -> None:
    """A token that is bound to sources, or to tasks, sees no other source."""
    world.authenticator.grants["bounded"] = bounded("events:read", **bounds)
    async with client.get("/v1/sources", headers=bearer("bounded")) as response:
        assert [item["name"] for item in (await response.json())["items"]] == names


async def test_a_watcher_bound_to_kinds_watches_what_is_known_to_be_of_them(client: TestClient, world: World) -> None:
    """Of a task that nobody knows, the kind is unknown, unless its creation response says it."""
    world.authenticator.grants["bounded"] = bounded("watches:write", kind=("image-to-model",))
    headers = bearer("bounded")
    async with client.post("/v1/watches", json={"source": "studio", "task_id": "t5"}, headers=headers) as response:
        await problem_of(response, 404)
    for kind, status in (("text-to-model", 404), ("image-to-model", 201)):
        body = {"source": "studio", "created": {"id": "t5", "kind": kind}}
        async with client.post("/v1/watches", json=body, headers=headers) as response:
            assert response.status == status
    assert len(world.sources.all["studio"].submitted) == 1


async def test_progress_only_sees_the_redacted_task(client: TestClient, world: World) -> None:
    """With `events:read:progress` alone a task comes without what that scope hides."""
    world.add(row("studio/t1", sequence=12))
    async with client.get("/v1/tasks/studio/t1", headers=bearer("progress")) as response:
        data = await response.json()
    assert (data["redacted"], data["input"], data["native"], data["task"]["attempt"]) == (True, None, None, None)
    assert data["sequence"] == f"{12:020d}"
    async with client.get("/v1/tasks/studio/t1", headers=bearer("reader")) as response:
        assert (await response.json())["input"] == {"prompt": "ein Fuchs"}


async def test_time_limit(serve: Callable[[World], Awaitable[TestClient]]) -> None:
    """A request that takes too long is answered rather than held for ever."""
    world = World(time_limit=0.02)
    world.store.hold = asyncio.Event()
    client = await serve(world)
    async with client.get("/v1/tasks", headers=bearer("reader")) as response:
        await problem_of(response, 503, "timed_out")
        assert response.headers["Retry-After"] == "5"
