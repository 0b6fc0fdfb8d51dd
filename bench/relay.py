"""Relay latency: upstream frame written → the same event read by a subscriber, through the whole gateway and its fsynced log.

An emit.run-like upstream in one process stamps each progress frame; `mainstem run` is a second process; a subscriber here
reads the stream. Reference: the same frames through a bare TCP copy between the same ends. All on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from bench.report import Row

RATE = 1000
SECONDS = 5.0
WARM_UP = 1.5
ROUNDS = 3
_SOURCE = "--source"
_COPY = "--copy"


def _frame(index: int) -> str:
    """A progress message as documented, of one of 50 jobs, with the time it was made."""
    stamp = time.time_ns()
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stamp // 10**9))
    return json.dumps({
        "jobId": f"job-{index % 50}", "jobName": "process-video", "type": "progress", "status": "running",
        "data": {"percent": index // 50 % 100, "step": "encoding", "fps": 30, "stamp": stamp},
        "timestamp": f"{moment}.{stamp // 10**6 % 1000:03}Z",
    })  # fmt: skip


async def _pace(send: Callable[[str], object]) -> None:
    begin, sent = time.perf_counter(), 0
    while True:
        due = int((time.perf_counter() - begin) * RATE)
        for index in range(sent, due):
            result = send(_frame(index))
            if asyncio.iscoroutine(result):
                await result
        sent = max(sent, due)
        await asyncio.sleep((sent + 1) / RATE - (time.perf_counter() - begin))


async def _source() -> None:
    """An upstream: a WebSocket for the gateway, and a bare TCP socket for the copy."""

    async def space(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        pace = asyncio.create_task(_pace(socket.send_str))
        async for _ in socket:
            pass
        pace.cancel()
        await asyncio.gather(pace, return_exceptions=True)
        return socket

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pace = asyncio.create_task(_pace(lambda frame: writer.write(frame.encode() + b"\n")))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        pace.cancel()
        writer.transport.abort()

    app = web.Application()
    app.router.add_get("/api/v1/realtime/spaces/s", space)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    print(json.dumps({"ws": runner.addresses[0][1], "tcp": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.Event().wait()


async def _copy(port: int) -> None:
    """A process that copies bytes from the source to whoever connects."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, away = await asyncio.open_connection("127.0.0.1", port)
        while data := await upstream.read(65536):
            writer.write(data)
            await writer.drain()
        away.close()

    server = await asyncio.start_server(pump, "127.0.0.1", 0)
    print(json.dumps({"tcp": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.Event().wait()


@asynccontextmanager
async def _process(*arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def _line(output: asyncio.StreamReader, containing: str = "{") -> dict[str, object]:
    while line := await output.readline():
        if containing.encode() in line:
            return dict(json.loads(line))
    raise RuntimeError(f"a process ended without saying {containing}")


async def _collect(latencies: list[float], stamps: AsyncIterator[int]) -> None:
    begin = time.perf_counter()
    async for stamp in stamps:
        now = time.perf_counter() - begin
        if now > WARM_UP + SECONDS:
            return
        if now > WARM_UP:
            latencies.append((time.time_ns() - stamp) / 1e6)


async def _through_gateway(port: int, durability: str) -> list[float]:
    latencies: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "config.yaml"
        config.write_text(
            f"server: {{port: 0}}\nstore: {{durability: {durability}}}\nsources:\n"
            f"  - {{name: jobs, adapter: emit, url: 'ws://127.0.0.1:{port}', token: t, spaces: [s]}}\n"
        )
        async with _process("-m", "gateway", "run", "-c", str(config)) as output, aiohttp.ClientSession() as session:
            url = (await _line(output, "gateway_started"))["url"]
            drain = asyncio.create_task(_discard(output))
            async with session.ws_connect(f"{url}/v1/stream?type=task.progressed") as socket:

                async def stamps() -> AsyncIterator[int]:
                    async for message in socket:
                        event = json.loads(message.data)
                        if event["type"] == "task.progressed":
                            yield event["data"]["detail"]["stamp"]

                await _collect(latencies, stamps())
            drain.cancel()
    return latencies


async def _discard(output: asyncio.StreamReader) -> None:
    while await output.readline():
        pass


async def _through_copy(port: int) -> list[float]:
    latencies: list[float] = []
    async with _process("-m", "bench.relay", _COPY, str(port)) as output:
        there = (await _line(output))["tcp"]
        reader, writer = await asyncio.open_connection("127.0.0.1", there)

        async def stamps() -> AsyncIterator[int]:
            while line := await reader.readline():
                yield json.loads(line)["data"]["stamp"]

        await _collect(latencies, stamps())
        writer.close()
    return latencies


async def _measure() -> list[Row]:
    figures: dict[str, list[float]] = {}
    async with _process("-m", "bench.relay", _SOURCE) as output:
        ports = await _line(output)
        for _ in range(ROUNDS):
            for name, latencies in (
                ("power", await _through_gateway(int(str(ports["ws"])), "power")),
                ("process", await _through_gateway(int(str(ports["ws"])), "process")),
                ("copy", await _through_copy(int(str(ports["tcp"])))),
            ):
                cuts = statistics.quantiles(latencies, n=100)
                figures.setdefault(f"{name} p50", []).append(cuts[49])
                figures.setdefault(f"{name} p99", []).append(cuts[98])
    holds = {"power p50": "≤ 0.8", "power p99": "≤ 5"}
    return [
        Row(
            f"relay at {RATE}/s, durability {name.replace(' ', ', ')}", figures[name], "ms", holds.get(name, ""),
            "bare TCP copy", figures[f"copy {name[-3:]}"],
        )
        for name in ("power p50", "power p99", "process p50", "process p99")
    ]  # fmt: skip


def rows() -> list[Row]:
    """Latencies behind an fsynced log (`power`) and one that survives the process alone (`process`)."""
    return asyncio.run(_measure())


if __name__ == "__main__":
    asyncio.run(_source() if sys.argv[1] == _SOURCE else _copy(int(sys.argv[2])))
