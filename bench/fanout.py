"""Fan-out: what one delivered event costs, beside servers written in C and Go that do less, in the same rounds.

The server under test is a started process on core 0; the load client (`wsload.c`), the upstream that the events come from and
the publishers of the peers are on core 1. Cost is the server's own CPU clock, all threads, over frames that the client has
read. `mainstem run` is the whole way (upstream frame, normalizing, fsynced log, stream); `unstored` is the same gateway with
a list in memory for its log. Peers: nats-server (WebSocket), nginx with nchan, a C loop of send(); missing ones are named.
All on loopback, which charges most of the receiving to the sender.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from bench.report import Row
from gateway.stream.framing import text_frame

ROUNDS = 3
CONNECTIONS = 1_000
CROWD = 10_000
IDLE = 5_000
WARM_UP, WINDOW = 0.4, 1.6
#: Bursts a second, events a burst.
SINGLE, BURST = (60, 1), (60, 8)
#: Stands once in every event.
MARKER = '"specversion"'
_HERE = Path(__file__).parent
_NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

Figures = dict[str, list[float]]


def _message(index: int) -> str:
    """A progress message of emit.run, of one of 50 jobs, with the time it was made; its event is about 1,100 bytes."""
    stamp = time.time_ns()
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stamp // 10**9))
    return json.dumps({
        "jobId": f"job-{index % 50}", "jobName": "process-video", "type": "progress", "status": "running",
        "data": {"percent": index // 50 % 100, "step": "encoding", "fps": 30, "stamp": stamp},
        "timestamp": f"{moment}.{stamp // 10**6 % 1000:03}Z",
    })  # fmt: skip


# --- publishers ------------------------------------------------------------------------------------------------------

Publish = Callable[[int, int], Awaitable[None]]


@asynccontextmanager
async def _pacing(publish: Publish, rate: float, burst: int) -> AsyncIterator[None]:
    """Publishes `burst` events `rate` times a second for as long as the block lasts."""

    async def pace() -> None:
        begin, count = time.perf_counter(), 0
        while True:
            await publish(count * burst, burst)
            count += 1
            await asyncio.sleep(count / rate - (time.perf_counter() - begin))

    task = asyncio.create_task(pace(), name="bench-pace")
    try:
        yield
    finally:
        task.cancel()
        failures = [item for item in await asyncio.gather(task, return_exceptions=True) if isinstance(item, Exception)]
        if failures:
            raise failures[0]


class Upstream:
    """emit.run for several gateways: each connects below a path of its own, and gets only what is meant for it."""

    def __init__(self) -> None:
        self._transports: dict[str, asyncio.WriteTransport] = {}
        self._joined = asyncio.Condition()
        self.port = 0

    async def _space(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async with self._joined:
            assert request.transport is not None
            self._transports[request.match_info["name"]] = request.transport
            self._joined.notify_all()
        async for _ in socket:
            pass
        return socket

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/{name}/api/v1/realtime/spaces/s", self._space)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        return runner

    async def to(self, name: str) -> Publish:
        """How to publish through the gateway of this name, once it is connected."""
        async with asyncio.timeout(20), self._joined:
            await self._joined.wait_for(lambda: name in self._transports)

        async def publish(first: int, count: int) -> None:
            frames = [text_frame(_message(index).encode()) for index in range(first, first + count)]
            self._transports[name].write(b"".join(frames))  # in one piece, as the peers get theirs

        return publish


def _filler(size: int) -> Callable[[int], bytes]:
    """Messages for peers: as long as the gateway's events, with the marker and the time."""

    def make(index: int) -> bytes:
        head = b'{"specversion":"1.0","n":%d,"stamp":%d,"pad":"' % (index, time.time_ns())
        return head + b"x" * (size - len(head) - 2) + b'"}'

    return make


# --- servers ---------------------------------------------------------------------------------------------------------


class Server:
    """A server under test: where it is, which process it is, and how to publish to it."""

    def __init__(self, url: str, pid: int, publish: Publish, first: str | None = None) -> None:
        self.url = url
        self.pid = pid
        self.publish = publish
        #: what a client says first
        self.first = first
        self.output: asyncio.StreamReader | None = None


@asynccontextmanager
async def _process(*command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child on core 0."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **environment}, preexec_fn=lambda: os.sched_setaffinity(0, {0}),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _said(output: asyncio.StreamReader, event: str) -> dict[str, Any]:
    while line := await output.readline():
        if event.encode() in line:
            return dict(json.loads(line))
    raise RuntimeError(f"a process ended without saying {event}")


@asynccontextmanager
async def _gateway(upstream: Upstream, directory: Path, module: str, name: str, *more: str) -> AsyncIterator[Server]:
    """`mainstem run` (module `gateway`) or the gateway without a disk (`bench.unstored`)."""
    home = directory / name
    home.mkdir()
    config = home / "config.yaml"
    config.write_text(
        "server: {port: 0, max_connections_per_token: 20000, compression: shared}\n"
        f"sources:\n  - {{name: jobs, adapter: emit, url: 'ws://127.0.0.1:{upstream.port}/{name}', token: t, spaces: [s]}}\n"
        + "".join(f"{line}\n" for line in more)
    )
    command = ("run", "-c", str(config)) if module == "gateway" else ("-c", str(config))
    async with _process(sys.executable, "-m", module, *command) as process:
        assert process.stdout is not None
        url = str((await _said(process.stdout, "gateway_started"))["url"]).replace("http", "ws", 1)
        server = Server(f"{url}/v1/stream?type=task.*", process.pid, await upstream.to(name))
        server.output = process.stdout
        yield server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _nats(program: str, directory: Path, size: int) -> AsyncIterator[Server]:
    port, plain = _free_port(), _free_port()
    config = directory / "nats.conf"
    config.write_text(
        f"listen: 127.0.0.1:{plain}\nmax_connections: 20000\nwebsocket {{ listen: '127.0.0.1:{port}', no_tls: true }}\n"
    )
    async with _process(program, "-c", str(config), GOMAXPROCS="1") as process:
        reader, writer = await _connect(plain)
        writer.write(b'CONNECT {"verbose":false}\r\n')
        make = _filler(size)

        async def answer() -> None:
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")

        async def publish(first: int, count: int) -> None:
            bodies = [make(index) for index in range(first, first + count)]
            writer.write(b"".join(b"PUB x %d\r\n%b\r\n" % (len(body), body) for body in bodies))

        pongs = asyncio.create_task(answer(), name="bench-nats")
        try:
            yield Server(f"ws://127.0.0.1:{port}/", process.pid, publish, r'CONNECT {"verbose":false}\r\nSUB x 1\r\n')
        finally:
            pongs.cancel()
            writer.close()


@asynccontextmanager
async def _nchan(program: str, directory: Path, size: int) -> AsyncIterator[Server]:
    port = _free_port()
    home = directory / "nginx"
    home.mkdir()
    config = home / "nginx.conf"
    config.write_text(
        f"load_module {_NCHAN};\ndaemon off; master_process off; worker_processes 1; pid {home}/pid;\n"
        f"error_log /dev/null crit; worker_rlimit_nofile 20000; events {{ worker_connections 19000; }}\n"
        f"http {{ access_log off; client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;\n"
        f"uwsgi_temp_path {home}/u; scgi_temp_path {home}/s; keepalive_requests 1000000;\n"
        f"server {{ listen 127.0.0.1:{port} backlog=1024;\n"
        "location /sub { nchan_subscriber websocket; nchan_channel_id x; nchan_subscriber_first_message newest; }\n"
        "location /pub { nchan_publisher; nchan_channel_id x; nchan_message_buffer_length 64; } } }\n"
    )
    async with _process(program, "-c", str(config)) as process:
        reader, writer = await _connect(port)
        make = _filler(size)

        async def publish(first: int, count: int) -> None:
            for index in range(first, first + count):
                body = make(index)
                writer.write(b"POST /pub HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            for _ in range(count):
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                await reader.readexactly(length)

        try:
            yield Server(f"ws://127.0.0.1:{port}/sub", process.pid, publish)
        finally:
            writer.close()


async def _nothing(first: int, count: int) -> None:
    """The floor publishes by itself."""


# --- the load client -------------------------------------------------------------------------------------------------


class Load:
    """Runs `wsload`, compiled into a temporary directory."""

    def __init__(self, program: Path) -> None:
        self._program = program

    @asynccontextmanager
    async def crowd(
        self,
        server: Server,
        connections: int,
        *,
        query: str = "",
        seconds: float = WINDOW,
        options: tuple[str, ...] = (),
    ) -> AsyncIterator[asyncio.Task[dict[str, Any]]]:
        """So many connections, once all of them are open; the task answers with the figures."""
        first = () if server.first is None else ("-B", server.first)
        process = await asyncio.create_subprocess_exec(
            str(self._program), "-C", "1", "-n", str(connections), "-a", "8", "-w", str(WARM_UP), "-d", str(seconds),
            "-p", str(server.pid), *first, *options, server.url + query,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        ready = (await process.stderr.readline()).decode()
        if not ready.startswith(f"READY {connections}/"):
            answer = (await process.stdout.read()).decode()
            raise RuntimeError(f"not everybody was let in: {ready} {answer}")
        task = asyncio.create_task(self._answer(process), name="bench-load")
        try:
            yield task
        finally:
            if not task.done():
                process.kill()
            await asyncio.gather(task, process.wait(), return_exceptions=True)

    async def _answer(self, process: asyncio.subprocess.Process) -> dict[str, Any]:
        assert process.stdout is not None
        return dict(json.loads(await process.stdout.read()))

    async def run(
        self, server: Server, connections: int, pace: tuple[float, int] | None, **options: Any
    ) -> dict[str, Any]:
        """The figures of so many connections, while events come at a pace."""
        async with self.crowd(server, connections, **options) as answer, AsyncExitStack() as stack:
            if pace is not None:
                await stack.enter_async_context(_pacing(server.publish, *pace))
            return await answer


def _cost(answer: dict[str, Any]) -> float:
    """Microseconds of the server a message. A server whose core is full delivers fewer than asked for: the cost holds."""
    return float(answer["server"]["cpu_s"]) * 1e6 / float(answer["msgs"])


# --- what is measured ------------------------------------------------------------------------------------------------

COUNTED = ("-m", MARKER)


async def _fan_out(load: Load, servers: dict[str, Server], floor: Path | None, size: int) -> dict[str, Figures]:
    """Microseconds a frame, by kind and server."""
    figures: dict[str, Figures] = {"k1": {}, "k8": {}}
    for _ in range(ROUNDS):
        for kind, pace in (("k1", SINGLE), ("k8", BURST)):
            for name, server in servers.items():
                answer = await load.run(server, CONNECTIONS, pace, options=COUNTED)
                figures[kind].setdefault(name, []).append(_cost(answer))
            if floor is not None:
                async with _process(str(floor), str(pace[0]), str(pace[1]), str(size)) as process:
                    assert process.stdout is not None
                    port = int(await process.stdout.readline())
                    answer = await load.run(Server(f"ws://127.0.0.1:{port}/", process.pid, _nothing), CONNECTIONS, None)
                    figures[kind].setdefault("C send()", []).append(_cost(answer))
    return figures


async def _relay(load: Load, servers: dict[str, Server]) -> tuple[Figures, Figures]:
    """p50 and p99 from upstream frame to 100 clients at 1,000 events a second, milliseconds."""
    middles: Figures = {}
    tails: Figures = {}
    for _ in range(ROUNDS):
        for name, server in servers.items():
            answer = await load.run(server, 100, (1000, 1), options=("-m", '"stamp":', "-l"))
            middles.setdefault(name, []).append(answer["lat_us"]["p50"] / 1000)
            tails.setdefault(name, []).append(answer["lat_us"]["p99"] / 1000)
    return middles, tails


async def _few_of_many(load: Load, server: Server) -> Figures:
    """Microseconds an event that 10 connections want, beside what the process uses while nothing happens."""
    figures: Figures = {}
    rate = 200.0
    for connections in (100, CROWD):
        async with load.crowd(server, connections - 10, query="&task=jobs/other-{i}", seconds=60, options=("-t", "40")):
            for _ in range(ROUNDS):
                quiet = await load.run(server, 10, None, options=("-u",))
                busy = await load.run(server, 10, (rate, 1), options=COUNTED)
                spent = busy["server"]["cpu_s"] / busy["window_s"] - quiet["server"]["cpu_s"] / quiet["window_s"]
                figures.setdefault(f"{connections}", []).append(spent * 1e6 / (busy["msgs"] / 10 / busy["window_s"]))
                figures.setdefault(f"{connections} quiet", []).append(
                    100 * quiet["server"]["cpu_s"] / quiet["window_s"]
                )
    return figures


async def _views(load: Load, server: Server) -> Figures:
    """Microseconds a frame for 500 + 500 connections with one view, and with two."""
    figures: Figures = {}
    tasks = "&task=" + ",".join(f"jobs/job-{index}" for index in range(50))
    half = CONNECTIONS // 2
    for _ in range(ROUNDS):
        for name, token in (("one view", "full"), ("two views", "part")):
            async with load.crowd(
                server, half, query=f"{tasks}&token=full", options=COUNTED, seconds=WINDOW + 1
            ) as first:
                answer = await load.run(server, half, SINGLE, query=f"{tasks}&token={token}", options=COUNTED)
                await first
            figures.setdefault(name, []).append(_cost({**answer, "msgs": 2 * answer["msgs"]}))
    return figures


async def _compressed(load: Load, server: Server) -> Figures:
    """Microseconds a frame, plain and with shared compression."""
    figures: Figures = {}
    offers: dict[str, tuple[str, ...]] = {"plain": (), "compressed": ("-z",)}
    for _ in range(ROUNDS):
        for name, offer in offers.items():
            answer = await load.run(server, CONNECTIONS, SINGLE, options=offer)
            if bool(answer["rsv1_frames"]) is not bool(offer):
                raise RuntimeError("compression was not what the client offered")
            figures.setdefault(name, []).append(_cost(answer))
    return figures


async def _idle(load: Load, server: Server) -> float:
    """Kilobytes a connection."""
    answer = await load.run(server, IDLE, None, options=("-u",), seconds=1.0)
    return float(answer["server"]["rss_kb_per_conn"])


async def _pauses(load: Load, server: Server) -> tuple[float, float]:
    """The longest pause for garbage while connections come and events flow, and that of a full collection after it."""
    assert server.output is not None
    os.kill(server.pid, signal.SIGUSR1)
    await _said(server.output, "pauses")  # what the start took does not count
    async with load.crowd(server, IDLE, seconds=6.0) as answer, _pacing(server.publish, 20, 1):
        await answer
    os.kill(server.pid, signal.SIGUSR1)
    said = await _said(server.output, "pauses")
    return max(said["longest"]), said["full"]


# --- the whole -------------------------------------------------------------------------------------------------------


def _compile(compiler: str, directory: Path, name: str) -> Path:
    program = directory / name
    subprocess.run([compiler, "-O2", "-o", str(program), str(_HERE / f"{name}.c")], check=True)
    return program


def _nginx() -> str | None:
    """Where nginx is, if it can load nchan."""
    return shutil.which("nginx") if _NCHAN.exists() else None


async def _size(load: Load, server: Server) -> int:
    """Bytes of an event, so that peers send as many."""
    answer = await load.run(server, 1, (100, 1), seconds=0.5)
    return round(float(answer["payload"]) / float(answer["msgs"]))


async def _measure(compiler: str, directory: Path) -> list[Row]:
    load, floor = Load(_compile(compiler, directory, "wsload")), _compile(compiler, directory, "floor")
    upstream = Upstream()
    runner = await upstream.start()
    rows: list[Row] = []
    try:
        async with AsyncExitStack() as stack:
            servers = {
                "mainstem": await stack.enter_async_context(_gateway(upstream, directory, "gateway", "whole")),
                "unstored": await stack.enter_async_context(
                    _gateway(upstream, directory, "bench.unstored", "unstored")
                ),
            }
            size = await _size(load, servers["mainstem"])
            nats, nginx = shutil.which("nats-server"), _nginx()
            if nats is not None:
                servers["nats-server"] = await stack.enter_async_context(_nats(nats, directory, size))
            if nginx is not None:
                servers["nchan"] = await stack.enter_async_context(_nchan(nginx, directory, size))
            for name in ("nats-server", "nchan"):
                if name not in servers:
                    print(f"not measured, because it is not installed: {name}")
            rows += _fan_out_rows(await _fan_out(load, servers, floor, size), size)
            rows += _relay_rows(*await _relay(load, {name: item for name, item in servers.items() if name != "nchan"}))
        rows += await _crowded(load, upstream, directory, nats, size)
    finally:
        await runner.cleanup()
    return rows


async def _crowded(load: Load, upstream: Upstream, directory: Path, nats: str | None, size: int) -> list[Row]:
    """What depends on how many are connected: each in a fresh process."""
    rows: list[Row] = []
    async with _gateway(upstream, directory, "gateway", "idle") as server:
        kilobytes = [await _idle(load, server)]
    peer: list[float] = []
    if nats is not None:
        (directory / "idle-peer").mkdir()
        async with _nats(nats, directory / "idle-peer", size) as server:
            peer.append(await _idle(load, server))
    rows.append(Row(f"an idle connection of {IDLE}", kilobytes, "KB", "≤ 20", "nats-server" if peer else "", peer))
    async with _gateway(upstream, directory, "bench.unstored", "pauses") as server:
        longest, full = await _pauses(load, server)
    rows.append(Row(f"longest pause for garbage, {IDLE} connections", [longest], "ms", "≤ 10"))
    rows.append(Row("a full collection then", [full], "ms", "≤ 10"))
    async with _gateway(upstream, directory, "bench.unstored", "crowd") as server:
        few = await _few_of_many(load, server)
        compressed = await _compressed(load, server)
    rows.append(
        Row(f"an event for 10 of {CROWD}, unstored", few[f"{CROWD}"], "us", "≤ 1.3x", "for 10 of 100", few["100"])
    )
    rows.append(Row(f"quiet, {CROWD} connections", few[f"{CROWD} quiet"], "% CPU"))
    tokens = (
        "auth: {mode: jwt, tokens: [{token: full, scope: 'events:read'}, {token: part, scope: 'events:read:progress'}]}"
    )
    async with _gateway(upstream, directory, "bench.unstored", "views", tokens) as server:
        views = await _views(load, server)
    rows.append(
        Row("frame, shared compression (unstored)", compressed["compressed"], "us", "", "plain", compressed["plain"])
    )
    rows.append(Row("frame, two views (unstored)", views["two views"], "us", "≤ 1.1x", "one view", views["one view"]))
    return rows


def _fan_out_rows(figures: dict[str, Figures], size: int) -> list[Row]:
    holds = {
        ("k1", "nats-server"): "≤ 0.77x", ("k1", "nchan"): "≤ 1.15x", ("k1", "C send()"): "reach 1.4x",
        ("k8", "nats-server"): "≤ 0.8x", ("k8", "nchan"): "reach 0.15x",
    }  # fmt: skip
    rows = []
    for kind, text in (("k1", "one by one"), ("k8", "bursts of 8")):
        for own in ("mainstem", "unstored"):
            for peer, values in figures[kind].items():
                if peer not in ("mainstem", "unstored"):
                    rows.append(
                        Row(
                            f"{own}, frame of {size} B, {text}", figures[kind][own], "us",
                            holds.get((kind, peer), ""), peer, values,
                        )
                    )  # fmt: skip
    return rows


def _relay_rows(middles: Figures, tails: Figures) -> list[Row]:
    rows = []
    for own, text in (("mainstem", "fsynced log"), ("unstored", "no log waited for")):
        for share, figures, hold in (("p50", middles, ""), ("p99", tails, "≤ 1x")):
            peer = figures.get("nats-server", ())
            rows.append(
                Row(
                    f"relay, 100 clients, 1,000/s, {text}, {share}", figures[own], "ms",
                    hold if own == "unstored" else "", "nats-server" if peer else "", peer,
                )
            )  # fmt: skip
    return rows


def rows() -> list[Row]:
    """All figures of the fan-out; none where there is no C compiler, or no second core for the load."""
    compiler = shutil.which("cc")
    if compiler is None or (os.cpu_count() or 1) < 2:
        print("fanout: skipped, because it needs a C compiler (cc) for its load client, and two cores")
        return []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    cores = os.sched_getaffinity(0)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        os.sched_setaffinity(0, {1})
        with tempfile.TemporaryDirectory() as directory:
            return asyncio.run(_measure(compiler, Path(directory)))
    finally:
        os.sched_setaffinity(0, cores)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
