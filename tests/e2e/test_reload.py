"""SIGHUP: a started gateway follows its configuration file, loses nobody and nothing, and says what it did."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from gateway import simulators
from gateway.simulators import Triverse
from tests.e2e.kit import SECRET, Backend, Stream, listening, write
from tests.e2e.test_outside import finish, hook
from tests.e2e.test_upstreams import studio
from tests.process import Process

OPERATOR = {"token": "canary-operator-token", "scope": "admin", "name": "operator"}
READER = {"token": "canary-reader-token", "scope": "events:read", "name": "reader"}
LATER = {"token": "canary-later-token", "scope": "events:read", "name": "later"}


class Gateway:
    """A gateway in a process of its own, and the file that it is told to read again."""

    def __init__(self, directory: Path, process: Process, sections: dict[str, Any]) -> None:
        self.process = process
        self.url = ""
        self._directory, self._sections = directory, sections

    def edit(self, **sections: Any) -> None:
        """Writes the file anew with other sections."""
        self._sections |= sections
        write(self._directory, **self._sections)

    def hang_up(self) -> None:
        """Has it read the file again."""
        self.process.signal(signal.SIGHUP)

    async def reload(self, event: str = "configuration_reloaded", **sections: Any) -> dict[str, Any]:
        """The line that tells what came of another file."""
        seen = len(self.process.lines)
        self.edit(**sections)
        self.hang_up()
        return await self.process.logged(event, after=seen)

    async def status(self, path: str, token: str | None = OPERATOR["token"]) -> int:
        """Of the answer to a GET."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as session, session.get(self.url + path, headers=headers) as answer:
            await answer.read()
            return answer.status

    async def metric(self, series: str) -> float:
        """The value of one series."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        (value,) = [line.rpartition(" ")[2] for line in lines if line.startswith(series + " ")]
        return float(value)


@asynccontextmanager
async def started(directory: Path, environ: Mapping[str, str] | None = None, **sections: Any) -> AsyncIterator[Gateway]:
    """It runs for as long as the block does; no secret may be in any line of its log."""
    process = await Process.start(write(directory, **sections), environ)
    gateway = Gateway(directory, process, sections)
    try:
        gateway.url = await process.url()
        yield gateway
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    finally:
        await process.kill()
    log = "".join(process.output)
    assert "canary" not in log
    assert SECRET.removeprefix("whsec_") not in log


@pytest.fixture
async def upstream() -> AsyncIterator[Triverse]:
    async with await simulators.start("triverse", rate=0) as upstream:
        yield upstream


async def closing(stream: Stream) -> tuple[str, int | None]:
    """The reason and the code of the end of a stream."""
    notice = await stream.until("stream.closing")
    message = await stream.socket.receive(timeout=20)
    assert message.type is aiohttp.WSMsgType.CLOSE
    return notice["data"]["reason"], stream.socket.close_code


async def test_webhooks_come_change_and_go(tmp_path: Path, upstream: Triverse) -> None:
    """A new endpoint gets the next event, a changed one goes on by its new settings, a removed one gets nothing more; a
    stream that is open all the while sees every event once."""
    first, second = Backend(), Backend()
    async with (
        first.running(),
        second.running(),
        started(tmp_path, sources=[studio(upstream)], auth={"tokens": [OPERATOR]}) as gateway,
        listening(gateway.url, f"token={OPERATOR['token']}") as stream,
    ):
        await stream.until("source.connected")
        before = finish(upstream)
        await stream.until("task.succeeded")
        line = await gateway.reload(webhooks=[hook(first)])
        assert (line["webhooks_added"], line["webhooks_changed"], line["webhooks_removed"]) == (["billing"], [], [])
        assert (await stream.until("webhook.created"))["data"] == {"endpoint": "billing", "by": "configuration"}
        (task,) = finish(upstream)
        await first.received(1)
        assert json.loads(first.requests[0][1])["subject"] == task
        assert task not in before
        line = await gateway.reload(webhooks=[hook(second, type=["task.created", "task.succeeded"])])
        assert (line["webhooks_added"], line["webhooks_changed"], line["webhooks_removed"]) == ([], ["billing"], [])
        changed = await stream.until("webhook.updated")
        assert changed["data"] == {"endpoint": "billing", "by": "configuration", "changed": ["type", "url"]}
        finish(upstream)
        await second.received(2)
        line = await gateway.reload(webhooks=[hook(second, type=["task.created", "task.succeeded"])])
        assert (line["webhooks_added"], line["webhooks_changed"], line["webhooks_removed"]) == ([], [], [])
        line = await gateway.reload(webhooks=[])
        assert (line["webhooks_added"], line["webhooks_changed"], line["webhooks_removed"]) == ([], [], ["billing"])
        assert await gateway.status("/v1/webhooks/billing") == 404
        await stream.until("webhook.deleted")
        finish(upstream)
        await stream.until("task.succeeded")
        assert (len(first.requests), len(second.requests)) == (1, 2)
        positions = [event["sequence"] for event in stream.events if not event["type"].startswith("stream.")]
        assert positions == sorted(set(positions))
        assert [event["type"] for event in stream.events].count("task.succeeded") == 4
        assert await gateway.metric('mainstem_config_reloads_total{outcome="success"}') == 4


async def test_an_endpoint_that_the_reload_made_outlives_the_process(tmp_path: Path, upstream: Triverse) -> None:
    """It is the file's, as if it had been there at the start; taken out before the next start, it is forgotten then."""
    backend = Backend()
    async with backend.running():
        async with started(tmp_path, sources=[studio(upstream)]) as gateway:
            await gateway.reload(webhooks=[hook(backend)])
            finish(upstream)
            await backend.received(1)
        async with started(tmp_path, sources=[studio(upstream)], webhooks=[hook(backend)]) as gateway:
            async with listening(gateway.url) as stream:
                await stream.until("webhook.created")
            finish(upstream)
            await backend.received(2)
        async with started(tmp_path, sources=[studio(upstream)]) as gateway:
            line = await gateway.process.logged("webhook_endpoint_left_the_file")
            assert line["endpoint"] == "billing"


async def test_a_token_that_is_taken_back(tmp_path: Path) -> None:
    """It is refused at once, and what it let in is closed, SSE too; the other tokens' streams see nothing of it."""
    async with started(tmp_path, auth={"tokens": [READER, OPERATOR]}) as gateway:
        headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {READER['token']}"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{gateway.url}/v1/stream", headers=headers) as sse,
            listening(gateway.url, f"token={READER['token']}") as reader,
            listening(gateway.url, f"token={OPERATOR['token']}") as operator,
            listening(gateway.url, "") as waiting,
        ):
            await reader.until("stream.synced")
            await operator.until("stream.synced")
            await waiting.until("stream.opened")
            line = await gateway.reload(auth={"tokens": [LATER, OPERATOR]})
            assert (line["changed"], line["streams_closed"]) == (["auth.tokens"], 2)
            assert await closing(reader) == ("unauthenticated", 4001)
            async with asyncio.timeout(20):
                text = (await sse.content.read()).decode()
            assert '"reason":"unauthenticated"' in text.replace(" ", "")
            statuses = [await gateway.status("/v1/tasks", token["token"]) for token in (READER, LATER, OPERATOR)]
            assert statuses == [401, 200, 200]
            await waiting.socket.send_json({"op": "authenticate", "token": LATER["token"]})
            await waiting.until("stream.synced")
            await operator.socket.send_json({"op": "ping", "id": "still here"})
            assert (await operator.next())["data"] == {"id": "still here"}


async def test_a_scope_that_is_changed(tmp_path: Path, upstream: Triverse) -> None:
    """Less is shown from now on where less is allowed; where nothing of what was asked for is, the stream ends with 4003."""
    async with started(tmp_path, sources=[studio(upstream)], auth={"tokens": [READER, OPERATOR]}) as gateway:
        await upstream.wait_connection()
        task = upstream.create_task(input={"prompt": "a"}).uuid
        token, only = READER["token"], "events:read:progress"
        async with (
            listening(gateway.url, f"token={OPERATOR['token']}&after=0") as operator,
            listening(gateway.url, f"token={token}&after=0&task=studio/{task}") as one,
            listening(gateway.url, f"token={token}&after=0") as everything,
        ):
            event = await one.until("task.created")
            assert (event["data"]["input"], event["data"]["redacted"]) == ({"prompt": "a"}, False)
            await everything.until("stream.synced")
            line = await gateway.reload(auth={"tokens": [{**READER, "scope": only}, OPERATOR]})
            assert line["streams_closed"] == 1
            assert await closing(everything) == ("not_allowed", 4003)
            upstream.push_state(task, status="RUNNING")
            assert (await operator.until("task.started"))["data"]["input"] == {"prompt": "a"}
            event = await one.until("task.started")
            assert (event["data"]["input"], event["data"]["redacted"]) == (None, True)


async def test_a_secret_that_is_changed(tmp_path: Path) -> None:
    """JSON Web Tokens of the old one are worth nothing any more; the secret comes from a file that is read anew."""
    secret = tmp_path / "secret"
    old, new = "canary-" + "o" * 32, "canary-" + "n" * 32
    secret.write_text(old)

    def mint(key: str) -> str:
        return jwt.encode({"exp": time.time() + 600, "scope": "events:read", "sub": "alice"}, key, "HS256")

    environ = {**os.environ, "KEY_FILE": str(secret)}
    async with started(tmp_path, environ, auth={"secret": "${KEY}"}) as gateway:
        async with listening(gateway.url, f"token={mint(old)}") as stream:
            await stream.until("stream.synced")
            secret.write_text(new)
            line = await gateway.reload()
            assert (line["changed"], line["streams_closed"]) == (["auth.secret"], 1)
            assert await closing(stream) == ("unauthenticated", 4001)
        assert [await gateway.status("/v1/tasks", mint(key)) for key in (old, new)] == [401, 200]


async def test_a_file_that_is_not_valid(tmp_path: Path) -> None:
    """Nothing of it is taken, one line says what `check` says, without a value; the next good one is followed."""
    backend = Backend()
    async with backend.running(), started(tmp_path, auth={"tokens": [OPERATOR]}) as gateway:
        wrong = {"tokens": [LATER, {**READER, "scope": "canary-scope"}]}
        line = await gateway.reload(
            "configuration_invalid", auth=wrong, webhooks=[hook(backend)], log={"level": "debug"}
        )
        assert line["level"] == "error"
        (problem,) = line["problems"]
        assert problem.startswith(f"{tmp_path / 'config.yaml'}:1: auth.tokens[1].scope: has an unknown scope")
        check = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            "check",
            "-c",
            str(tmp_path / "config.yaml"),
            stderr=asyncio.subprocess.PIPE,
        )
        assert (await check.communicate())[1].decode().splitlines() == line["problems"]
        assert [await gateway.status("/v1/tasks", token["token"]) for token in (OPERATOR, LATER)] == [200, 401]
        assert await gateway.status("/v1/webhooks/billing") == 404
        assert await gateway.metric('mainstem_config_reloads_total{outcome="invalid"}') == 1
        before = await gateway.metric("mainstem_config_last_reload_success_timestamp_seconds")
        await gateway.reload(auth={"tokens": [LATER, OPERATOR]})
        assert await gateway.status("/v1/tasks", LATER["token"]) == 200
        assert await gateway.metric("mainstem_config_last_reload_success_timestamp_seconds") > before


async def test_what_needs_a_restart(tmp_path: Path, upstream: Triverse) -> None:
    """Each key is named, and nothing is done about it; what can be followed is."""
    async with started(tmp_path, auth={"tokens": [OPERATOR]}) as gateway:
        seen = len(gateway.process.lines)
        line = await gateway.reload(
            server={"port": 0, "drain_timeout": 3, "ui": False},
            store={"retain": "2d"},
            sources=[studio(upstream)],
            auth={"tokens": [OPERATOR, LATER]},
        )
        assert line["changed"] == ["auth.tokens"]
        warning = await gateway.process.logged("configuration_needs_restart", after=seen)
        assert (warning["level"], warning["keys"]) == (
            "warning", ["server.ui", "server.drain_timeout", "store.retain", "sources[0]"],
        )  # fmt: skip
        assert await gateway.status("/ui/") == 200
        assert await gateway.status("/v1/tasks", LATER["token"]) == 200
        seen = len(gateway.process.lines)
        line = await gateway.reload(auth={"mode": "none"})
        warning = await gateway.process.logged("configuration_needs_restart", after=seen)
        assert warning["keys"][:2] == ["auth.tokens", "auth.mode"]
        assert line["changed"] == []
        assert await gateway.status("/v1/tasks", None) == 401


async def test_the_level_of_the_log(tmp_path: Path) -> None:
    """The line that says what was changed is of the new level already: there is none at `warning`, but what is worse."""
    async with started(tmp_path, auth={"tokens": [OPERATOR]}) as gateway:
        seen = len(gateway.process.lines)
        await gateway.reload("configuration_needs_restart", log={"level": "warning"}, store={"retain": "1d"})
        line = await gateway.reload(log={"level": "debug"}, store={})
        assert line["changed"] == ["log.level"]
        assert [line["event"] for line in gateway.process.lines[seen:] if line["level"] == "info"] == [line["event"]]
        line = await gateway.reload(log={"level": "info", "format": "json"})
        assert line["changed"] == ["log.level"]


async def test_many_signals(tmp_path: Path) -> None:
    """However many come while one is followed, the last file is followed in the end; what comes during a drain changes
    nothing and ends nothing."""
    async with started(tmp_path, auth={"tokens": [OPERATOR]}) as gateway:
        for count in range(20):
            gateway.edit(auth={"tokens": [OPERATOR, {**LATER, "token": f"canary-later-{count}"}]})
            gateway.hang_up()
        async with asyncio.timeout(20):
            while await gateway.status("/v1/tasks", "canary-later-19") != 200:
                await asyncio.sleep(0.02)
        assert await gateway.status("/v1/tasks", "canary-later-18") == 401
        gateway.process.signal(signal.SIGTERM)
        await gateway.process.logged("gateway_stopping")
        gateway.edit(auth={"tokens": [OPERATOR, READER]})
        gateway.hang_up()
        await gateway.process.logged("gateway_stopped")
        reloads = [line for line in gateway.process.lines if line["event"] == "configuration_reloaded"]
        assert 0 < len(reloads) <= 20
        assert [line["event"] for line in gateway.process.lines][-1] == "gateway_stopped"


async def test_a_pipe_cannot_be_read_again(tmp_path: Path) -> None:
    """It is empty by then, and an empty file is a valid one: nothing would be left of the configuration."""
    path = tmp_path / "config.yaml"
    os.mkfifo(path)
    starting = asyncio.create_task(Process.start(path))
    await asyncio.to_thread(
        path.write_text, "server: {port: 0}\nauth: {tokens: [{token: canary-token, scope: admin}]}\n"
    )
    process = await starting
    try:
        url = await process.url()
        process.signal(signal.SIGHUP)
        line = await process.logged("configuration_invalid")
        assert line["problems"] == [f"{path}: is not a regular file, so it cannot be read again"]
        async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/tasks") as answer:
            assert answer.status == 401
    finally:
        await process.kill()
