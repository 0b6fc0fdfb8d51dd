"""A started gateway as its consumers see it: the stream, webhooks, readiness, shutdown, and the demo."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import aiohttp
import standardwebhooks
from cloudevents.v1.http import from_json

from gateway import simulators
from gateway.simulators import Triverse
from schemas.event import validate
from tests.e2e.kit import SECRET, Backend, get, listening, write
from tests.e2e.test_upstreams import studio
from tests.process import Process, running


def hook(backend: Backend, **options: Any) -> dict[str, Any]:
    return {
        "name": "billing", "url": backend.url, "secret": SECRET, "allow_private": True,
        "type": ["task.succeeded", "task.failed"], "retry_schedule": [0.1] * 20, **options,
    }  # fmt: skip


def finish(upstream: Triverse, count: int = 1) -> list[str]:
    tasks = [upstream.create_task().uuid for _ in range(count)]
    for task in tasks:
        upstream.push_state(task, status="SUCCESS", output={"n": 1})
    return tasks


async def test_a_snapshot_is_followed_by_what_comes_next(tmp_path: Path) -> None:
    """Position first, then state, then live: no gap and no duplicate between them; resume works where it was cut."""
    async with (
        await simulators.start("triverse", rate=0) as upstream,
        running(write(tmp_path, sources=[studio(upstream)])) as url,
    ):
        async with listening(url) as stream:
            await upstream.wait_connection()
            done, open_ = upstream.create_task(), upstream.create_task(status="RUNNING", progress=3)
            upstream.push_state(done.uuid, status="CANCELLED")
            await stream.until("task.cancelled")
        async with listening(url, "snapshot=true") as stream:
            assert (await stream.next())["type"] == "stream.opened"
            subscribed = await stream.next()
            assert subscribed["data"]["resume"] == "snapshot"
            await stream.until("stream.synced")
            snapshots = [event for event in stream.events if event["type"] == "task.snapshot"]
            assert [event["subject"] for event in snapshots] == [open_.uuid]
            assert snapshots[0]["data"]["task"]["progress"] == 3
            upstream.push_state(open_.uuid, progress=4)
            live = await stream.until("task.progressed")
        upstream.push_state(open_.uuid, progress=5)
        async with listening(url, f"after={live['sequence']}&source=studio") as stream:
            event = await stream.until("task.progressed")
            assert event["data"]["task"]["progress"] == 5
            assert stream.events[1]["data"]["resume"] in ("replayed", "live")


async def test_server_sent_events_say_the_same(tmp_path: Path) -> None:
    """`id:` on events of the log and on `stream.synced` alone; one event a message, parsed by the CloudEvents SDK."""
    async with (
        await simulators.start("triverse", rate=0) as upstream,
        running(write(tmp_path, sources=[studio(upstream)])) as url,
        listening(url) as stream,
        aiohttp.ClientSession() as session,
    ):
        await upstream.wait_connection()
        finish(upstream)
        await stream.until("task.succeeded")
        headers = {"Accept": "text/event-stream", "Last-Event-ID": "0" * 20}
        async with session.get(f"{url}/v1/stream", headers=headers) as answer:
            assert answer.content_type == "text/event-stream"
            text = ""
            async with asyncio.timeout(10):
                while "stream.synced" not in text.rpartition("\n\n")[0]:
                    text += (await answer.content.readany()).decode()
        identified = set()
        for block in text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
            if "data" not in fields:
                continue
            event = json.loads(fields["data"])
            validate(event)
            from_json(fields["data"])
            assert fields["event"] == event["type"]
            if "id" in fields:
                assert fields["id"] == event["sequence"]
                identified.add(event["type"])
        assert identified == {"source.connected", "task.created", "task.succeeded", "stream.synced"}


async def test_webhooks_survive_the_death_of_the_process(tmp_path: Path) -> None:
    """Signed over the exact bytes, retried on schedule, delivered once the receiver is back, after kill -9 too."""
    backend = Backend()
    async with backend.running(), await simulators.start("triverse", rate=0) as upstream:
        config = write(tmp_path, sources=[studio(upstream)], webhooks=[hook(backend)])
        backend.status = 503
        process = await Process.start(config)
        async with listening(await process.url()) as stream:
            await upstream.wait_connection()
            tasks = finish(upstream, 3)
            for _ in tasks:
                await stream.until("task.succeeded")
            log = {event["id"]: event for event in stream.events}
        await backend.received(1)
        await process.kill()
        first = len(backend.requests)
        backend.status = 204
        async with running(config):
            await backend.received(first + len(tasks))
        delivered = {}
        for headers, body in backend.requests[first:]:
            assert standardwebhooks.Webhook(SECRET).verify(body, headers)
            assert headers["content-type"] == "application/cloudevents+json; charset=utf-8"
            event = json.loads(body)
            assert headers["webhook-id"] == event["id"]
            assert event == log[event["id"]]
            delivered[event["subject"]] = event["type"]
        assert delivered == dict.fromkeys(tasks, "task.succeeded")


async def test_sigterm_drains(tmp_path: Path) -> None:
    """`stream.closing` with a hint when to come back, then 1001; every event in the log; exit code 0."""
    async with await simulators.start("triverse", rate=0) as upstream:
        process = await Process.start(write(tmp_path, sources=[studio(upstream)]))
        async with listening(await process.url()) as stream:
            await upstream.wait_connection()
            upstream.create_task()
            await stream.until("task.created")
            process.signal(signal.SIGTERM)
            closing = await stream.until("stream.closing")
            assert closing["data"]["reconnect_after_ms"] >= 0
            message = await stream.socket.receive(timeout=10)
            assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING)
            assert stream.socket.close_code == 1001
        assert await process.ended() == 0
        assert not [line for line in process.lines if line["level"] in ("error", "critical", "warning")]


async def test_a_log_that_cannot_be_written_is_red_and_recovers(tmp_path: Path) -> None:
    """A locked file: a clear reason in the log, red readiness, no crash; and nothing is lost once it is free."""
    async with await simulators.start("triverse", rate=0) as upstream:
        process = await Process.start(write(tmp_path, sources=[studio(upstream)]))
        try:
            url = await process.url()
            async with listening(url) as stream, aiohttp.ClientSession() as session:
                await stream.until("source.connected")
                intruder = sqlite3.connect(tmp_path / "mainstem.db", isolation_level=None)
                intruder.execute("BEGIN IMMEDIATE")
                task = upstream.create_task()
                status = 200
                async with asyncio.timeout(20):
                    while status == 200:
                        async with session.get(f"{url}/readyz") as answer:
                            status = answer.status
                assert status == 503
                intruder.execute("ROLLBACK")
                intruder.close()
                assert (await stream.until("task.created"))["subject"] == task.uuid
                async with session.get(f"{url}/readyz") as answer:
                    assert answer.status == 200
        finally:
            await process.kill()


async def test_a_log_that_cannot_be_written_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    """SIGTERM ends it in bounded time all the same, with a reason; what was not committed had been shown to nobody."""
    async with await simulators.start("triverse", rate=0) as upstream:
        process = await Process.start(
            write(tmp_path, sources=[studio(upstream)], server={"port": 0, "drain_timeout": 1})
        )
        try:
            url = await process.url()
            async with listening(url) as stream:
                await stream.until("source.connected")
                intruder = sqlite3.connect(tmp_path / "mainstem.db", isolation_level=None)
                intruder.execute("BEGIN IMMEDIATE")
                upstream.create_task()
                await process.logged("store_down")
                process.signal(signal.SIGTERM)
                await stream.until("stream.closing")
            assert await process.ended(15) == 1
            assert "the log could not take the last events" in process.output[-1]
            intruder.close()
        finally:
            await process.kill()


async def test_a_second_gateway_on_the_same_log_is_refused(tmp_path: Path) -> None:
    """One process owns the file: one clear line, exit code 1."""
    config = write(tmp_path)
    async with running(config):
        second = await Process.start(config)
        assert await second.ended() == 1
        assert len(second.output) == 1
        assert "mainstem.db" in second.output[0]


async def test_an_address_in_use_is_named(tmp_path: Path) -> None:
    """One clear line; closing what was open already once replaced it by a word about the log."""
    async with Backend().running() as other:
        port = int(other.url.rpartition(":")[2].partition("/")[0])
        process = await Process.start(write(tmp_path, server={"port": port}))
        assert await process.ended() == 1
        said = "Address already in use; is another mainstem running there? server.port chooses another port"
        assert process.output == [f"mainstem: cannot listen at 127.0.0.1:{port}: {said}\n"]


async def test_tokens_bound_what_is_seen(tmp_path: Path) -> None:
    """A progress-only token: single tasks, redacted; no lists; another source's task does not exist for it."""
    auth = {
        "tokens": [
            {"token": "operator", "scope": "admin"},
            {"token": "browser", "scope": "events:read:progress", "sources": ["studio"]},
        ]
    }
    async with (
        await simulators.start("triverse", rate=0) as upstream,
        running(write(tmp_path, sources=[studio(upstream)], auth=auth)) as url,
    ):
        async with listening(url, "token=operator&after=0") as stream:
            await upstream.wait_connection()
            (task,) = finish(upstream)
            await stream.until("task.succeeded")
        async with listening(url, f"token=browser&after=0&task=studio/{task}") as stream:
            event = await stream.until("task.succeeded")
            assert event["data"]["result"] is None
            assert event["data"]["native"] is None
            assert event["data"]["redacted"] is True
            assert event["data"]["task"]["status"] == "succeeded"
        state = await get(f"{url}/v1/tasks/studio/{task}?token=browser")
        assert (state["result"], state["redacted"]) == (None, True)
        async with aiohttp.ClientSession() as session:
            for path, status in (
                ("/v1/tasks?token=browser", 403), ("/v1/tasks", 401), ("/v1/tasks?token=wrong", 401),
                (f"/v1/tasks/other/{task}?token=browser", 404), ("/v1/stream?token=wrong", 401), ("/healthz", 200),
            ):  # fmt: skip
                headers = {"Accept": "text/event-stream"} if "stream" in path else {}
                async with session.get(f"{url}{path}", headers=headers) as answer:
                    assert answer.status == status, path


async def test_the_demo(tmp_path: Path) -> None:
    """Three upstreams, the gateway and a receiver, ready in seconds; Ctrl-C ends it cleanly."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "demo", "--port", "0", "--rate", "30",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    text = ""
    wanted = ("/v1/stream", "studio", "jobs", "ops", "signature verified")
    async with asyncio.timeout(60):
        while not all(word in text for word in wanted):
            line = await process.stdout.readline()
            assert line, text
            text += line.decode()
        process.send_signal(signal.SIGINT)
        rest = (await process.stdout.read()).decode()
        assert await process.wait() == 0
    assert "Traceback" not in text + rest
    assert re.search(r"ws://127\.0\.0\.1:\d+/v1/stream", text)
    assert not list(tmp_path.iterdir())
