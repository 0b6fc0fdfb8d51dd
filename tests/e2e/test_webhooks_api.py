"""Endpoints that are managed while the gateway runs: over HTTP and from the command line, against a started process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import standardwebhooks

from gateway import simulators
from gateway.simulators import Triverse
from tests.e2e.kit import SECRET, Backend, listening, write
from tests.e2e.test_outside import finish, hook
from tests.e2e.test_upstreams import studio
from tests.process import Process

TOKEN, READER = "canary-operator-token", "canary-reader-token"
AUTH = {
    "tokens": [
        {"token": TOKEN, "scope": "admin", "name": "operator"},
        {"token": READER, "scope": "events:read"},
    ]
}
HEADER = "canary-header-value"
PAGE = Path(__file__).parent.parent.parent / "docs" / "webhooks.md"


class Api:
    """A client of the API that remembers every byte it was sent."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url
        self.said: list[str] = []

    async def ask(self, method: str, path: str, body: Any = None, *, token: str = TOKEN) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        headers = {"Authorization": f"Bearer {token}"}
        async with self._session.request(method, self.url + path, json=body, headers=headers) as answer:
            text = await answer.text()
        self.said.append(text)
        return answer.status, json.loads(text) if text else None

    async def good(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer that has to be good."""
        status, value = await self.ask(method, path, body)
        assert 200 <= status < 300, value
        return value

    async def until(self, path: str, wanted: Callable[[Any], bool]) -> Any:
        """What a GET answers, once it is wanted."""
        async with asyncio.timeout(20):
            while not wanted(value := await self.good("GET", path)):
                await asyncio.sleep(0.02)
        return value


class World:
    """A gateway in a process of its own, between a simulated upstream and a receiver."""

    def __init__(self, directory: Path, upstream: Triverse, backend: Backend) -> None:
        self.directory, self.upstream, self.backend = directory, upstream, backend
        self.hooks: list[dict[str, Any]] = []
        self.output: list[str] = []
        self.said: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Api]:
        """One run of the gateway, ended as by a crash."""
        config = write(self.directory, sources=[studio(self.upstream)], auth=AUTH, webhooks=self.hooks)
        process = await Process.start(config)
        try:
            async with aiohttp.ClientSession() as session:
                api = Api(session, await process.url())
                await api.until("/v1/sources", lambda page: page["items"][0]["state"] == "live")
                yield api
                self.said += api.said
        finally:
            await process.kill()
            self.output += process.output

    def settings(self, **more: Any) -> dict[str, Any]:
        """An endpoint for the receiver."""
        return {
            "name": "billing", "url": self.backend.url, "allow_private": True, "type": ["task.succeeded"],
            "headers": {"X-Key": HEADER}, "retry_schedule": [], **more,
        }  # fmt: skip

    def events(self, secret: str, start: int = 0) -> list[dict[str, Any]]:
        """What the receiver got, verified by a library that nobody here wrote."""
        for headers, body in self.backend.requests[start:]:
            standardwebhooks.Webhook(secret).verify(body, headers)
            assert headers["webhook-id"] == json.loads(body)["id"]
        return [json.loads(body) for _, body in self.backend.requests[start:]]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Whatever the test does, no secret may be in any log line."""
    backend = Backend()
    async with backend.running(), await simulators.start("triverse", rate=0) as upstream:
        world = World(tmp_path, upstream, backend)
        yield world
    log = "".join(world.output)
    assert "canary" not in log
    assert "whsec_" not in log
    assert SECRET.removeprefix("whsec_") not in log
    assert HEADER not in "".join(world.said)


async def settled(api: Api) -> None:
    """Returns once what came of every delivery is stored, so that a crash does not have it sent again."""
    path = "/v1/webhooks/billing/deliveries"
    await api.until(path, lambda page: page["items"] and all(item["state"] != "pending" for item in page["items"]))


def in_order(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events of several tasks, which may overtake each other, in the order of the log."""
    return sorted(events, key=lambda event: str(event["sequence"]))


async def test_an_endpoint_made_by_the_api_outlives_the_process(world: World) -> None:
    """Signed with the secret that was shown once; after kill -9 it is there with its settings, and goes on."""
    async with world.running() as api:
        made = await api.good("POST", "/v1/webhooks", world.settings())
        secret = made.pop("secret")
        assert made.pop("doubts") == []
        (first,) = finish(world.upstream)
        await world.backend.received(1)
        (event,) = world.events(secret)
        assert (event["subject"], event["type"]) == (first, "task.succeeded")
        assert world.backend.requests[0][0]["x-key"] == HEADER
        status, problem = await api.ask("POST", "/v1/webhooks", world.settings())
        assert (status, problem["code"]) == (409, "webhook_exists")
        status, problem = await api.ask("GET", "/v1/webhooks", token=READER)
        assert (status, problem["code"]) == (403, "insufficient_scope")
        await settled(api)
    async with world.running() as api:
        again = await api.good("GET", "/v1/webhooks/billing")
        assert {**again, "health": None} == {**made, "health": None}
        assert "secret" not in again
        (second,) = finish(world.upstream)
        await world.backend.received(2)
        assert [event["subject"] for event in world.events(secret)] == [first, second]
        await api.good("DELETE", "/v1/webhooks/billing")
        assert (await api.ask("GET", "/v1/webhooks/billing"))[0] == 404
        status, problem = await api.ask("GET", f"/v1/deliveries/billing.{int(event['sequence'])}")
        assert (status, problem["code"]) == (404, "delivery_not_found")
    async with world.running() as api:
        assert (await api.good("GET", "/v1/webhooks"))["items"] == []
    assert "".join(world.said).count(secret) == 1


async def test_rotation(world: World) -> None:
    """While both are good both sign, the new one first; without an overlap the replaced one is worth nothing at once."""
    async with world.running() as api:
        old = (await api.good("POST", "/v1/webhooks", world.settings()))["secret"]
        new = (await api.good("POST", "/v1/webhooks/billing/rotate-secret"))["secret"]
        finish(world.upstream)
        await world.backend.received(1)
        headers, body = world.backend.requests[0]
        signatures = headers["webhook-signature"].split()
        assert len(signatures) == 2
        world.events(old)
        world.events(new)
        standardwebhooks.Webhook(new).verify(body, headers | {"webhook-signature": signatures[0]})
        last = await api.good("POST", "/v1/webhooks/billing/rotate-secret", {"secret": SECRET, "overlap": 0})
        assert last == {"secret": SECRET}
        await settled(api)
    async with world.running():
        finish(world.upstream)
        await world.backend.received(2)
        headers, body = world.backend.requests[1]
        for good in (SECRET, old):  # the first one's overlap is not over
            standardwebhooks.Webhook(good).verify(body, headers)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(new).verify(body, headers)


async def test_disabled_and_back(world: World) -> None:
    """Nothing is queued while it is disabled; a replay fetches it, in order, with the same ids."""
    async with world.running() as api, listening(api.url, f"token={READER}&after=0") as stream:
        secret = (await api.good("POST", "/v1/webhooks", world.settings()))["secret"]
        begin = (await stream.until("webhook.created"))["sequence"]
        answer = await api.good("PATCH", "/v1/webhooks/billing", {"enabled": False})
        assert (answer["enabled"], answer["health"]["state"]) == (False, "disabled")
        missed = finish(world.upstream, 3)
        events = [await stream.until("task.succeeded") for _ in missed]
        status, problem = await api.ask("POST", "/v1/webhooks/billing/replay", {"after": begin})
        assert (status, problem["code"]) == (409, "webhook_disabled")
        answer = await api.good("POST", "/v1/webhooks/billing/enable")
        assert answer["health"]["state"] != "disabled"
        assert world.backend.requests == []
        answer = await api.good("POST", "/v1/webhooks/billing/replay", {"after": begin})
        assert answer == {"endpoint": "billing", "after": begin, "complete": True}
        await world.backend.received(3)
        assert in_order(world.events(secret)) == events
        await api.good("POST", "/v1/webhooks/billing/replay", {"since": "1h"})
        await world.backend.received(6)
        assert in_order(world.events(secret, 3)) == events


async def test_dead_letters(world: World) -> None:
    """Listed with why, tried again one by one or all at once, with the same id; the history stays."""
    async with world.running() as api:
        secret = (await api.good("POST", "/v1/webhooks", world.settings()))["secret"]
        world.backend.status = 500
        finish(world.upstream, 3)
        await world.backend.received(3)
        dead = "/v1/webhooks/billing/deliveries?state=dead"
        letters = (await api.until(dead, lambda page: len(page["items"]) == 3))["items"]
        assert [letter["sequence"] for letter in letters] == sorted(
            (letter["sequence"] for letter in letters), reverse=True
        )
        first = letters[-1]
        assert set(first) >= {"id", "event_id", "endpoint", "state", "attempts", "next_attempt_at"}
        (attempt,) = first["attempts"]
        assert set(attempt) == {"at", "status", "duration_ms", "error", "response"}
        assert (attempt["status"], first["next_attempt_at"]) == (500, None)
        assert (await api.good("GET", "/v1/webhooks/billing"))["health"]["dead"] == 3
        page = await api.good("GET", dead + "&limit=2")
        rest = await api.good("GET", dead + f"&limit=2&cursor={page['next']}")
        assert (page["items"] + rest["items"], rest["next"]) == (letters, None)

        world.backend.status = 204
        await api.good("POST", f"/v1/deliveries/{first['id']}/retry")
        await world.backend.received(4)
        path = f"/v1/deliveries/{first['id']}"
        delivery = await api.until(path, lambda delivery: delivery["state"] == "delivered")
        assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 204]
        assert world.backend.requests[3][0]["webhook-id"] == first["event_id"]
        assert await api.good("POST", "/v1/webhooks/billing/retry") == {"endpoint": "billing", "retried": 2}
        await world.backend.received(6)
        await api.until(dead, lambda page: page["items"] == [])
        sent = [event["id"] for event in world.events(secret)]
        assert sorted(sent[:3]) == sorted(sent[3:])
        await api.until("/v1/webhooks/billing", lambda endpoint: endpoint["health"]["dead"] == 0)


async def test_the_test_event(world: World) -> None:
    """Goes to the one endpoint, past its filter, signed, and what came of it can be looked up."""
    other = Backend()
    async with other.running(), world.running() as api:
        secret = (await api.good("POST", "/v1/webhooks", world.settings()))["secret"]
        await api.good("POST", "/v1/webhooks", world.settings(name="other", url=other.url, type=["task.*"]))
        delivery = await api.good("POST", "/v1/webhooks/billing/test")
        assert delivery["endpoint"] == "billing"
        assert delivery["state"] in ("pending", "delivered")  # the receiver may be faster than the disk
        await world.backend.received(1)
        (event,) = world.events(secret)
        assert (event["type"], event["source"], event["subject"]) == ("webhook.test", "/mainstem", "billing")
        assert event["id"] == delivery["event_id"]
        path = f"/v1/deliveries/{delivery['id']}"
        done = await api.until(path, lambda delivery: delivery["state"] == "delivered")
        assert done["attempts"][0]["status"] == 204
        finish(world.upstream)
        await other.received(1)
        assert "webhook.test" not in [json.loads(body)["type"] for _, body in other.requests]


async def test_an_endpoint_of_the_file(world: World) -> None:
    """What the API changed holds across restarts, until the file says something new; it is not deleted from here."""
    world.hooks = [hook(world.backend, name="billing")]
    async with world.running() as api:
        answer = await api.good("PATCH", "/v1/webhooks/billing", {"timeout": 3, "type": None})
        assert (answer["origin"], answer["timeout"], answer["type"]) == ("file", 3, [])
        status, problem = await api.ask("DELETE", "/v1/webhooks/billing")
        assert (status, problem["code"]) == (409, "webhook_in_file")
    async with world.running() as api:
        answer = await api.good("GET", "/v1/webhooks/billing")
        assert (answer["timeout"], answer["type"]) == (3, [])
    world.hooks = [hook(world.backend, name="billing", concurrency=2)]
    async with world.running() as api:
        answer = await api.good("GET", "/v1/webhooks/billing")
        assert (answer["timeout"], answer["type"], answer["concurrency"]) == (15, ["task.succeeded", "task.failed"], 2)


async def test_who_did_what_is_on_the_stream(world: World) -> None:
    """Each change is an event, with who asked for it, and without anything secret."""
    async with world.running() as api, listening(api.url, f"token={READER}&after=0&type=webhook.*") as stream:
        await api.good("POST", "/v1/webhooks", world.settings(secret=SECRET))
        await api.good("PATCH", "/v1/webhooks/billing", {"headers": {"X-Other": HEADER}})
        await api.good("POST", "/v1/webhooks/billing/rotate-secret", {"secret": SECRET})
        await api.good("POST", "/v1/webhooks/billing/test")
        await api.good("POST", "/v1/webhooks/billing/replay", {"after": "0"})
        await api.good("PATCH", "/v1/webhooks/billing", {"enabled": False})
        await api.good("POST", "/v1/webhooks/billing/enable")
        await api.good("DELETE", "/v1/webhooks/billing")
        await stream.until("webhook.deleted")
        events = [event for event in stream.events if event["type"].startswith("webhook.")]
        types = [event["type"].partition(".")[2] for event in events]
        for wanted in ("created", "updated", "secret_rotated", "test", "replayed", "disabled", "enabled", "deleted"):
            assert wanted in types, types
        for event in events:
            assert (event["source"], event["subject"], event["data"]["endpoint"]) == ("/mainstem", "billing", "billing")
            assert event["data"]["by"] == "token:operator"
        text = json.dumps(stream.events)
        assert "canary" not in text
        assert SECRET not in text
        assert HEADER not in text


async def mainstem(api: Api, arguments: str, directory: Path) -> tuple[int, str]:
    """Runs a command as a user would; what it printed, stderr included."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *shlex.split(arguments),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=directory,
        env={**os.environ, "MAINSTEM_URL": api.url, "MAINSTEM_TOKEN": TOKEN},
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_the_command_line(world: World) -> None:
    """A user's way: make an endpoint, test it, find out why it fails, mend it, get what was missed."""
    async with world.running() as api:

        async def run(arguments: str) -> tuple[int, str]:
            return await mainstem(api, f"webhooks {arguments}", world.directory)

        code, said = await run(
            f"create billing {world.backend.url} allow_private=true type=task.succeeded retry_schedule=[]"
        )
        assert code == 0
        (secret,) = re.findall(r"whsec_\S+", said)
        code, said = await run("test billing")
        assert (code, "delivered: HTTP 204" in said) == (0, True)
        world.backend.status = 500
        code, said = await run("test billing")
        assert (code, "dead: " in said) == (1, True)
        finish(world.upstream)
        await world.backend.received(3)
        await api.until("/v1/webhooks/billing", lambda endpoint: endpoint["health"]["dead"] == 2)
        code, said = await run("deliveries billing --state dead --limit 1")
        assert (code, "task.succeeded" in said) == (0, True)
        world.backend.status = 204
        code, said = await run("retry --all billing")
        assert (code, "--yes" in said) == (2, True)
        code, said = await run("retry --all billing --yes")
        assert (code, said) == (0, "billing: 2 dead letters to be tried again.\n")
        await world.backend.received(5)
        await api.until("/v1/webhooks/billing", lambda endpoint: endpoint["health"]["dead"] == 0)
        code, said = await run("list")
        name, _, state, pending, dead, *_ = said.splitlines()[1].split()
        assert (code, name, state, pending, dead) == (0, "billing", "delivering", "0", "0")
        world.events(secret)


def commands() -> list[str]:
    """Every command of the page, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line]


async def test_the_page(world: World) -> None:
    """Every command in docs/webhooks.md does what it is there for, in the order of the page."""
    assert len(commands()) > 10
    async with world.running() as api:
        for command in commands():
            program, rest = command.split(None, 1)
            rest = rest.partition(" #")[0].replace("$MAINSTEM_URL", api.url)
            if program == "mainstem":
                rest = rest.replace("https://billing.example.com/hooks", f"{world.backend.url} allow_private=true")
                assert "--token" not in rest
                code, said = await mainstem(api, rest, world.directory)
                assert code == 0, f"{command}: {said}"
                continue
            assert program == "curl"
            words = shlex.split(rest)
            method = words[words.index("-X") + 1] if "-X" in words else "GET"
            body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
            if body is not None:
                body |= {"url": world.backend.url, "allow_private": True}
            (url,) = [word for word in words if word.startswith(api.url)]
            await api.good(method, url.removeprefix(api.url), body)
