"""Captures: what is written, what is taken out of it, and that the same events come of it again."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from adapters import registry
from gateway import capture, capture_events, capture_replay, cli, simulators
from gateway.capture import Recorder, Unreadable, clean
from gateway.clock import SystemClock
from gateway.metrics import Metrics
from gateway.pipeline.intake import Intake
from gateway.simulators import Simulator
from gateway.store.api import LogEvent
from gateway.store.sqlite import SqliteStore
from gateway.upstream.sources import Sources
from tests.e2e.kit import QUICK, get, log_of, write
from tests.process import Process

CAPTURES = Path(__file__).parent / "captures"


@pytest.mark.parametrize("path", capture_events.captures(CAPTURES), ids=lambda path: path.name.partition(".")[0])
def test_captures_are_understood_as_ever(path: Path) -> None:
    """One of each upstream. A bug report becomes a test by being put beside them."""
    capture_events.golden(path, os.environ)


class TestGolden:
    def copy(self, tmp_path: Path) -> tuple[Path, Path]:
        """A capture, and where its events belong."""
        path = tmp_path / "catalyst.capture.jsonl"
        path.write_bytes((CAPTURES / path.name).read_bytes())
        return path, tmp_path / "catalyst.events.jsonl"

    def test_is_written_and_then_compared(self, tmp_path: Path) -> None:
        """What was written is what is committed, and passes."""
        path, events = self.copy(tmp_path)
        with pytest.raises(AssertionError, match=r"catalyst\.events\.jsonl is missing"):
            capture_events.golden(path, {})
        capture_events.golden(path, {"MAINSTEM_GOLDEN": "write"})
        assert events.read_text() == (CAPTURES / events.name).read_text()
        capture_events.golden(path, {})

    def test_says_which_event_differs(self, tmp_path: Path) -> None:
        """By its line and its keys; one too few is a difference as well."""
        path, events = self.copy(tmp_path)
        lines = (CAPTURES / events.name).read_text().splitlines()
        events.write_text("\n".join([lines[0], lines[1].replace('"time":"2', '"time":"3'), *lines[2:]]))
        with pytest.raises(AssertionError, match=r"catalyst\.events\.jsonl:2: time differ"):
            capture_events.golden(path, {})
        events.write_text("\n".join(lines[:-1]))
        with pytest.raises(AssertionError, match=f"{len(lines)} events instead of {len(lines) - 1}"):
            capture_events.golden(path, {})

    def test_a_folder_without_captures_is_no_test(self, tmp_path: Path) -> None:
        """It would pass always."""
        with pytest.raises(AssertionError, match="no "):
            capture_events.captures(tmp_path)


# --- live and again --------------------------------------------------------------------------------------------------


class Live:
    """The upstream room with a recorder, and what it publishes."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []
        self._news = asyncio.Condition()

    def publish(self, events: list[LogEvent]) -> None:
        self.events += events
        asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def until(self, *kinds: str) -> None:
        """Returns once there was an event of each of these types, in this order."""

        def seen() -> bool:
            types = iter([event.type for event in self.events])
            return all(kind in types for kind in kinds)

        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(seen)

    def bodies(self) -> list[dict[str, Any]]:
        """The events of tasks, without their positions: notices of the gateway are none of the upstream's."""
        return [without_sequence(event.body) for event in self.events if event.type.startswith("task.")]


def without_sequence(body: bytes | str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(body)
    del event["sequence"]
    # when a frame is noted down is not when it was read, by less than a millisecond
    event["data"].pop("received_at")
    return event


@asynccontextmanager
async def recorded(tmp_path: Path, path: Path, *sections: dict[str, Any]) -> AsyncIterator[Live]:
    configs = [registry.load(section["adapter"]).Config.model_validate(section) for section in sections]
    clock, metrics, live = SystemClock(), Metrics(), Live()
    store = SqliteStore(tmp_path / "log.db", durability="process", clock=clock, metrics=metrics)
    await store.open()
    adapters = [registry.load(config.adapter)(config) for config in configs]
    intake = Intake(
        store, live.publish, adapters={config.name: config.adapter for config in configs},
        clock=clock, metrics=metrics, horizon=86400.0,
    )  # fmt: skip
    intake.start()
    with path.open("w") as file:
        recorder = Recorder(file, configs, clock)
        writing = asyncio.create_task(recorder.run())
        sources = Sources(adapters, intake, store, clock, random.Random(1), metrics, tap=recorder.tap)
        await sources.start()
        try:
            yield live
        finally:
            await sources.stop()
            await intake.close()
            await store.close()
            await recorder.finish()
            await writing


def studio(upstream: Simulator) -> dict[str, Any]:
    token = upstream.credentials["token"]
    return {"name": "studio", "adapter": "triverse", "url": upstream.url, "token": token, **QUICK}


async def test_what_was_published_live_comes_of_the_capture(tmp_path: Path) -> None:
    """Whole events, ids and origins included, through a cut, a catch-up, and a frame that is none; with a uuid of its own."""
    path = tmp_path / "x.capture.jsonl"
    async with (
        await simulators.start("triverse", rate=0) as triverse,
        await simulators.start("emit", rate=0) as emit,
        await simulators.start("catalyst", rate=0, interval=None, mode="one_time") as catalyst,
    ):
        jobs = {
            "name": "jobs", "adapter": "emit", "url": emit.url, "token": emit.credentials["token"],
            "spaces": emit.credentials["spaces"], **QUICK,
        }  # fmt: skip
        auth = {
            "auth_url": f"{catalyst.http_url}{catalyst.credentials['auth_path']}",
            "api_key": catalyst.credentials["api_key"],
        }
        ops = {"name": "ops", "adapter": "catalyst", "url": catalyst.url, **auth, **QUICK}
        async with recorded(tmp_path, path, studio(triverse), jobs, ops) as live:
            for upstream in (triverse, emit, catalyst):
                await upstream.wait_connection()
            task = triverse.create_task(status="RUNNING", progress=5)
            job = emit.create_job(status="pending")
            emit.push(job.id, "delivered")
            catalyst.push_event(7, "task_created")
            catalyst.deliver()
            triverse.push_raw("event: update\ndata: {broken")
            await live.until("task.started")
            await live.until("task.dispatched")
            await live.until("task.created")
            await triverse.down()
            await live.until("source.disconnected")
            triverse.push_state(task.uuid, status="SUCCESS", progress=100)
            await triverse.up()
            await live.until("task.succeeded")
        credentials = [sim.credentials["token"] for sim in (triverse, emit)] + [auth["api_key"]]
        credentials += [connection.query["uuid"] for connection in catalyst.history]
    replay = capture_replay.Replay(capture.read(path))
    made = [without_sequence(line) for _, lines in capture_events.events(replay) for line in lines]
    # in order for each source; between sources there is none
    assert sorted(made, key=lambda event: event["source"]) == sorted(live.bodies(), key=lambda event: event["source"])
    assert {event["type"] for event in made} >= {"task.started", "task.dispatched", "task.created", "task.succeeded"}
    steps = list(capture_replay.Replay(capture.read(path)).steps())
    assert [words for step in steps for words in capture_events.rejected(step)]
    text = path.read_text()
    assert not [secret for secret in credentials if secret in text]


# --- what is taken out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("https://h/p?X-Sig=abc&n=1#f", "https://h/p?X-Sig=***&n=***#f"),
        ('{"u":"https:\\/\\/u:p@h\\/p?sig=a\\u0026k=b"}', '{"u":"https:\\/\\/***@h\\/p?sig=***\\u0026k=***"}'),
        ("wss://user:pw@h:1/p", "wss://***@h:1/p"),
        ('{"accessToken": "a\\"b", "n": 1}', '{"accessToken": "***", "n": 1}'),
        ('{"x-api-key":"abc","tokens":3}', '{"x-api-key":"***","tokens":3}'),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
        ("eyJhbGciOiJI.eyJzdWIi.c2ln", "***"),
        ("whsec_AAEC+/=", "***"),
        (
            '{"task_uuid":"92483a80-236c","url":"https://h/a/b.glb"}',
            '{"task_uuid":"92483a80-236c","url":"https://h/a/b.glb"}',
        ),
    ],
)
def test_what_looks_like_a_credential_is_taken_out(text: str, cleaned: str) -> None:
    """And nothing else; JSON stays JSON."""
    assert clean(text) == cleaned


async def test_known_secrets_are_taken_out_of_everything(tmp_path: Path) -> None:
    """Of the header, of frames that echo them, of what is answered when a ticket is asked for, of a close's reason."""
    path = tmp_path / "x.capture.jsonl"
    async with (
        await simulators.start("triverse", rate=0) as upstream,
        recorded(tmp_path, path, studio(upstream)) as live,
    ):
        secret = upstream.credentials["token"]
        connection = await upstream.wait_connection()
        upstream.push_raw(f'event: update\ndata: {{"echo": "{secret}"}}', connection)
        upstream.create_task(status="RUNNING")
        await live.until("task.started")
        upstream.close(1011, f"bye {secret}")
        await live.until("source.disconnected")
    text = path.read_text()
    assert secret not in text
    assert "echo" in text
    assert "1011 bye ***" in text


# --- files that are none ---------------------------------------------------------------------------------------------

HEADER = {"mainstem_capture": 1, "created_at": "2026-01-01T00:00:00Z", "mainstem": "1", "sources": []}
SOURCE = {
    "name": "a",
    "adapter": "triverse",
    "config": {"name": "a", "adapter": "triverse", "url": "ws://h", "token": "t"},
}
FRAME = {
    "at": "2026-01-01T00:00:00Z",
    "source": "a",
    "adapter": "triverse",
    "endpoint": "/p",
    "direction": "in",
    "kind": "text",
}


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "1: is no capture"),
        (["{}"], "1: is no capture"),
        (["[]"], "1: is no capture"),
        (["x"], "1: is no capture"),
        ([HEADER | {"mainstem_capture": 2}], "a capture of version 2, and this program reads up to 1"),
        ([HEADER, {"at": 1}], "2: "),
        ([HEADER, FRAME | {"at": "soon"}], "2: "),
        ([HEADER, FRAME | {"source": "a\x1b[2J"}], r"of source 'a\\x1b\[2J', which"),
        ([HEADER, FRAME], "of source 'a', which the header does not name"),
        ([HEADER | {"sources": [SOURCE | {"adapter": "nope"}]}], "source 'a': there is no adapter 'nope'"),
        ([HEADER | {"sources": [SOURCE | {"config": {}}]}], "source 'a': adapter triverse does not take its 'name'"),
        (
            [HEADER | {"sources": [SOURCE]}, FRAME | {"kind": "open", "connection": 1}],
            "source 'a' has no stream at '/p'",
        ),
    ],
)
def test_what_is_no_capture(tmp_path: Path, lines: list[Any], problem: str) -> None:
    """Says where and why."""
    path = tmp_path / "x.capture.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    with pytest.raises(Unreadable, match=problem):
        list(capture_replay.Replay(capture.read(path)).steps())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="No such file"):
        capture.read(tmp_path / "nope")


def test_records_are_read_as_they_are_written() -> None:
    record = capture.Record(at="t", source="s", adapter="a", endpoint="/p", direction="in", kind="text", text="é\n")
    assert msgspec.json.decode(msgspec.json.encode(record), type=capture.Record) == record


# --- what only some captures hold ------------------------------------------------------------------------------------

TASK = {
    "task_uuid": "t1",
    "flow_name": "image-to-model",
    "status": "RUNNING",
    "progress": 5,
    "created_at": "2026-01-01T00:00:00Z",
}


def made_of(adapter: str, *records: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """The events of a capture of one source; a record says what differs from a frame on connection 1, `s` its second."""
    config = {"name": "a", "adapter": adapter, "url": "ws://h", "token": "t", **options}
    header = capture.Header(
        mainstem_capture=1, created_at="", mainstem="", sources=[capture.CapturedSource(name="a", adapter=adapter, config=config)]
    )  # fmt: skip
    made = []
    for second, record in enumerate(records):
        at = f"2026-01-02T00:00:{record.pop('s', second):02d}Z"
        base = {"at": at, "source": "a", "adapter": adapter, "direction": "in", "kind": "text", "connection": 1}
        made.append(capture.Record(**{**base, **record}))
    replay = capture_replay.Replay(capture.Capture(header, made))
    return [json.loads(line) for _, lines in capture_events.events(replay) for line in lines]


ALL = "/api/v1/tasks/watch/all"


def frame(**changes: Any) -> str:
    return f"event: update\ndata: {json.dumps({**TASK, **changes})}"


def test_answers_of_rest() -> None:
    """A lookup and a listing are known by their endpoints; any other answer says nothing."""
    body = json.dumps({**TASK, "status": "SUCCESS", "progress": 100})
    lookup = {"endpoint": "/api/v1/tasks/t1", "kind": "answer", "connection": None, "text": body}
    (event,) = made_of("triverse", lookup, {**lookup, "endpoint": "/api/v1/tasks/url/t1"})
    assert (event["type"], event["data"]["origin"]) == ("task.succeeded", "reconcile")
    job = {"id": "j1", "name": "n", "status": "completed", "createdAt": "2026-01-01T00:00:00Z"}
    listing = {
        "endpoint": "/api/v1/spaces/s/jobs",
        "kind": "answer",
        "connection": None,
        "text": json.dumps({"jobs": [job]}),
    }
    (event,) = made_of("emit", listing, spaces=["s"])
    assert (event["type"], event["data"]["origin"]) == ("task.succeeded", "reconcile")


def test_binary_frames() -> None:
    """In base64, which has to be that."""
    opened = {"endpoint": ALL, "kind": "open"}
    text = base64.b64encode(frame().encode()).decode()
    (event,) = made_of("triverse", opened, {"endpoint": ALL, "kind": "binary", "text": text})
    assert event["type"] == "task.started"
    with pytest.raises(Unreadable, match="is not base64"):
        made_of("triverse", dict(opened), {"endpoint": ALL, "kind": "binary", "text": "é"})


def test_a_capture_that_begins_in_the_middle() -> None:
    """Frames of a connection whose beginning is not in it are left out: what they mean depends on it."""
    assert made_of("triverse", {"endpoint": ALL, "text": frame()}, {"endpoint": ALL, "kind": "close"}) == []


def test_watches_that_were_asked_for_at_run_time() -> None:
    """Their streams are in no configuration."""
    path = "/api/v1/tasks/watch/t1"
    (event,) = made_of("triverse", {"endpoint": path, "kind": "open"}, {"endpoint": path, "text": frame()}, watch=[])
    assert event["type"] == "task.started"


def test_what_comes_after_quiet_is_live() -> None:
    """On a reconnect the first word on a task is a catch-up, until it was quiet for as long as a gateway waits."""
    cut = [
        {"endpoint": ALL, "kind": "open"},
        {"endpoint": ALL, "kind": "close"},
        {"endpoint": ALL, "kind": "open", "connection": 2},
    ]
    for wait, origin in ((1, "catchup"), (3, "live")):
        late = {"endpoint": ALL, "text": frame(), "connection": 2, "s": 2 + wait}
        (event,) = made_of("triverse", *(dict(record) for record in cut), late)
        assert event["data"]["origin"] == origin


# --- commands --------------------------------------------------------------------------------------------------------


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(cli.main, arguments, catch_exceptions=False)


def test_replay_prints_events() -> None:
    """Lines for people, whole events with --json; what a capture says can be read by the next program."""
    path = str(CAPTURES / "triverse.capture.jsonl")
    expected = (CAPTURES / "triverse.events.jsonl").read_text()
    result = invoke("replay", path, "--at-once", "--json")
    assert (result.exit_code, result.stdout) == (0, expected)
    lines = invoke("replay", path, "--speed", "100000").stdout.splitlines()
    assert len(lines) == len(expected.splitlines())
    assert any("✓ task.succeeded" in line for line in lines)


def test_replay_of_nothing() -> None:
    result = invoke("replay", "nope")
    assert (result.exit_code, result.stderr) == (1, "mainstem: nope: cannot be read: No such file or directory\n")


def test_capture_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that is not there, a file that is."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, sources=[{"name": "a", "adapter": "triverse", "url": "ws://h", "token": "t"}])
    result = invoke("capture", "-o", "x", "--source", "b")
    assert (result.exit_code, "no source 'b'; there are a" in result.stderr) == (2, True)
    Path("x").write_text("mine")
    result = invoke("capture", "-o", "x")
    assert (result.exit_code, result.stderr) == (1, "mainstem: x is there already; --force overwrites it\n")
    assert Path("x").read_text() == "mine"


async def mainstem(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def test_capture_and_serve(tmp_path: Path) -> None:
    """The commands, as a user starts them: a capture until SIGINT, served by a gateway until SIGTERM."""
    path = tmp_path / "x.capture.jsonl"
    async with await simulators.start("triverse", rate=0) as upstream:
        config = write(tmp_path, sources=[studio(upstream)])
        recording = await mainstem("capture", "-c", str(config), "-o", str(path))
        try:
            await upstream.wait_connection(timeout=30)
            task = upstream.create_task(status="RUNNING", progress=5)
            await upstream.flush()
            upstream.push_state(task.uuid, status="SUCCESS", progress=100)
            await upstream.flush()
            async with asyncio.timeout(30):
                while b"SUCCESS" not in path.read_bytes():
                    await asyncio.sleep(0.05)
            recording.send_signal(signal.SIGINT)
            _, errors = await asyncio.wait_for(recording.communicate(), 30)
        finally:
            if recording.returncode is None:
                recording.kill()
    assert recording.returncode == 0, errors
    assert b"records in" in errors
    assert path.stat().st_mode & 0o777 == 0o600
    process = Process(await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "replay", str(path), "--at-once", "-c", str(write(tmp_path)),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    ))  # fmt: skip
    try:
        url = await process.url()
        await process.logged("replay_complete")
        assert [event["type"] for event in await log_of(url)] == ["task.started", "task.succeeded"]
        assert (await get(f"{url}/v1/tasks/studio/{task.uuid}"))["task"]["status"] == "succeeded"
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    finally:
        await process.kill()
