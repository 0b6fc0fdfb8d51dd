"""A browser's WebSocket and EventSource read the stream of a started gateway from a page of another origin."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web

from tests.clients.kit import CHROMIUM, Gateway, Reports, Upstream, gateway, needs_chromium, serving
from tests.stream.clients import check

PAGE = Path(__file__).with_name("page.html")
#: Headless, without whatever a browser would do on its own.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@asynccontextmanager
async def _pages(reports: Reports) -> AsyncIterator[str]:
    """The origin that the page comes from, and to which it reports."""

    async def page(request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE)

    async def report(request: web.Request) -> web.Response:
        await reports.add(await request.json())
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_post("/report", report)
    async with serving(app) as origin:
        yield origin


@asynccontextmanager
async def _browser(url: str, profile: Path) -> AsyncIterator[None]:
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", url,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with the processes that it has started
        await process.wait()


@asynccontextmanager
async def _visit(tmp_path: Path, compression: str) -> AsyncIterator[tuple[Upstream, Gateway, Reports]]:
    """A page with both ways open and in step."""
    reports = Reports()
    async with (
        Upstream().running() as upstream,
        _pages(reports) as origin,
        gateway(tmp_path, upstream, compression=compression, allowed_origins=[origin]) as house,
    ):
        stream = f"{house.url.replace('http', 'ws')}/v1/stream?type=task.*"
        async with _browser(f"{origin}/?stream={quote(stream, safe='')}", tmp_path / "profile"):
            for name in ("websocket", "eventsource"):
                await reports.until(lambda name=name: _types(reports, name)[-1:] == ["stream.synced"])  # type: ignore[misc]
            yield upstream, house, reports


def _types(reports: Reports, name: str) -> list[str]:
    return [event["type"] for event in reports.events(name)]


@needs_chromium
@pytest.mark.parametrize("compression", ["off", "shared"])
async def test_browser(tmp_path: Path, compression: str) -> None:
    """Both ways bring the same valid events in order; what was agreed on shows; a drain closes with 1001."""
    async with _visit(tmp_path, compression) as (upstream, house, reports):
        (opened,) = reports.of("websocket", "open")
        assert opened["protocol"] == "cloudevents.json"
        assert opened["extensions"].startswith("permessage-deflate" if compression == "shared" else "")
        assert bool(opened["extensions"]) is (compression == "shared")
        await upstream.say(30)
        await reports.until(lambda: all(len(reports.logged(name)) == 30 for name in ("websocket", "eventsource")))
        await house.stop()
        await reports.until(lambda: bool(reports.of("websocket", "close")))
        assert reports.of("websocket", "close") == [1001]
    assert reports.logged("websocket") == reports.logged("eventsource")
    for event in reports.events("websocket") + reports.events("eventsource"):
        check(event)
    steps = [event["data"]["detail"]["step"] for event in reports.logged("websocket")]
    assert steps == [f"schöner Schritt {index}" for index in range(1, 31)]


@needs_chromium
async def test_event_source_resumes_by_itself(tmp_path: Path) -> None:
    """The gateway restarts: the browser comes back with the last id it saw, and misses nothing."""
    async with _visit(tmp_path, "off") as (upstream, house, reports):
        await upstream.say(3)
        await reports.until(lambda: len(reports.logged("eventsource")) == 3)
        await house.stop()
        await house.start()
        await upstream.say(3)
        await reports.until(lambda: len(reports.logged("eventsource")) >= 6)
        await reports.until(lambda: _types(reports, "eventsource").count("stream.synced") == 2)
    positions = [int(event["sequence"]) for event in reports.logged("eventsource")]
    assert positions == sorted(set(positions))
    steps = [event["data"]["detail"]["step"] for event in reports.logged("eventsource")]
    assert steps == [f"schöner Schritt {index}" for index in range(1, 7)]
    subscribed = [event for event in reports.events("eventsource") if event["type"] == "stream.subscribed"]
    assert [event["data"]["resume"] for event in subscribed] == ["live", "replayed"]
    closing = next(event for event in reports.events("eventsource") if event["type"] == "stream.closing")
    assert closing["data"]["reconnect_after_ms"] > 0
