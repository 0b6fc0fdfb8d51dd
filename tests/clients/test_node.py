"""Node's own WebSocket reads the stream of a started gateway, compressed and plain."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.clients.kit import NODE, Reports, Upstream, gateway, needs_node
from tests.stream.clients import check

SCRIPT = Path(__file__).with_name("client.mjs")


def _options() -> list[str]:
    """Node 20 and 21 have the WebSocket behind an option, later ones without, earlier ones not at all."""
    assert NODE is not None
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    return ["--experimental-websocket", "--no-warnings"] if version.startswith(("v20.", "v21.")) else []


@asynccontextmanager
async def _node(url: str, reports: Reports) -> AsyncIterator[asyncio.StreamWriter]:
    """A client; what it says goes to the reports, lines that are written are sent."""
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        NODE, *_options(), str(SCRIPT), url, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    async def read(output: asyncio.StreamReader) -> None:
        while line := await output.readline():
            await reports.add(json.loads(line))

    reader = asyncio.create_task(read(process.stdout), name="node-output")
    try:
        yield process.stdin
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reader


@needs_node
@pytest.mark.parametrize("compression", ["off", "shared"])
async def test_node(tmp_path: Path, compression: str) -> None:
    """It gets the subprotocol, every event once and in order, an answer to its commands, and 1001 at the end."""
    reports = Reports()
    async with (
        Upstream().running() as upstream,
        gateway(tmp_path, upstream, compression=compression) as house,
        _node(f"{house.url.replace('http', 'ws')}/v1/stream?type=task.*", reports) as send,
    ):
        await reports.until(lambda: any(event["type"] == "stream.synced" for event in reports.events("node")))
        (opened,) = reports.of("node", "open")
        assert opened["protocol"] == "cloudevents.json"
        if compression == "off":
            assert opened["extensions"] == ""
        await upstream.say(50)
        await reports.until(lambda: len(reports.logged("node")) == 50)
        send.write(b'{"op":"ping"}\n')
        await reports.until(lambda: reports.events("node")[-1]["type"] == "stream.pong")
        await house.stop()
        await reports.until(lambda: bool(reports.of("node", "close")))
    events = [check(event) for event in reports.events("node")]
    steps = [event["data"]["detail"]["step"] for event in reports.logged("node")]
    assert steps == [f"schöner Schritt {index}" for index in range(1, 51)]
    assert events[-1]["type"] == "stream.closing"
    assert reports.of("node", "close") == [1001]
