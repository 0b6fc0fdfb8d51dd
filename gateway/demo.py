"""`mainstem demo`: three simulated upstreams, the gateway and a webhook receiver, all on this machine.

Everything is real but the upstreams: the store is a file in a temporary directory, the stream is the stream, and webhooks
are signed, sent over HTTP and verified by their receiver.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from gateway import simulators, telemetry
from gateway.app import Gateway
from gateway.commands.program import DEFAULT_URL
from gateway.commands.verification import Unverified, verify
from gateway.config import Settings
from gateway.webhooks.signing import encode_secret

#: Mean seconds of a task's life: short enough that the first ends are seen, and delivered, while one still looks.
_LIFE = 12.0
#: Where pages of a frontend that is tried out on this machine come from: `python3 -m http.server`, as in the README.
_PAGES = ("http://localhost:8000", "http://127.0.0.1:8000")
_WORDS = {
    "succeeded": "\x1b[32m", "failed": "\x1b[31m", "cancelled": "\x1b[33m", "deleted": "\x1b[33m", "progressed": "\x1b[36m",
}  # fmt: skip


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def describe(event: dict[str, Any], color: bool) -> str:
    """One line about an event, for people."""
    kind, data = event["type"], event["data"]
    time = (data.get("received_at") or event["time"])[11:19]
    word = kind.partition(".")[2]
    tint, plain = (_WORDS.get(word, ""), "\x1b[0m") if color and word in _WORDS else ("", "")
    if not kind.startswith("task."):
        about = data.get("endpoint") or ""
        return f"{time}  {data.get('source', ''):<9} {kind:<22} {about}"
    task = data["task"]
    progress = task["progress"]
    bar = "" if progress is None else f"{'█' * int(progress // 10):<10} {progress:>3.0f}%"
    line = f"{task['source']:<9} {tint}{kind:<22}{plain} {(task['kind'] or '')[:18]:<18} {task['id']:<36} {bar}"
    return f"{time}  {line}".rstrip()


async def run(*, port: int, seed: int, rate: float) -> int:
    """Runs the demo until SIGTERM or SIGINT. The exit code.

    Args:
        port: of the gateway; 0 takes a free one.
        seed: one seed, one history.
        rate: new tasks a second, of all upstreams together.

    Raises:
        CannotListen: the address cannot be used.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    undo: list[Callable[[], Awaitable[object]]] = []
    with tempfile.TemporaryDirectory(prefix="mainstem-demo-") as directory:
        try:
            gateway = await _start(Path(directory), undo, port=port, seed=seed, rate=rate)
            show = asyncio.create_task(_show(gateway.server.url), name="demo-show")
            undo.append(lambda: _cancel(show))
            wait = asyncio.create_task(stopped.wait(), name="demo-stopped")
            await asyncio.wait({wait, show}, return_when=asyncio.FIRST_COMPLETED)
            await _cancel(wait)
            if show.done():
                show.result()
        finally:
            for step in reversed(undo):
                await step()
    return 0


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _start(
    directory: Path, undo: list[Callable[[], Awaitable[object]]], *, port: int, seed: int, rate: float
) -> Gateway:
    share = rate / 3
    triverse = await simulators.start("triverse", seed=seed, rate=share, life=_LIFE)
    undo.append(triverse.stop)
    emit = await simulators.start("emit", seed=seed, rate=share, life=_LIFE)
    undo.append(emit.stop)
    catalyst = await simulators.start("catalyst", seed=seed, rate=share, life=_LIFE)
    undo.append(catalyst.stop)

    key = secrets.token_bytes(32)
    receiver = Receiver(key)
    undo.append(receiver.stop)
    await receiver.start()

    port = port or _free_port()
    settings = Settings.model_validate(
        {
            "server": {"port": port, "drain_timeout": 2, "allowed_origins": [*_own(port), *_PAGES]},
            "auth": {"mode": "none"},
            "store": {"url": "sqlite:///demo.db"},
            "sources": [
                {
                    "name": "studio", "adapter": "triverse", "url": triverse.url, "watch": "all",
                    "token": triverse.credentials["token"], "catch_up": "1h",
                },
                {
                    "name": "jobs", "adapter": "emit", "url": emit.url, "token": emit.credentials["token"],
                    "spaces": emit.credentials["spaces"],
                },
                {"name": "ops", "adapter": "catalyst", "url": catalyst.url, "uuid": catalyst.credentials["uuid"]},
            ],
            "webhooks": [
                {
                    "name": "billing", "url": receiver.url, "secret": encode_secret(key), "allow_private": True,
                    "type": ["task.succeeded", "task.failed", "task.deleted"],
                }
            ],
        },
        context={"directory": directory},
    )  # fmt: skip
    gateway = Gateway(settings)
    undo.append(gateway.stop)
    await gateway.start()
    url = gateway.server.url
    telemetry.conceal(*settings.secrets())
    option = "" if url == DEFAULT_URL else f" --url {url}"
    program = "mainstem" if shutil.which("mainstem") else sys.argv[0]
    _print(
        f"""
  Mainstem is running, with three simulated upstreams and a webhook receiver.

    dashboard   {url}/ui/     (in a browser)
    stream      {url.replace("http", "ws", 1)}/v1/stream     (any WebSocket client, nothing to send)
    the same    curl -N -H 'Accept: text/event-stream' '{url}/v1/stream?snapshot=true'
    tasks       curl -s '{url}/v1/tasks?status=running'
    sources     curl -s {url}/v1/sources
    metrics     curl -s {url}/metrics
    webhooks    task.succeeded, task.failed and task.deleted go to {receiver.url}
    try them    {program} webhooks list{option}
                {program} webhooks test billing{option}
                {program} webhooks replay billing --since 1m{option}

  Ctrl-C ends it. What the stream says now:
"""
    )
    return gateway


def _free_port() -> int:
    """A port that nobody uses now. The demo has to know its own before it listens, to let its own pages in."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _own(port: int) -> list[str]:
    return [f"http://{name}:{port}" for name in ("127.0.0.1", "localhost")]


async def _show(url: str) -> None:
    """Prints the gateway's own stream, as any client would see it."""
    color = sys.stdout.isatty()
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/v1/stream?snapshot=true") as socket:
        async for message in socket:
            event = json.loads(message.data)
            if event["type"].startswith(("task.", "source.")):
                _print("  " + describe(event, color))


class Receiver:
    """A backend that takes webhooks: verifies each signature and says so."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        app = web.Application()
        app.router.add_post("/hooks", self._receive)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Listens on loopback."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()

    async def stop(self) -> None:
        """Ends."""
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where webhooks are to be sent."""
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/hooks"

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            verify(self._key, {name.lower(): value for name, value in request.headers.items()}, body, time.time())
        except Unverified:
            return web.Response(status=401)
        event = json.loads(body)
        _print(f"  {event['time'][11:19]}  webhook   {event['type']:<22} signature verified, {len(body)} bytes")
        return web.Response(status=204)
