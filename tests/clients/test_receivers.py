"""The example receivers of webhooks: each verifies what a started gateway sends, and nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway import simulators
from tests.clients.kit import NODE, needs_node
from tests.e2e.kit import QUICK, SECRET, write
from tests.process import running

EXAMPLES = Path(__file__).parent.parent.parent / "clients" / "examples"


def python(directory: Path) -> list[str]:
    return [sys.executable, str(EXAMPLES / "python" / "receiver.py")]


def node(directory: Path) -> list[str]:
    """With its dependencies beside it, as locked."""
    assert NODE is not None
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed (Debian: apt-get install npm)")
    copy = directory / "node"
    copy.mkdir()
    for name in ("package.json", "package-lock.json", "receiver.mjs"):
        shutil.copy(EXAMPLES / "node" / name, copy)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=90, check=False)
    if done.returncode != 0 and any(
        word in done.stderr for word in ("ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN")
    ):
        pytest.skip("the npm registry cannot be reached, to install the example's one dependency")
    assert done.returncode == 0, done.stderr
    return [NODE, str(copy / "receiver.mjs")]


@asynccontextmanager
async def receiver(command: list[str]) -> AsyncIterator[tuple[str, Callable[[], asyncio.Future[str]]]]:
    """Its URL, and what brings the next line that it prints."""
    env = {**os.environ, "WEBHOOK_SECRET": SECRET, "PORT": "0"}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=env)
    output = process.stdout
    assert output is not None

    async def line() -> str:
        return (await asyncio.wait_for(output.readline(), 30)).decode().strip()

    try:
        yield (await line()).removeprefix("listening on "), lambda: asyncio.ensure_future(line())
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("made", [python, pytest.param(node, marks=needs_node)])
async def test_receives_what_is_signed(tmp_path: Path, made: Callable[[Path], list[str]]) -> None:
    """A delivery of a started gateway is taken; the same words unsigned, or signed with another secret, are not."""
    command = await asyncio.to_thread(made, tmp_path)
    async with receiver(command) as (url, line), await simulators.start("triverse", rate=0) as upstream:
        source = {"name": "studio", "adapter": "triverse", "url": upstream.url, "token": upstream.credentials["token"]}
        hook = {"name": "example", "url": url, "secret": SECRET, "allow_private": True, "type": ["task.*"]}
        async with running(write(tmp_path, sources=[{**source, **QUICK}], webhooks=[hook])):
            await upstream.wait_connection()
            task = upstream.create_task(status="RUNNING", progress=5)
            assert await line() == f"task.started {task.uuid}"
        forged = {"webhook-id": "e", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
        spoilt = [{**forged, "webhook-signature": each} for each in ("v1,A", "v1", "v1,a,b", "v1,é", "é")]
        async with aiohttp.ClientSession() as session:
            for headers in ({}, forged, {**forged, "webhook-timestamp": "1"}, {**forged, "webhook-id": "é"}, *spoilt):
                async with session.post(url, data=b'{"id": "e", "type": "task.x"}', headers=headers) as answer:
                    assert answer.status == 401, headers
