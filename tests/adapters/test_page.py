"""`docs/adapters.md` is enough: its adapter, taken from the page and installed as a distribution, works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "adapters.md").read_text()


def block(language: str, containing: str) -> str:
    """The one code block of the page that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    return str(found)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A directory for PYTHONPATH with the page's adapter, its tests and its entry point, as an installer would lay them."""
    site = tmp_path / "site"
    info = site / "mainstem_pulse-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "pulse.py").write_text(block("python", "class Pulse(Adapter"))
    (site / "test_pulse.py").write_text(block("python", "from adapters.conformance import Kit"))
    group, point = re.findall(r'\[project\.entry-points\."(.+?)"\]\n(.+)', block("toml", "entry-points"))[0]
    name, _, target = point.partition(" = ")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target.strip(chr(34))}\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mainstem-pulse\nVersion: 1.0\n")
    return site


def environment(site: Path, **more: str) -> dict[str, str]:
    return {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", **more}


def test_the_page_adapter_passes_the_kit(installed: Path) -> None:
    """Every card that the page's own test asks for."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(installed / "test_pulse.py"), "-c", "/dev/null"],
        cwd=installed, env=environment(installed), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 passed" in done.stdout


def test_the_page_configuration_is_checked_by_the_adapter(installed: Path, tmp_path: Path) -> None:
    """Found through its entry point; a mistake in its section is named with its line."""
    config = tmp_path / "config.yaml"
    config.write_text(block("yaml", "adapter: pulse"))
    command = [sys.executable, "-m", "gateway", "check", "-c", str(config)]
    env = environment(installed, PULSE_KEY="s3cret")
    good = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert good.returncode == 0, good.stderr
    assert "1 source" in good.stdout
    config.write_text(config.read_text().replace("key:", "kez:"))
    bad = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert bad.returncode == 2
    assert "config.yaml:5" in bad.stderr
    assert "kez" in bad.stderr


async def test_the_page_adapter_runs(installed: Path, tmp_path: Path) -> None:
    """Against a live WebSocket server, in a started gateway: its jobs come out as canonical events."""
    frames = [
        {"job": "j1", "state": "waiting", "at": "2026-01-01T00:00:00Z"},
        {"job": "j1", "state": "working", "done": 0.25, "at": "2026-01-01T00:00:01Z", "shard": "s-7"},
        {"job": "j1", "state": "ok", "url": "https://x/y", "at": "2026-01-01T00:00:02Z"},
    ]

    async def feed(request: web.Request) -> web.WebSocketResponse:
        assert request.query["key"] == "s3cret"
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for frame in frames:
            await socket.send_json(frame)
        async for _ in socket:
            pass
        return socket

    app = web.Application()
    app.router.add_get("/feed", feed)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    config = tmp_path / "config.yaml"
    source = block("yaml", "adapter: pulse").replace("wss://pulse.example.com", f"ws://127.0.0.1:{port}")
    config.write_text(f"server: {{port: 0}}\n{source}")
    from tests.process import running

    async with (
        running(config, env=environment(installed, PULSE_KEY="s3cret")) as url,
        aiohttp.ClientSession() as session,
    ):
        types = []
        async with session.ws_connect(f"{url}/v1/stream?after=0&task=heart/j1") as stream:
            async for message in stream:
                event = json.loads(message.data)
                if event["type"].startswith("task."):
                    types.append(event["type"])
                    assert "s-7" not in message.data
                if event["type"] == "task.succeeded":
                    break
        assert types == ["task.queued", "task.started", "task.succeeded"]
    await runner.cleanup()
