"""`/healthz`, `/readyz`, `/metrics`, `/v1/sources`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from prometheus_client.parser import text_string_to_metric_families

from tests.http.checks import bearer, problem_of
from tests.http.fakes import World


async def readiness(client: TestClient, status: int) -> dict[str, Any]:
    async with client.get("/readyz") as response:
        assert response.status == status
        assert response.content_type == "application/json"
        body: dict[str, Any] = await response.json()
        return body


async def test_alive(client: TestClient, world: World) -> None:
    """A process that answers is alive, whatever else is broken."""
    world.store.trouble = "no room"
    world.readiness.draining = True
    async with client.get("/healthz") as response:
        assert (response.status, (await response.json())["status"]) == (200, "ok")


async def test_ready_lists_checks_and_sources(client: TestClient) -> None:
    """200; each check and each source is in the body, and no more of a source than its state."""
    body = await readiness(client, 200)
    assert body["status"] == "ready"
    assert set(body["checks"]) == {"log", "draining", "sources", "tasks"}
    assert all(check["ok"] for check in body["checks"].values())
    assert [source["name"] for source in body["sources"]] == ["studio", "labs", "ops", "off"]
    assert "/srv/private" not in str(body)


@pytest.mark.parametrize("state", ["connecting", "retrying", "finished"])
async def test_a_source_that_is_on_its_way_is_no_reason(client: TestClient, world: World, state: str) -> None:
    """An upstream that is down must not take the gateway out of service."""
    world.sources.all["studio"].state = state
    await readiness(client, 200)


async def test_a_disabled_source_is_no_reason(client: TestClient, world: World) -> None:
    """Whatever its state was."""
    world.sources.all["off"].state = "failed"
    await readiness(client, 200)


def _trouble(world: World) -> None:
    world.store.trouble = "disk full at /srv/private"


def _drain(world: World) -> None:
    world.readiness.draining = True


def _fail(world: World) -> None:
    world.sources.all["labs"].state = "failed"


def _fall(world: World) -> None:
    world.readiness.fallen.append("hub")


@pytest.mark.parametrize(
    ("wrong", "check", "words"),
    [(_trouble, "log", ""), (_drain, "draining", ""), (_fail, "sources", "labs"), (_fall, "tasks", "hub")],
)
async def test_each_check_alone_makes_it_unready(
    client: TestClient, world: World, wrong: Callable[[World], None], check: str, words: str
) -> None:
    """503, and exactly the check that failed is not ok."""
    wrong(world)
    body = await readiness(client, 503)
    assert body["status"] == "unready"
    assert [name for name, value in body["checks"].items() if not value["ok"]] == [check]
    assert words in str(body["checks"][check])
    assert "/srv/private" not in str(body)
    async with client.get("/metrics") as response:
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    measured = {sample.labels["check"]: sample.value for sample in families["mainstem_ready"].samples}
    assert measured == {name: float(value["ok"]) for name, value in body["checks"].items()}


async def test_webhooks_are_listed_but_never_turn_it_red(client: TestClient, world: World) -> None:
    """A receiver that is down is not the gateway's fault; the page is open to all, so why it fails is not said there."""
    assert (await readiness(client, 200))["webhooks"] == []
    world.webhooks.add("billing")
    world.webhooks.set("billing", state="disabled", disabled="canary", last_error="canary", dead=3)
    shown = {"name": "billing", "state": "disabled", "pending": 0, "in_flight": 0, "dead": 3}
    assert (await readiness(client, 200))["webhooks"] == [shown]


async def test_metrics_parse_as_prometheus_text(client: TestClient, world: World) -> None:
    """In the text format's content type, with the values that were counted."""
    world.metrics.events.labels("studio", "task.created").inc(3)
    async with client.get("/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    samples = {sample.name: sample for sample in families["mainstem_events"].samples}
    sample = samples["mainstem_events_total"]
    assert (sample.labels, sample.value) == ({"source": "studio", "type": "task.created"}, 3)
    assert "mainstem_relay_latency_seconds" in families


async def test_sources_show_their_whole_status(client: TestClient) -> None:
    """With a token, what is wrong is shown as well."""
    async with client.get("/v1/sources", headers=bearer("reader")) as response:
        body = await response.json()
    assert body["next"] is None
    assert body["items"][-1] == {
        "name": "studio",
        "adapter": "triverse",
        "enabled": True,
        "state": "live",
        "error": "refused: /srv/private",
    }


async def test_short_lists_have_pages_for_those_who_ask(client: TestClient) -> None:
    """All at once by default; by `limit` and `cursor` like every other list, in the order of names."""
    names: list[str] = []
    query = {"limit": "2"}
    while True:
        async with client.get("/v1/sources", params=query, headers=bearer("reader")) as response:
            body = await response.json()
        assert len(body["items"]) <= 2
        names += [item["name"] for item in body["items"]]
        if body["next"] is None:
            break
        query["cursor"] = body["next"]
    assert names == ["labs", "off", "ops", "studio"]
    async with client.get("/v1/sources?limit=0", headers=bearer("reader")) as response:
        await problem_of(response, 400, "invalid_parameter")
