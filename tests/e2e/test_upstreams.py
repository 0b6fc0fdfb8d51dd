"""A started gateway against upstreams that follow their documents and fail on a switch."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway import simulators
from gateway.simulators import Catalyst, Emit, Faults, Triverse
from tests.e2e.kit import QUICK, get, listening, log_of, write
from tests.process import Process, running

FINISHED = ("task.succeeded", "task.failed", "task.cancelled")


def studio(upstream: Triverse, **options: Any) -> dict[str, Any]:
    token = upstream.credentials["token"]
    return {"name": "studio", "adapter": "triverse", "url": upstream.url, "token": token, **QUICK, **options}


def jobs(upstream: Emit, **options: Any) -> dict[str, Any]:
    known = {"token": upstream.credentials["token"], "spaces": upstream.credentials["spaces"][:1]}
    return {"name": "jobs", "adapter": "emit", "url": upstream.url, **known, **QUICK, **options}


def ops(upstream: Catalyst, **options: Any) -> dict[str, Any]:
    uuid = {} if "auth_url" in options else {"uuid": upstream.credentials["uuid"]}
    return {"name": "ops", "adapter": "catalyst", "url": upstream.url, **uuid, **QUICK, **options}


async def test_all_three_are_seen_live(tmp_path: Path) -> None:
    """The promise: canonical events of all three upstreams on one stream, within seconds."""
    async with (
        await simulators.start("triverse", rate=0) as triverse,
        await simulators.start("emit", rate=0) as emit,
        await simulators.start("catalyst", rate=0, interval=None) as catalyst,
        running(write(tmp_path, sources=[studio(triverse), jobs(emit), ops(catalyst)])) as url,
        listening(url) as stream,
    ):
        for upstream in (triverse, emit, catalyst):
            await upstream.wait_connection()
        task = triverse.create_task(status="RUNNING", progress=5)
        job = emit.create_job(status="pending")
        emit.push(job.id, "delivered")
        catalyst.push_event(7, "task_created")
        catalyst.deliver()
        wanted = {("/triverse/studio", task.uuid), ("/emit/jobs", job.id), ("/catalyst/ops", "7")}
        while not wanted <= {(event["source"], event.get("subject")) for event in stream.events}:
            await stream.next()
        sources = {source["name"]: source["state"] for source in (await get(f"{url}/v1/sources"))["items"]}
        assert sources == {"studio": "live", "jobs": "live", "ops": "live"}


async def test_an_old_task_that_finishes_during_an_outage_is_told_once(tmp_path: Path) -> None:
    """`since` filters on creation time: a task created long before and finished meanwhile must not be lost, nor doubled."""
    async with (
        await simulators.start("triverse", rate=0) as upstream,
        running(write(tmp_path, sources=[studio(upstream)])) as url,
        listening(url) as stream,
    ):
        await upstream.wait_connection()
        old = upstream.create_task(created_at=time.time() - 7200, status="RUNNING", progress=10)
        young = [upstream.create_task(status="RUNNING") for _ in range(3)]
        await stream.until(lambda event: event.get("subject") == young[-1].uuid)
        await upstream.down()
        await stream.until("source.disconnected")
        upstream.push_state(old.uuid, status="SUCCESS", progress=100, output={"textured_model_url": ["u"]})
        await upstream.up()
        ended = await stream.until(lambda event: event["type"] == "task.succeeded")
        assert ended["subject"] == old.uuid
        assert ended["data"]["origin"] == "catchup"
        assert ended["data"]["result"] == {"textured_model_url": ["u"]}
        upstream.push_state(young[0].uuid, progress=50)
        await stream.until("task.progressed")
        upstream.drop()
        await stream.until("source.connected")
        upstream.push_state(young[0].uuid, progress=60)
        await stream.until("task.progressed")
        assert [event["type"] for event in stream.of_task(old.uuid)] == ["task.started", "task.succeeded"]
        assert not [event for event in stream.events if event["type"] == "source.gap"]


async def test_tasks_that_the_catch_up_does_not_mention_are_looked_up(tmp_path: Path) -> None:
    """REST repairs what `since` cannot show; what nobody can verify is an honest gap."""
    async with (
        await simulators.start("triverse", rate=0) as upstream,
        running(write(tmp_path, sources=[studio(upstream, watch=[])])) as url,
        listening(url) as stream,
        aiohttp.ClientSession() as session,
    ):
        task = upstream.create_task(status="RUNNING", announce=False)
        upstream.initial = False
        async with session.post(f"{url}/v1/watches", json={"source": "studio", "task_id": task.uuid}) as answer:
            assert answer.status == 201
        first = await stream.until(lambda event: event.get("subject") == task.uuid)
        assert (first["type"], first["data"]["origin"]) == ("task.started", "reconcile")
        upstream.rest = False
        upstream.drop()
        gap = await stream.until("source.gap")
        assert gap["data"]["recovered"] is False
        assert gap["data"]["unverified"] == [task.uuid]


async def test_a_dynamic_watch_ends_with_its_task(tmp_path: Path) -> None:
    """A creation response is accepted, its task is watched until `finalized`, and its asset can be downloaded."""
    async with (
        await simulators.start("triverse", rate=0, lives=False) as upstream,
        running(write(tmp_path, sources=[studio(upstream, watch=[])])) as url,
        listening(url) as stream,
        aiohttp.ClientSession() as session,
    ):
        headers = {"Authorization": f"Bearer {upstream.credentials['token']}"}
        async with session.post(
            f"{upstream.http_url}/api/v1/tasks/image-to-model", json={"image_url": "https://x/i.png"}, headers=headers
        ) as answer:
            created = await answer.json()
        task_id = created["data"]["task_uuid"]
        async with session.post(f"{url}/v1/watches", json={"source": "studio", "created": created}) as answer:
            assert answer.status == 201
        first = await stream.until("task.created")
        assert first["data"]["task"]["name"] == created["data"]["name"]
        assert first["data"]["task"]["cost_credits"] == created["data"]["costCredits"]
        await upstream.wait_connection()
        upstream.push_state(task_id, status="RUNNING")
        upstream.push_state(task_id, status="SUCCESS", output={"textured_model_url": ["https://x/m.glb"]})
        await stream.until("task.succeeded")
        await stream.until("source.finished")
        await upstream.wait_for(lambda: not upstream.connections)
        (watch,) = (await get(f"{url}/v1/watches"))["items"]
        assert watch["state"] == "finished"
        assert "download_url" in await get(f"{url}/v1/tasks/studio/{task_id}/download")
        assert upstream.accepted == 1


async def test_a_space_that_was_away_is_repaired_by_job_streams(tmp_path: Path) -> None:
    """The documented edition has no REST and no replay: `init` of a short-lived stream each shows what was missed."""
    async with (
        await simulators.start("emit", rate=0) as upstream,
        running(write(tmp_path, sources=[jobs(upstream)])) as url,
        listening(url) as stream,
    ):
        await upstream.wait_connection()
        known = [upstream.create_job() for _ in range(5)]
        for job in known:
            upstream.push(job.id, "acked")
        await stream.until(lambda event: event.get("subject") == known[-1].id)
        await upstream.down()
        await stream.until("source.disconnected")
        upstream.push(known[0].id, "completed", {"x": 1})
        upstream.push(known[1].id, "dead", {"error": "boom"})
        await upstream.up()
        gap = await stream.until("source.gap")
        assert gap["data"]["recovered"] is True
        assert [event["type"] for event in stream.of_task(known[0].id)] == ["task.started", "task.succeeded"]
        assert [event["type"] for event in stream.of_task(known[1].id)] == ["task.started", "task.failed"]
        assert {event["data"]["origin"] for event in stream.events if event["type"] in FINISHED} == {"catchup"}


async def test_a_newer_space_resumes_by_sequence_or_asks_rest(tmp_path: Path) -> None:
    """`missed: 0` means that nothing is to be repaired; a restarted stream server is repaired over REST, unknown jobs too."""
    async with (
        await simulators.start("emit", rate=0, edition="newer") as upstream,
        running(write(tmp_path, sources=[jobs(upstream)])) as url,
        listening(url) as stream,
    ):
        await upstream.wait_connection()
        job = upstream.create_job()
        upstream.push(job.id, "acked")
        await stream.until("task.started")
        upstream.drop()
        again = await upstream.wait_connection(2)
        assert int(again.query["since"]) >= 1
        upstream.push(job.id, "progress", {"percent": 5})
        await stream.until("task.progressed")
        assert not [event for event in stream.events if event["type"] == "source.gap"]
        await upstream.down()
        await stream.until("source.disconnected")
        upstream.restart_streams()
        upstream.push(job.id, "completed", {"x": 1})
        unknown = upstream.create_job(status="running")
        await upstream.up()
        gap = await stream.until("source.gap")
        assert gap["data"]["recovered"] is True
        assert stream.of_task(job.id)[-1]["type"] == "task.succeeded"
        assert stream.of_task(job.id)[-1]["data"]["origin"] == "reconcile"
        assert stream.of_task(unknown.id)[-1]["type"] == "task.started"


async def test_catalyst_admits_what_it_cannot_know(tmp_path: Path) -> None:
    """Nothing is replayed there: a gap after every reconnect; one-time uuids are fresh each time; no data frame is sent."""
    async with await simulators.start("catalyst", rate=0, interval=None, mode="one_time") as upstream:
        auth = {
            "auth_url": f"{upstream.http_url}{upstream.credentials['auth_path']}",
            "api_key": upstream.credentials["api_key"],
        }
        async with running(write(tmp_path, sources=[ops(upstream, **auth)])) as url, listening(url) as stream:
            await upstream.wait_connection()
            upstream.refuse_handshakes(2, 500)
            upstream.drop()
            await upstream.wait_connection(2)
            gap = await stream.until("source.gap")
            assert gap["data"]["recovered"] is False
            assert gap["data"]["from"] <= gap["data"]["to"]
            uuids = [connection.query["uuid"] for connection in upstream.history]
            assert len(set(uuids)) == 2
            upstream.push_raw(
                json.dumps({"type": "error", "error_code": "ERR_RATE_LIMIT_EXCEEDED", "detail": f"slow, {uuids[1]}"})
            )
            lost = await stream.until(
                lambda event: event["type"] == "source.disconnected" and event["data"].get("error")
            )
            assert lost["data"]["error"] == "slow, ***"
            await upstream.wait_connection(3)
            assert not upstream.received_frames


@pytest.mark.parametrize("code", ["ERR_INVALID_UUID", "ERR_INCORRECT_URL"])
async def test_a_refusal_is_final_and_told_once(tmp_path: Path, code: Any) -> None:
    """Close 1000 after an error object is no success: the source has failed, readiness is red, nobody is hammered."""
    async with await simulators.start("catalyst", rate=0, interval=None) as upstream:
        upstream.answer_connects(code, 100)
        async with running(write(tmp_path, sources=[ops(upstream)])) as url, listening(url) as stream:
            failed = await stream.until("source.failed")
            assert failed["data"]["code"] == code
            async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as answer:
                assert answer.status == 503
            assert upstream.accepted == 1


async def test_a_foreign_space_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    """403 is no retry loop, and one dead source disturbs no other."""
    async with (
        await simulators.start("emit", rate=0) as emit,
        await simulators.start("triverse", rate=0) as triverse,
    ):
        foreign = emit.add_token("jobs:read", space=emit.credentials["spaces"][1])
        sources = [jobs(emit, token=foreign), studio(triverse)]
        async with running(write(tmp_path, sources=sources)) as url, listening(url) as stream:
            failed = await stream.until("source.failed")
            assert failed["subject"] == "jobs"
            await triverse.wait_connection()
            triverse.create_task()
            await stream.until("task.created")
            assert emit.refused == 1


async def test_accept_then_close_is_not_hammered(tmp_path: Path) -> None:
    """Every reconnect goes through backoff, a clean close included: the connects of two seconds are few."""
    async with await simulators.start("triverse", rate=0, faults=Faults(accept_then_close=1.0)) as upstream:
        slow = {"reconnect": {"initial": 0.2, "max": 5}}
        async with running(write(tmp_path, sources=[{**studio(upstream), **slow}])) as url, listening(url) as stream:
            await upstream.wait_connection(3)
            begin = time.monotonic()
            count = upstream.accepted
            for _ in range(2):
                await stream.until("source.disconnected")
            assert upstream.accepted - count <= 3 + 20 * (time.monotonic() - begin)


async def test_a_silent_peer_is_found_by_pings_and_a_silent_upstream_by_idle_timeout(tmp_path: Path) -> None:
    """Two clocks: an unanswered ping is a dead connection; silence is one only where the operator says so."""
    async with (
        await simulators.start("triverse", rate=0) as deaf,
        await simulators.start("emit", rate=0) as quiet,
    ):
        sources = [studio(deaf, ping_interval=0.2), jobs(quiet, idle_timeout=0.5, ping_interval=0.2)]
        async with running(write(tmp_path, sources=sources)):
            await deaf.wait_connection()
            await quiet.wait_connection()
            deaf.stall(answer_pings=False)
            await deaf.wait_connection(2)
            await quiet.wait_connection(2)


async def test_malformed_and_repeated_frames_cost_nothing(tmp_path: Path) -> None:
    """The connection stays, the bad ones are counted, and each task still ends exactly once."""
    faults = Faults(malformed=0.2, duplicate=0.3)
    async with (
        await simulators.start("triverse", rate=0, faults=faults) as upstream,
        running(write(tmp_path, sources=[studio(upstream)])) as url,
        listening(url) as stream,
    ):
        await upstream.wait_connection()
        tasks = [upstream.create_task() for _ in range(20)]
        for progress in (0, 30, 60, 90):
            for task in tasks:
                upstream.push_state(task.uuid, status="RUNNING", progress=progress)
        for task in tasks:
            upstream.push_state(task.uuid, status="SUCCESS", progress=100)
        for _ in tasks:
            await stream.until("task.succeeded")
        for task in tasks:
            assert [event["type"] for event in stream.of_task(task.uuid)] == [
                "task.created", "task.started", "task.progressed", "task.progressed", "task.progressed", "task.succeeded",
            ]  # fmt: skip
        assert upstream.accepted == 1
        async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
            metrics = await answer.text()
        assert 'mainstem_frames_rejected_total{reason="malformed",source="studio"}' in metrics
        assert 'mainstem_duplicates_total{source="studio"}' in metrics


async def test_kill_nine_between_any_two_steps(tmp_path: Path) -> None:
    """Nothing lost, nothing doubled, positions strictly increasing, over many sudden deaths and one history."""
    chance = random.Random(7)
    config = None
    async with (
        await simulators.start("triverse", rate=0) as triverse,
        await simulators.start("emit", rate=0) as emit,
    ):
        config = write(tmp_path, sources=[studio(triverse, catch_up="1h"), jobs(emit)], store={"durability": "process"})
        tasks: list[str] = []
        queue: list[str] = []

        async def history() -> None:
            """Tasks that begin and end, some while nobody looks."""
            for number in range(40):
                tasks.append(triverse.create_task().uuid)
                job = emit.create_job()
                emit.push(job.id, "acked")
                queue.append(job.id)
                for task in tasks[-5:]:
                    triverse.push_state(task, status="RUNNING", progress=(number * 7) % 90)
                if number >= 5:
                    triverse.push_state(tasks[number - 5], status="SUCCESS", progress=100)
                    emit.push(queue[number - 5], "completed", {"number": number})
                await asyncio.sleep(0.05)
            for task in tasks[-5:]:
                triverse.push_state(task, status="FAILED", error={"code": 1, "message": "m"})
            for job in queue[-5:]:
                emit.push(job, "dead", {"error": "e"})

        writing = asyncio.create_task(history())
        while not writing.done():
            process = await Process.start(config)
            await process.url()
            await asyncio.wait({writing}, timeout=chance.uniform(0.05, 0.8))
            await process.kill()
        await writing
        async with running(config) as url, listening(url) as stream:
            ended: dict[str, list[str]] = {}
            while len(ended) < len(tasks) or any(task not in ended for task in tasks):
                event = await stream.until(lambda event: event["type"] in FINISHED)
                ended.setdefault(event["subject"], []).append(event["type"])
            known_jobs = {
                event["subject"]
                for event in stream.events
                if event["source"] == "/emit/jobs" and event["type"] != "task.snapshot"
            }
            while not known_jobs <= ended.keys():
                event = await stream.until(lambda event: event["type"] in FINISHED)
                ended.setdefault(event["subject"], []).append(event["type"])
            events = await log_of(url)
    assert [task for task in tasks if len(ended[task]) != 1] == []
    ids = [event["id"] for event in events]
    assert len(set(ids)) == len(ids)
    sequences = [event["sequence"] for event in events]
    assert sequences == sorted(set(sequences))


async def test_two_gateways_say_the_same(tmp_path: Path) -> None:
    """A second replica with a log of its own gives the same occurrences the same ids."""
    seen = []
    async with await simulators.start("triverse", rate=0) as upstream:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        config = [write(tmp_path / name, sources=[studio(upstream)]) for name in ("a", "b")]
        async with (
            running(config[0]) as one,
            running(config[1]) as two,
            listening(one) as left,
            listening(two) as right,
        ):
            await upstream.wait_connection(2)
            task = upstream.create_task()
            for status, progress in (("RUNNING", 1), ("RUNNING", 2), ("QUEUED", 2), ("RUNNING", 2), ("SUCCESS", 100)):
                upstream.push_state(task.uuid, status=status, progress=progress)
            for stream in (left, right):
                await stream.until("task.succeeded")
                seen.append([event["id"] for event in stream.of_task(task.uuid)])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 6


async def test_no_secret_is_seen_anywhere(tmp_path: Path) -> None:
    """Keys that upstreams refuse, echo or drop connections over: no log line, event, answer or metric shows one."""
    async with (
        await simulators.start("triverse", rate=0, faults=Faults(drop=0.2, malformed=0.3)) as triverse,
        await simulators.start("emit", rate=0) as emit,
        await simulators.start("catalyst", rate=0, interval=None) as catalyst,
    ):
        canaries = [
            triverse.credentials["token"],
            "c4nary-emit+/=&x",
            "c4nary-uuid",
            "c4nary-static-token-of-an-operator",
        ]
        config = write(
            tmp_path,
            sources=[studio(triverse), jobs(emit, token=canaries[1]), ops(catalyst, uuid=canaries[2])],
            auth={"tokens": [{"token": canaries[3], "scope": "admin"}]},
            log={"level": "debug"},
        )
        process = await Process.start(config)
        try:
            url = await process.url()
            said = []
            headers = {"Authorization": f"Bearer {canaries[3]}"}
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.ws_connect(f"{url}/v1/stream?after=0") as socket,
            ):
                failed = 0
                while failed < 2:
                    said.append(str((await socket.receive(timeout=20)).data))
                    failed += "source.failed" in said[-1]
                triverse.push_raw(f"event: update\ndata: {{ {canaries[0]}")
                triverse.create_task()
                while "task.created" not in said[-1]:
                    said.append(str((await socket.receive(timeout=20)).data))
                for path in (
                    "/v1/sources",
                    "/v1/tasks",
                    "/v1/events",
                    "/v1/watches",
                    "/metrics",
                    "/readyz",
                    "/healthz",
                ):
                    async with session.get(f"{url}{path}") as answer:
                        said.append(await answer.text())
                async with session.get(f"{url}/v1/tasks?token={canaries[3]}&limit=x") as answer:
                    said.append(await answer.text())
            process.signal(signal.SIGTERM)
            assert await process.ended() == 0
        finally:
            await process.kill()
        said += process.output
        for canary in canaries:
            assert not [text for text in said if canary in text]
        assert [json.loads(line)["event"] for line in process.output][-1] == "gateway_stopped"
