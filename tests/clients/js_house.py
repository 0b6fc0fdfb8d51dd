"""What the JavaScript client is tried against: a started gateway behind a proxy that misbehaves when told to.

The tests themselves are in `clients/js/test/gateway`, in JavaScript; they say over HTTP what is to happen here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import jwt
import pytest
from aiohttp import web

from tests.clients.kit import NODE, PATIENCE, Gateway, Upstream, free_port, serving
from tests.e2e.kit import QUICK, write

PACKAGE = Path(__file__).parents[2] / "clients" / "js"
SECRET = "a secret that nobody outside of this test uses"

#: The oldest Node that has what the tests use.
OLDEST = 20


def _missing() -> str | None:
    if NODE is None:
        return "Node is not installed"
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < OLDEST:
        return f"Node is older than {OLDEST}"
    if not (PACKAGE / "node_modules" / "react").is_dir():
        return "the packages of the tests are not installed (npm ci --prefix clients/js)"
    return None


MISSING = _missing()
needs_packages = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


async def node(*arguments: str, **env: str) -> tuple[int, str]:
    """Runs Node in the package; exit code and output."""
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        NODE, "--no-warnings", *arguments, cwd=PACKAGE, stdout=asyncio.subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**_environment(), **env},
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()


def _environment() -> dict[str, str]:
    # of this test runner, not of one that Node would take itself to be a child of
    return {**{key: value for key, value in os.environ.items() if key != "NODE_TEST_CONTEXT"}, "PYTHON": sys.executable}


class Proxy:
    """Passes bytes on, until it does not.

    Attributes:
        budget: bytes that a connection gets on average before it is cut, in the middle of whatever it is; None: no end.
        flowing: set while bytes towards the client are passed on.
    """

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()
        self.budget: int | None = None
        self.cuts = 0
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        """Listens on loopback."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            try:
                yield self
            finally:
                self.flowing.set()
                self.cut()

    def cut(self) -> None:
        """Ends every connection, as a network that goes away does."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # what is not passed on is soon noticed
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
            there, back = await asyncio.open_connection(sock=sock, limit=8192)
        except OSError:
            sock.close()
            writer.transport.abort()
            return
        both = {writer, back}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, back, None))
                pumps.create_task(self._pump(there, writer, self.budget))
        except* (OSError, EOFError):
            pass  # a connection that ends, ends both ways
        finally:
            self._writers -= both
            for one in both:
                one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: int | None) -> None:
        left = None if budget is None else self._random.randrange(200, 2 * budget)
        while data := await reader.read(4096):
            if left is not None or not self.flowing.is_set():
                await self.flowing.wait()
            if left is not None and len(data) >= left:
                writer.write(data[:left])
                self.cuts += 1
                break
            left = None if left is None else left - len(data)
            writer.write(data)
            await writer.drain()
        raise EOFError


class Job(Upstream):
    """emit.run with one job, which can checkpoint, end and be run again."""

    async def tell(self, kind: str, status: str, count: int) -> None:
        """Messages of a type about the job, numbered on."""
        async with asyncio.timeout(30), self._joined:
            await self._joined.wait_for(lambda: self._socket is not None)
        assert self._socket is not None
        for _ in range(count):
            self._said += 1
            data = {"step": f"step {self._said}", "log": "line " * 400}
            message = {
                "jobId": "job-1", "jobName": "render", "type": kind, "status": status, "data": data,
                "timestamp": f"2026-01-02T03:04:{self._said % 60:02d}.{self._said // 60:03d}Z",
            }  # fmt: skip
            await self._socket.send_str(json.dumps(message))


class House:
    """All of it, and the orders it takes."""

    def __init__(self, config: Path, gateway: Gateway, upstream: Job, proxy: Proxy) -> None:
        self._config, self._gateway, self._upstream, self._proxy = config, gateway, upstream, proxy

    async def _say(self, query: dict[str, str]) -> None:
        kind, status = query.get("kind", "progress"), query.get("status", "running")
        await self._upstream.tell(kind, status, int(query.get("count", "1")))

    async def _restart(self, query: dict[str, str]) -> None:
        await self._gateway.stop()
        if query.get("log") == "new":
            for file in self._config.parent.glob("mainstem.db*"):
                file.unlink()
        await self._gateway.start()

    async def _published(self, query: dict[str, str]) -> None:
        """Returns once the gateway has published so many checkpoints, whatever the client knows of it."""
        wanted = f'mainstem_events_total{{source="jobs",type="task.checkpointed"}} {float(query["count"])}'
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession(self._gateway.url) as session:
            while True:
                async with session.get("/metrics") as response:
                    if wanted in await response.text():
                        return
                await asyncio.sleep(0.02)

    async def _network(self, query: dict[str, str]) -> None:
        self._proxy.budget = int(query["budget"]) if "budget" in query else None
        if query.get("flow") == "stop":
            self._proxy.flowing.clear()
        else:
            self._proxy.flowing.set()
        if "cut" in query:
            self._proxy.cut()

    def app(self) -> web.Application:
        """Where the orders go: `POST /<order>?...`, and `GET /token?seconds=`."""
        orders: dict[str, Callable[[dict[str, str]], Awaitable[None]]] = {
            "say": self._say, "restart": self._restart, "network": self._network, "published": self._published,
        }  # fmt: skip

        async def obey(request: web.Request) -> web.Response:
            await orders[request.match_info["order"]](dict(request.query))
            return web.json_response({"cuts": self._proxy.cuts})

        async def token(request: web.Request) -> web.Response:
            claims = {
                "scope": request.query.get("scope", "events:read"),
                "exp": time.time() + float(request.query["seconds"]),
            }
            return web.Response(text=jwt.encode(claims, SECRET, "HS256"))

        app = web.Application()
        app.router.add_post("/{order}", obey)
        app.router.add_get("/token", token)
        return app


@asynccontextmanager
async def house(directory: Path, *, seed: int) -> AsyncIterator[dict[str, str]]:
    """The environment that the tests in JavaScript need."""
    port = free_port()
    upstream = Job()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(upstream.running())
        source = {
            "name": "jobs", "adapter": "emit", "url": upstream.url.replace("http", "ws"), "token": "t", "spaces": ["s"],
        }  # fmt: skip
        config = write(
            directory,
            server={"port": port, "drain_timeout": 1, "stream_buffer": 65536},
            auth={"secret": SECRET},
            sources=[{**source, **QUICK}],
        )
        gateway = Gateway(config, upstream)
        stack.push_async_callback(gateway.kill)
        await gateway.start()
        proxy = await stack.enter_async_context(Proxy(port, seed).running())
        control = await stack.enter_async_context(serving(House(config, gateway, upstream, proxy).app()))
        yield {"MAINSTEM_URL": proxy.url, "MAINSTEM_CONTROL": control}
