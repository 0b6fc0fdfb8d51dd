"""The documents' own client examples run against the simulators as they stand, but for host, ids and keys.

The texts under `examples/` are the documents' code word for word; the documents lost the indentation of the Python
ones, which is restored.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.simulators.emit import PROGRESS, READ

EXAMPLES = Path(__file__).parent / "examples"
UUID = "92483a80-236c-4889-9a95-4c90bb64dfd8"
NODE = shutil.which("node")


def node_speaks_websocket() -> bool:
    """Whether there is a Node.js here whose WebSocket is that of the browsers."""
    if NODE is None:
        return False
    probe = [NODE, "--experimental-websocket", "-p", "typeof WebSocket"]
    return subprocess.run(probe, capture_output=True, text=True, check=False).stdout.strip() == "function"


needs_node = pytest.mark.skipif(not node_speaks_websocket(), reason="needs a Node.js with WebSocket")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


class Program:
    """A running example whose output is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def rest(self) -> str:
        """What is left of the output, once the program has ended well."""
        async with asyncio.timeout(20):
            out, _ = await self.process.communicate()
        assert self.process.returncode == 0, out.decode()
        return out.decode()


@pytest.fixture
async def run():
    """`await run(command, example, {old: new})` starts an example with its placeholders filled in."""
    started: list[asyncio.subprocess.Process] = []

    async def run(command: list[str], text: str, changes: dict[str, str]) -> Program:
        for old, new in changes.items():
            assert old in text, old
            text = text.replace(old, new)
        environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
        process = await asyncio.create_subprocess_exec(
            *command,
            text,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**environment, "PYTHONUNBUFFERED": "1", "NODE_NO_WARNINGS": "1", "PYTHONIOENCODING": "utf-8"},
        )
        started.append(process)
        return Program(process)

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def example(name: str) -> str:
    return (EXAMPLES / f"{name}.txt").read_text(encoding="utf-8")


PYTHON = [sys.executable, "-c"]
JAVASCRIPT = [NODE or "node", "--experimental-websocket", "-e"]


async def test_triverse_watch_task_in_python(simulate, run):
    """Prints every update, then `finalized`, and ends by itself."""
    sim = await simulate("triverse")
    sim.create_task(task_uuid=UUID)
    program = await run(
        PYTHON,
        example("triverse_watch_task.py"),
        {"wss://api.triverse.ai": sim.url, "<YOUR_API_KEY>": sim.credentials["token"]},
    )
    assert (await program.line()).startswith(f"Event: update {{'task_uuid': '{UUID}', 'flow_name': 'image-to-model'")
    sim.push_state(UUID, status="RUNNING", progress=40)
    sim.push_state(UUID, status="SUCCESS", progress=100)
    assert "'status': 'RUNNING', 'progress': 40" in await program.line()
    assert "'status': 'SUCCESS', 'progress': 100" in await program.line()
    last = (await program.rest()).splitlines()
    assert last[0].startswith("Event: finalized {")
    assert last[1:] == ["Task finished, closing connection."]


@needs_node
async def test_triverse_watch_task_in_javascript(simulate, run):
    """The same in the language of browsers."""
    sim = await simulate("triverse")
    sim.create_task(task_uuid=UUID)
    program = await run(
        JAVASCRIPT,
        example("triverse_watch_task.js"),
        {"wss://api.triverse.ai": sim.url, "YOUR_API_KEY": sim.credentials["token"]},
    )
    assert await program.line() == "Event: update {"
    sim.push_state(UUID, status="FAILED", error={"code": "X", "message": "no"})
    rest = await program.rest()
    assert "Event: finalized {" in rest
    assert rest.endswith("Task finished, closing connection.\n")


@pytest.mark.parametrize(
    "language", [pytest.param("py", id="requests"), pytest.param("sh", id="curl", marks=needs_curl)]
)
async def test_triverse_task_status(simulate, run, language):
    """The REST example prints the envelope with the task."""
    sim = await simulate("triverse")
    sim.create_task(task_uuid=UUID, status="RUNNING", progress=40)
    program = await run(
        PYTHON if language == "py" else ["sh", "-c"],
        example(f"triverse_task_status.{language}"),
        {"https://api.triverse.ai": sim.http_url, "<YOUR_API_KEY>": sim.credentials["token"]},
    )
    output = (await program.rest()).replace('"', "'").replace(" ", "")
    assert f"{{'code':0,'message':'success','data':{{'task_uuid':'{UUID}'," in output
    assert "'status':'RUNNING','progress':40" in output


async def test_emit_watch_job_in_python(simulate, run):
    """Prints the status, progress, the retry and the result, and ends by itself."""
    sim = await simulate("emit")
    job = sim.create_job()
    program = await run(
        PYTHON,
        example("emit_watch_job.py"),
        {"wss://emit.run": sim.url, "01JLQX...": job.id, "emit_YOUR_KEY": sim.credentials["tokens"][READ]},
    )
    assert await program.line() == "Current status: pending"
    sim.push(job.id, "delivered")
    sim.push(job.id, "acked")
    sim.push(job.id, "progress", {"percent": 65, "step": "encoding"})
    sim.push(job.id, "retried", {"error": "Connection timeout", "attemptNumber": 1})
    sim.push(job.id, "completed", {"output_url": "s3://bucket/output.mp4"})
    assert (await program.rest()).splitlines() == [
        "Progress: {'percent': 65, 'step': 'encoding'}",
        "Retrying, attempt: 1",
        "Done: {'output_url': 's3://bucket/output.mp4'}",
    ]


async def test_emit_watch_job_in_python_with_the_public_token(simulate, run):
    """With `data` missing, the example prints None where the token may not see, and ends on `dead`."""
    sim = await simulate("emit", stripped="missing")
    job = sim.create_job(status="running")
    program = await run(
        PYTHON,
        example("emit_watch_job.py"),
        {"wss://emit.run": sim.url, "01JLQX...": job.id, "emit_YOUR_KEY": sim.credentials["tokens"][PROGRESS]},
    )
    assert await program.line() == "Current status: running"
    sim.push(job.id, "retried", {"error": "Connection timeout", "attemptNumber": 1})
    sim.push(job.id, "progress", {"percent": 65})
    sim.push(job.id, "dead", {"error": "out of memory"})
    assert (await program.rest()).splitlines() == [
        "Retrying, attempt: None",
        "Progress: {'percent': 65}",
        "Failed: None",
    ]


@needs_node
async def test_emit_watch_job_in_javascript(simulate, run):
    """With `data` null, the example goes on: it asks with `?.`."""
    sim = await simulate("emit", stripped="null")
    job = sim.create_job(status="running")
    fixed = f'const jobId = "{job.id}"; const apiKey = "{sim.credentials["tokens"][PROGRESS]}";\n'
    program = await run(JAVASCRIPT, fixed + example("emit_watch_job.js"), {"wss://emit.run": sim.url})
    assert await program.line() == "Current status: running"
    sim.push(job.id, "retried", {"error": "Connection timeout", "attemptNumber": 1})
    sim.push(job.id, "progress", {"percent": 65})
    sim.push(job.id, "completed", {"secret": 1})
    assert (await program.rest()).splitlines() == [
        "Retrying, attempt: undefined",
        "Progress: { percent: 65 }",
        "Done: null",
    ]


@pytest.mark.parametrize("language", ["py", pytest.param("js", marks=needs_node)])
async def test_emit_watch_space(simulate, run, language):
    """Prints a line per event of the space, with the job's name."""
    sim = await simulate("emit")
    job, token = sim.create_job("generate-report"), sim.credentials["tokens"][READ]
    text = example(f"emit_watch_space.{language}")
    if language == "py":
        program = await run(
            PYTHON,
            "import asyncio, json, websockets\n" + text,
            {"wss://emit.run": sim.url, "01JLQX...": job.space, "emit_YOUR_KEY": token},
        )
    else:
        fixed = f'const spaceId = "{job.space}"; const apiKey = "{token}";\n'
        program = await run(JAVASCRIPT, fixed + text, {"wss://emit.run": sim.url})
    await sim.wait_connection(timeout=20)
    sim.push(job.id, "delivered")
    sim.push(job.id, "delivery_timeout")
    assert await program.line() == "[generate-report] delivered → delivered"
    assert await program.line() == "[generate-report] delivery_timeout → pending"
