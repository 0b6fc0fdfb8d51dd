"""`/v1/webhooks` and `/v1/deliveries`."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.http import deliveries
from gateway.http.app import routes
from gateway.http.webhooks import MASK
from tests.http.checks import bearer, fields, problem_of
from tests.http.fakes import EPOCH, World, bounded, task_event
from tests.http.hooks import AT, GENERATED, SECRET, attempt, delivery

HOOKS = bearer("hooks")
URL = "https://example.com/hooks?key=canary-in-the-url"
HEALTH = {
    "state", "disabled", "failing_since", "breaker", "pending", "in_flight", "dead", "position", "lag", "last_error",
    "last_error_at", "last_delivered_at", "paused_until", "replay_upto",
}  # fmt: skip

#: every route, what it is sent, and the status of a good answer
ROUTES = [
    ("GET", "/v1/webhooks", None, 200),
    ("POST", "/v1/webhooks", {"name": "fresh", "url": URL}, 201),
    ("GET", "/v1/webhooks/billing", None, 200),
    ("PATCH", "/v1/webhooks/billing", {"timeout": 3}, 200),
    ("POST", "/v1/webhooks/billing/test", None, 202),
    ("POST", "/v1/webhooks/billing/enable", None, 200),
    ("POST", "/v1/webhooks/billing/rotate-secret", {}, 200),
    ("POST", "/v1/webhooks/billing/replay", {"after": "0"}, 202),
    ("POST", "/v1/webhooks/billing/retry", None, 202),
    ("GET", "/v1/webhooks/billing/deliveries", None, 200),
    ("GET", "/v1/deliveries/billing.5", None, 200),
    ("POST", "/v1/deliveries/billing.5/retry", None, 202),
    ("DELETE", "/v1/webhooks/billing", None, 204),
]
IDS = [f"{method} {path}" for method, path, *_ in ROUTES]


@pytest.fixture(autouse=True)
def furnished(world: World) -> None:
    """An endpoint with a secret header, one of the configuration file, a dead letter, and a log of three events."""
    world.webhooks.add("billing", headers={"X-Key": "canary-header"}, type=["task.succeeded"])
    world.webhooks.add("archive", origin="file")
    world.webhooks.deliver(delivery(5, "dead", attempt()))
    world.log(*(task_event(number, "studio/t1") for number in (1, 2, 3)))


class TestAccess:
    @pytest.mark.parametrize(("method", "path", "body", "status"), ROUTES, ids=IDS)
    async def test_who_may(self, client: TestClient, method: str, path: str, body: Any, status: int) -> None:
        """`webhooks:write` and `admin`; reading is no less: attempts show what receivers answered."""
        for who, wanted in (("unknown", 401), ("nothing", 403), ("reader", 403), ("progress", 403), ("watcher", 403)):
            async with client.request(method, path, json=body, headers=bearer(who)) as response:
                await problem_of(response, wanted, "insufficient_scope" if wanted == 403 else "unauthorized")
        async with client.request(method, path, json=body) as response:
            await problem_of(response, 401)
        async with client.request(method, path, json=body, headers=HOOKS) as response:
            assert response.status == status, await response.text()

    @pytest.mark.parametrize(("method", "path", "body", "status"), ROUTES, ids=IDS)
    async def test_admin_may(self, client: TestClient, method: str, path: str, body: Any, status: int) -> None:
        """All of it."""
        async with client.request(method, path, json=body, headers=bearer("admin")) as response:
            assert response.status == status

    @pytest.mark.parametrize("bounds", [{"source": ("studio",)}, {"task": ("studio/t1",)}, {"kind": ("k",)}])
    @pytest.mark.parametrize(("method", "path", "body", "status"), ROUTES, ids=IDS)
    async def test_bounded_tokens_may_not(
        self, client: TestClient, world: World, method: str, path: str, body: Any, status: int, bounds: dict[str, Any]
    ) -> None:
        """An endpoint would send its holder what is outside of the bounds; even `admin` is refused."""
        world.authenticator.grants["bounded"] = bounded("webhooks:write admin", **bounds)
        before = dict(world.webhooks.views)
        async with client.request(method, path, json=body, headers=bearer("bounded")) as response:
            await problem_of(response, 403, "bounded_token")
        assert (world.webhooks.views, world.webhooks.calls) == (before, [])

    @pytest.mark.parametrize(("method", "path", "body", "status"), [route for route in ROUTES if "billing" in route[1]])
    async def test_what_is_not_there(
        self, client: TestClient, world: World, method: str, path: str, body: Any, status: int
    ) -> None:
        """404, with a code that says of what."""
        async with client.request(method, path.replace("billing", "nobody"), json=body, headers=HOOKS) as response:
            await problem_of(response, 404, f"{'delivery' if 'deliveries/' in path else 'webhook'}_not_found")

    def test_no_route_is_left_out(self, world: World) -> None:
        """What is said here of routes is said of all there are."""
        found = [route for route in routes(world.parts) if route.path.startswith(("/v1/webhooks", "/v1/deliveries"))]
        assert {(route.scopes, route.unbounded) for route in found} == {(("webhooks:write",), True)}
        known = {(route.method, route.path.format(name="billing", id="billing.5")) for route in found}
        assert known == {(method, path) for method, path, *_ in ROUTES}

    async def test_no_secret_is_in_any_answer(self, client: TestClient, world: World) -> None:
        """Neither the endpoint's nor a header's."""
        for method, path, body, _ in ROUTES:
            async with client.request(method, path, json=body, headers=HOOKS) as response:
                text = await response.text()
            assert "canary-header" not in text
            assert SECRET not in text
            assert SECRET.removeprefix("whsec_") not in text


class TestEndpoints:
    async def test_one_is_made_with_a_generated_secret(self, client: TestClient, world: World) -> None:
        """201, where it is, all of its settings, and the secret in this one answer, which nobody may keep."""
        body = {"name": "fresh", "url": URL, "type": ["task.*"], "headers": {"X-Team": "canary-team"}}
        async with client.post("/v1/webhooks", json=body, headers=HOOKS) as response:
            assert response.status == 201
            assert response.headers["Location"] == "/v1/webhooks/fresh"
            assert response.headers["Cache-Control"] == "no-store"
            answer = await response.json()
        assert (answer.pop("secret"), answer.pop("doubts")) == (GENERATED, [])
        async with client.get("/v1/webhooks/fresh", headers=HOOKS) as response:
            assert await response.json() == answer
        health = answer.pop("health")
        assert answer.pop("secrets") == {"active": 1, "overlap_until": None, "public_key": None}
        assert set(health) == HEALTH
        assert health["position"] == f"{0:020d}"
        expected = {
            "name": "fresh", "url": URL, "type": ["task.*"], "source": [], "task": [], "kind": [], "status": [],
            "headers": {"X-Team": MASK}, "timeout": 15.0, "concurrency": 16, "rate_limit": None, "progress": "every",
            "retry_schedule": [5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0],
            "allow_private": False, "allow_http": False, "enabled": True, "disable_after": 432000.0, "origin": "api",
        }  # fmt: skip
        assert answer == expected
        assert world.webhooks.calls == [("create", "fresh", "hooks")]

    async def test_a_given_secret_is_not_repeated(self, client: TestClient) -> None:
        """Whoever gave it has it."""
        body = {"name": "fresh", "url": URL, "secret": SECRET}
        async with client.post("/v1/webhooks", json=body, headers=HOOKS) as response:
            assert response.status == 201
            assert "secret" not in await response.json()

    async def test_a_private_key_has_a_public_one(self, client: TestClient) -> None:
        """Which the receiver needs, and which is no secret; the private one is not shown."""
        seed = bytes(range(32))
        private = "whsk_" + base64.b64encode(seed).decode()
        async with client.post(
            "/v1/webhooks", json={"name": "f", "url": URL, "secret": private}, headers=HOOKS
        ) as response:
            text = await response.text()
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        assert json.loads(text)["secrets"]["public_key"] == "whpk_" + base64.b64encode(public).decode()
        assert private.removeprefix("whsk_") not in text

    async def test_names_are_unique(self, client: TestClient) -> None:
        """409."""
        async with client.post("/v1/webhooks", json={"name": "billing", "url": URL}, headers=HOOKS) as response:
            await problem_of(response, 409, "webhook_exists")

    async def test_the_list_is_ordered_by_name(self, client: TestClient) -> None:
        """And each item is what a GET of it answers."""
        async with client.get("/v1/webhooks", headers=HOOKS) as response:
            answer = await response.json()
        assert ([item["name"] for item in answer["items"]], answer["next"]) == (["archive", "billing"], None)
        assert [item["origin"] for item in answer["items"]] == ["file", "api"]
        async with client.get("/v1/webhooks/billing", headers=HOOKS) as response:
            assert await response.json() == answer["items"][1]

    async def test_enabled_is_what_holds(self, client: TestClient, world: World) -> None:
        """One that was disabled by itself is not enabled, whatever its settings say."""
        world.webhooks.set("billing", state="disabled", disabled="it answered 410")
        async with client.get("/v1/webhooks/billing", headers=HOOKS) as response:
            answer = await response.json()
        assert world.webhooks.get("billing").config.enabled
        assert (answer["enabled"], answer["health"]["disabled"]) == (False, "it answered 410")

    @pytest.mark.parametrize(
        ("body", "names"),
        [
            ({}, ["name", "url"]),
            ({"name": "a b", "url": "ftp://canary", "timeout": 0, "nope": 1}, ["name", "url", "timeout", "nope"]),
            ({"name": 7, "url": ["canary"], "concurrency": "canary", "enabled": []}, ["name", "url", "concurrency", "enabled"]),
            ({"name": "n", "url": URL, "timeout": True, "concurrency": "5", "enabled": "yes", "rate_limit": "canary"}, ["timeout", "concurrency", "enabled", "rate_limit"]),
            ({"name": "n", "url": URL, "retry_schedule": [1, True]}, ["retry_schedule[1]"]),
            ({"name": "n", "url": URL, "secret": "whsec_canary"}, ["secret"]),
            ({"name": "n", "url": "http://127.0.0.1/canary"}, ["url"]),
            ({"name": "n", "url": URL, "headers": {"Host": "canary", "X-A": 5, "X-B": "canary\n"}}, ["headers.Host", "headers.X-A", "headers.X-B"]),
            ({"name": "n", "url": URL, "headers": {"X-Key": MASK, "X-Other": "y"}}, ["headers.X-Key"]),
            ({"name": "n", "url": URL, "type": ["a*b-canary"]}, ["type"]),
            ({"name": "n", "url": URL, "type": ["a,canary"], "status": 5}, ["type", "status"]),
        ],
    )  # fmt: skip
    async def test_every_problem_is_named(self, client: TestClient, world: World, body: Any, names: list[str]) -> None:
        """Several at once, by field; no value is repeated; nothing is made."""
        before = dict(world.webhooks.views)
        async with client.post("/v1/webhooks", json=body, headers=HOOKS) as response:
            problem = await problem_of(response, 400, "invalid_body")
        assert sorted(fields(problem)) == sorted(names)
        if "type" not in body:  # a filter is no secret, and its message says which pattern is wrong
            assert "canary" not in json.dumps(problem)
        assert world.webhooks.views == before

    async def test_the_rule_of_names_is_said_in_words(self, client: TestClient) -> None:
        """As `check` says it."""
        async with client.post("/v1/webhooks", json={"name": "_a", "url": URL}, headers=HOOKS) as response:
            problem = await problem_of(response, 400, "invalid_body")
        rule = "must begin with a letter or digit, then letters, digits, _ . -; at most 64 characters"
        assert problem["errors"] == [{"field": "name", "detail": rule}]

    async def test_a_patch_changes_what_it_names(self, client: TestClient, world: World) -> None:
        """The rest stays; null goes back to the default; a mask is not taken for a value."""
        patch = {"timeout": 3, "type": None}
        async with client.patch("/v1/webhooks/billing", json=patch, headers=HOOKS) as response:
            answer = await response.json()
        assert (response.status, answer["timeout"], answer["type"], answer["headers"]) == (
            200,
            3.0,
            [],
            {"X-Key": MASK},
        )
        assert world.webhooks.calls == [("change", "billing", patch, "hooks")]
        async with client.patch("/v1/webhooks/billing", json={"headers": answer["headers"]}, headers=HOOKS) as response:
            assert fields(await problem_of(response, 400, "invalid_body")) == ["headers.X-Key"]

    async def test_a_filter_that_matches_nothing_is_told(self, client: TestClient) -> None:
        """It is taken, as in the configuration file, in the words of `mainstem check`, and told where it is sent alone."""
        wanted = {"status": ["faild"], "source": ["studio", "stduio"], "type": ["task.of_tomorrow"]}
        told = {
            "status": "no task has the status 'faild'; did you mean 'failed'?",
            "type": "no event has the type 'task.of_tomorrow'; known: ",
            "source": "there is no source 'stduio'; did you mean 'studio'?",
        }
        body = {"name": "fresh", "url": URL, **wanted}
        async with client.post("/v1/webhooks", json=body, headers=HOOKS) as response:
            made = await response.json()
        assert (response.status, made["status"]) == (201, ["faild"])
        assert [item["field"] for item in made["doubts"]] == list(told)
        assert all(item["detail"].startswith(told[item["field"]]) for item in made["doubts"])
        async with client.patch("/v1/webhooks/billing", json={"status": "faild"}, headers=HOOKS) as response:
            assert (await response.json())["doubts"] == [{"field": "status", "detail": told["status"]}]
        async with client.patch("/v1/webhooks/billing", json={"status": "failed"}, headers=HOOKS) as response:
            assert (await response.json())["doubts"] == []
        async with client.get("/v1/webhooks/fresh", headers=HOOKS) as response:
            assert "doubts" not in await response.json()

    async def test_one_of_the_file_is_not_deleted(self, client: TestClient, world: World) -> None:
        """409, and it is still there."""
        async with client.delete("/v1/webhooks/archive", headers=HOOKS) as response:
            await problem_of(response, 409, "webhook_in_file")
        async with client.delete("/v1/webhooks/billing", headers=HOOKS) as response:
            assert (response.status, await response.read()) == (204, b"")
        assert list(world.webhooks.views) == ["archive"]

    async def test_a_test_event_is_a_delivery(self, client: TestClient) -> None:
        """202, with where to look what came of it."""
        async with client.post("/v1/webhooks/billing/test", headers=HOOKS) as response:
            assert response.status == 202
            assert response.headers["Location"] == "/v1/deliveries/billing.7"
            assert (await response.json())["state"] == "pending"

    async def test_enable(self, client: TestClient, world: World) -> None:
        """Answers with the endpoint."""
        async with client.post("/v1/webhooks/billing/enable", headers=HOOKS) as response:
            assert (response.status, (await response.json())["name"]) == (200, "billing")
        assert world.webhooks.calls == [("enable", "billing", "hooks")]


class TestRotation:
    @pytest.mark.parametrize(
        ("body", "secret", "overlap"),
        [
            (None, GENERATED, 86400.0),
            ({}, GENERATED, 86400.0),
            ({"secret": None, "overlap": None}, GENERATED, 86400.0),
            ({"overlap": 0}, GENERATED, 0.0),
            ({"secret": SECRET, "overlap": 1.5}, SECRET, 1.5),
        ],
    )
    async def test_the_new_secret_is_the_answer(
        self, client: TestClient, world: World, body: Any, secret: str, overlap: float
    ) -> None:
        """Given or generated; a day of overlap unless it says otherwise; not to be kept by anybody on the way."""
        async with client.post("/v1/webhooks/billing/rotate-secret", json=body, headers=HOOKS) as response:
            assert (response.status, await response.json()) == (200, {"secret": secret})
            assert response.headers["Cache-Control"] == "no-store"
        assert world.webhooks.calls == [("rotate", "billing", overlap, "hooks")]

    @pytest.mark.parametrize(
        ("body", "names"),
        [
            ({"secret": "canary"}, ["secret"]),
            ({"secret": 5, "overlap": "canary"}, ["secret", "overlap"]),
            ({"secret": "canary", "overlap": 604801}, ["secret", "overlap"]),
            ({"overlap": True}, ["overlap"]),
            ({"overlap": -1}, ["overlap"]),
            ({"overlap": 10**400}, ["overlap"]),
            ({"overlap": 1e308 * 10}, None),
            ({"overlaps": 3}, ["overlaps"]),
        ],
    )
    async def test_what_cannot_be_one(
        self, client: TestClient, world: World, body: Any, names: list[str] | None
    ) -> None:
        """400 with the fields, nothing is changed and nothing repeated."""
        async with client.post("/v1/webhooks/billing/rotate-secret", json=body, headers=HOOKS) as response:
            problem = await problem_of(response, 400, "invalid_body" if names else "invalid_json")
        assert "canary" not in json.dumps(problem)
        assert names is None or sorted(fields(problem)) == sorted(names)
        assert world.webhooks.calls == []


class TestReplay:
    @pytest.mark.parametrize(
        ("wanted", "after"),
        [({"after": "00000000000000000002"}, 2), ({"after": f"{EPOCH}:1"}, 1), ({"after": 0}, 0), ({"after": "3", "since": None}, 3)],
    )  # fmt: skip
    async def test_after_a_position(self, client: TestClient, world: World, wanted: Any, after: int) -> None:
        """202 with where it begins."""
        async with client.post("/v1/webhooks/billing/replay", json=wanted, headers=HOOKS) as response:
            answer = {"endpoint": "billing", "after": f"{after:020d}", "complete": True}
            assert (response.status, await response.json()) == (202, answer)
        assert world.webhooks.calls == [("replay", "billing", after, None, "hooks")]

    @pytest.mark.parametrize(
        ("since", "moment"),
        [("2026-01-31T12:00:00Z", 1769860800.0), ("2026-01-31T13:00:00+01:00", 1769860800.0), ("24h", 913600.0), ("90", 999910.0), ("9" * 400 + "d", 0.0), ("0001-01-01T00:00:00Z", 0.0)],
    )  # fmt: skip
    async def test_since_a_time(self, client: TestClient, world: World, since: str, moment: float) -> None:
        """A time, or a length of time ago; never before time began."""
        async with client.post("/v1/webhooks/billing/replay", json={"since": since}, headers=HOOKS) as response:
            assert response.status == 202, await response.text()
        assert world.webhooks.calls == [("replay", "billing", None, moment, "hooks")]

    @pytest.mark.parametrize(
        ("wanted", "after", "complete"),
        [({"after": "1"}, 2, False), ({"after": "2"}, 2, True), ({"since": "24h"}, 2, False), ({"after": "3"}, 3, True)],
    )  # fmt: skip
    async def test_a_log_that_begins_later(
        self, client: TestClient, world: World, wanted: Any, after: int, complete: bool
    ) -> None:
        """It begins with what is left, and does not pretend that this is all."""
        world.store.floor = world.webhooks.floor = 2
        async with client.post("/v1/webhooks/billing/replay", json=wanted, headers=HOOKS) as response:
            answer = {"endpoint": "billing", "after": f"{after:020d}", "complete": complete}
            assert await response.json() == answer

    @pytest.mark.parametrize(
        ("wanted", "name"),
        [
            ({}, "after"), (None, "after"), ({"after": "1", "since": "1h"}, "after"), ({"after": None}, "after"),
            ({"after": "x"}, "after"), ({"after": -1}, "after"), ({"after": True}, "after"), ({"after": 1.5}, "after"),
            ({"after": "4"}, "after"), ({"after": "9" * 20}, "after"), ({"after": 10**400}, "after"), ({"after": [1]}, "after"),
            ({"since": "soon"}, "since"), ({"since": 3600}, "since"), ({"since": ""}, "since"), ({"from": "1h"}, "from"),
        ],
    )  # fmt: skip
    async def test_what_is_neither(self, client: TestClient, world: World, wanted: Any, name: str) -> None:
        """400 with the field."""
        async with client.post("/v1/webhooks/billing/replay", json=wanted, headers=HOOKS) as response:
            assert fields(await problem_of(response, 400, "invalid_body")) == [name]
        assert world.webhooks.calls == []

    async def test_a_position_of_another_log(self, client: TestClient, world: World) -> None:
        """410, as everywhere, with where this one begins."""
        async with client.post("/v1/webhooks/billing/replay", json={"after": "ffff:1"}, headers=HOOKS) as response:
            problem = await problem_of(response, 410, "position_gone")
        assert problem["oldest"] == f"{EPOCH}:{0:020d}"
        assert world.webhooks.calls == []


class TestDeliveries:
    async def test_a_delivery(self, client: TestClient) -> None:
        """As the contract says, and what it is about."""
        async with client.get("/v1/deliveries/billing.5", headers=HOOKS) as response:
            assert await response.json() == {
                "id": "billing.5", "event_id": "e5", "endpoint": "billing", "state": "dead", "next_attempt_at": None,
                "attempts": [{"at": AT, "status": 500, "duration_ms": 12.345, "error": "HTTP 500", "response": None}],
                "sequence": f"{5:020d}", "type": "task.succeeded", "task": "studio/t1",
            }  # fmt: skip

    async def test_pages(self, client: TestClient, world: World) -> None:
        """Newest first, each once, until there is no next."""
        world.webhooks.deliver(*(delivery(number, "delivered") for number in range(10, 17)))
        seen: list[str] = []
        query = {"limit": "3"}
        while True:
            async with client.get("/v1/webhooks/billing/deliveries", params=query, headers=HOOKS) as response:
                page = await response.json()
            assert len(page["items"]) <= 3
            seen += [item["id"] for item in page["items"]]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        assert seen == [f"billing.{number}" for number in (16, 15, 14, 13, 12, 11, 10, 5)]

    async def test_pages_are_bounded_in_bytes(
        self, client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A page of large deliveries ends early, and its next goes on where it ended."""
        monkeypatch.setattr(deliveries, "_CHUNK", 2)
        monkeypatch.setattr(deliveries, "PAGE_BYTES", 3000)
        large = attempt() | {"response": "x" * 1000}
        world.webhooks.deliver(*(delivery(number, "dead", large) for number in range(10, 17)))
        sizes, seen, cursor = [], [], ""
        while cursor is not None:
            query = {"limit": "100", "cursor": cursor}
            async with client.get("/v1/webhooks/billing/deliveries", params=query, headers=HOOKS) as response:
                page = await response.json()
            sizes.append(len(page["items"]))
            seen += [item["id"] for item in page["items"]]
            cursor = page["next"]
        assert sizes == [4, 4]
        assert seen == [f"billing.{number}" for number in (16, 15, 14, 13, 12, 11, 10, 5)]

    @pytest.mark.parametrize(("state", "count"), [("dead", 1), ("pending", 0), ("delivered", 1), ("skipped", 0)])
    async def test_by_state(self, client: TestClient, world: World, state: str, count: int) -> None:
        """Only those."""
        world.webhooks.deliver(delivery(9, "delivered"))
        async with client.get("/v1/webhooks/billing/deliveries", params={"state": state}, headers=HOOKS) as response:
            assert [item["state"] for item in (await response.json())["items"]] == [state] * count

    @pytest.mark.parametrize(
        ("query", "name"),
        [
            ("state=lost", "state"), ("state=dead&state=dead", "state"), ("limit=0", "limit"), ("limit=1001", "limit"),
            ("cursor=x", "cursor"),
        ],
    )  # fmt: skip
    async def test_bad_parameters(self, client: TestClient, query: str, name: str) -> None:
        """400 with the parameter."""
        async with client.get(f"/v1/webhooks/billing/deliveries?{query}", headers=HOOKS) as response:
            assert fields(await problem_of(response, 400, "invalid_parameter")) == [name]

    async def test_another_try(self, client: TestClient, world: World) -> None:
        """202 with what it is now; or with how many of all."""
        async with client.post("/v1/deliveries/billing.5/retry", headers=HOOKS) as response:
            answer = await response.json()
        assert (response.status, answer["id"], answer["state"], len(answer["attempts"])) == (
            202,
            "billing.5",
            "pending",
            1,
        )
        async with client.post("/v1/webhooks/billing/retry", headers=HOOKS) as response:
            assert (response.status, await response.json()) == (202, {"endpoint": "billing", "retried": 1})
        assert world.webhooks.calls == [("retry", "billing.5", "hooks"), ("retry_dead", "billing", "hooks")]


BODIES = [(method, path) for method, path, *_ in ROUTES if method in ("POST", "PATCH")]


@pytest.mark.parametrize(("method", "path"), BODIES, ids=map(" ".join, BODIES))
class TestBodies:
    """What holds for every body that is taken."""

    @pytest.mark.parametrize(
        "body",
        [
            b"{", b"nope", b"\xff\xfe{}", '{"a":1}'.encode("utf-16"), b'{"name":"\xff"}', b'{"name":"\\ud800"}', b'{"a":NaN}',
            b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"a":' * 30 + b"1" + b"}" * 30,
            b'{"overlap":1' + b"0" * 5000 + b"}",
        ],
        ids=lambda body: repr(body[:12]),
    )  # fmt: skip
    async def test_what_is_no_json(self, client: TestClient, world: World, method: str, path: str, body: bytes) -> None:
        """400, whatever the bytes, and nothing happens."""
        async with client.request(method, path, data=body, headers=HOOKS) as response:
            await problem_of(response, 400)
        assert world.webhooks.calls == []

    @pytest.mark.parametrize("body", [b"[]", b'"text"', b"7", b"null", b"true"])
    async def test_what_is_no_object(
        self, client: TestClient, world: World, method: str, path: str, body: bytes
    ) -> None:
        """400 that says so."""
        async with client.request(method, path, data=body, headers=HOOKS) as response:
            assert fields(await problem_of(response, 400, "invalid_body")) == ["body"]
        assert world.webhooks.calls == []

    async def test_a_name_that_is_given_twice(self, client: TestClient, world: World, method: str, path: str) -> None:
        """Which of the two was meant is not for us to say."""
        body = b'{"headers": {"a": "1", "a": "2"}, "b": 1}'
        async with client.request(method, path, data=body, headers=HOOKS) as response:
            assert fields(await problem_of(response, 400, "invalid_body")) == ["a"]
        assert world.webhooks.calls == []

    async def test_a_name_that_nobody_knows(self, client: TestClient, world: World, method: str, path: str) -> None:
        """Is named, and its value is not."""
        async with client.request(method, path, json={"tiemout": "canary"}, headers=HOOKS) as response:
            problem = await problem_of(response, 400, "invalid_body")
        assert "tiemout" in fields(problem)
        assert "canary" not in json.dumps(problem)
        assert world.webhooks.calls == []

    async def test_more_than_can_be_meant(self, client: TestClient, world: World, method: str, path: str) -> None:
        """Thousands of names, or names without end, are not answered one by one."""
        for body in ({f"k{number}": 1 for number in range(300)}, {"k" * 300: 1}):
            async with client.request(method, path, json=body, headers=HOOKS) as response:
                assert fields(await problem_of(response, 400, "invalid_body")) == ["body"]
        async with client.request(method, path, data=io.BytesIO(b" " * (1024 * 1024 + 1)), headers=HOOKS) as response:
            await problem_of(response, 413, "body_too_large")
        assert world.webhooks.calls == []


async def test_names_that_need_escapes(client: TestClient, world: World) -> None:
    """A dot belongs to a name, and to a delivery of it."""
    world.webhooks.add("v1.2")
    world.webhooks.deliver(replace(delivery(3, "dead"), id="v1.2.3", endpoint="v1.2"))
    async with client.get("/v1/deliveries/v1.2.3", headers=HOOKS) as response:
        assert (await response.json())["endpoint"] == "v1.2"
    for path in ("/v1/webhooks/%2e%2e", "/v1/webhooks/a%2Fb", "/v1/webhooks/%00", "/v1/deliveries/%ff"):
        async with client.get(path, headers=HOOKS) as response:
            await problem_of(response, 404)
