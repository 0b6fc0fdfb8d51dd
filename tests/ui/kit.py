"""What tests of the dashboard share: a browser that reports every mistake, started gateways, an upstream that speaks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.clients.kit import CHROMIUM, PATIENCE, Upstream
from tests.e2e.kit import write
from tests.process import running

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

_TOOLS = all(map(find_spec, ("playwright", "axe_playwright_python")))
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and _TOOLS),
    reason="Playwright and axe (development dependencies), or Chromium (Debian: apt-get install chromium), are not installed",
)

ROOT = Path(__file__).parent.parent.parent
STATIC = ROOT / "gateway" / "static"
#: Pictures of pages are written here where somebody wants to look at them.
PICTURES = os.environ.get("MAINSTEM_PICTURES")
DESK, PHONE = (1280, 900), (360, 740)
ADMIN, VIEWER, SINGLE = "admin-token-of-the-tests", "viewer-token-of-the-tests", "single-token-of-the-tests"
SECRET = "a secret of the tests that has thirty-two bytes or more"
AUTH = {
    "secret": SECRET,
    "tokens": [
        {"token": ADMIN, "scope": "admin", "name": "admin"},
        {"token": VIEWER, "scope": "events:read", "name": "viewer"},
        {"token": SINGLE, "scope": "events:read:progress", "name": "single"},
    ],
}


class Visit:
    """A browser's window at a dashboard. Leaving it fails where the page made a mistake or spoke to anybody else.

    Attributes:
        refusals: statuses of answers that are expected to be refusals; the browser reports each as an error.
    """

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base
        self.mistakes: list[str] = []
        self.requests: list[str] = []
        self.cut = False
        page.on("pageerror", lambda error: self.mistakes.append(f"{error}\n{error.stack}"))
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))

    def _hear(self, kind: str, text: str) -> None:
        # A refused request, and a gateway that is away, are reported by the browser itself; the page says so in words.
        own = "Failed to load resource" in text or "WebSocket connection to" in text
        if kind in ("error", "warning") and not own:
            self.mistakes.append(f"{kind}: {text}")

    async def to(self, place: str) -> None:
        """Opens a page of the dashboard."""
        await self.page.goto(f"{self.base}/ui/#/{place}")

    async def picture(self, name: str) -> None:
        """A picture, if anybody wants one."""
        if PICTURES:
            await self.page.screenshot(path=Path(PICTURES) / f"{name}.png")

    async def axe(self) -> list[str]:
        """What makes the page hard to use for some: rules of WCAG 2 AA, and where they are broken."""
        from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]

        rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        results = await Axe().run(self.page, options=rules)
        return [
            f"{violation['id']}: {node['html'][:200]} {node['failureSummary']}"
            for violation in results.response["violations"]
            for node in violation["nodes"]
        ]

    async def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(await self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    def check(self) -> None:
        """Raises where something went wrong that nobody has looked for."""
        assert self.mistakes == []
        own = urlsplit(self.base).netloc
        assert [url for url in self.requests if urlsplit(url).netloc != own and not url.startswith("data:")] == []


@asynccontextmanager
async def browsing(base: str, *, size: tuple[int, int] = DESK, **context: Any) -> AsyncIterator[Visit]:
    """A window of a fresh browser."""
    from playwright.async_api import async_playwright

    async with async_playwright() as play:
        browser = await play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        try:
            window: BrowserContext = await browser.new_context(
                viewport={"width": size[0], "height": size[1]}, locale="en-GB", **context
            )
            window.set_default_timeout(PATIENCE * 1000)
            visit = Visit(await window.new_page(), base)
            yield visit
            visit.check()
        finally:
            await browser.close()


@asynccontextmanager
async def demo(rate: float = 2) -> AsyncIterator[str]:
    """The base URL of a running `mainstem demo`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "demo", "--port", "0", "--rate", str(rate),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    output = process.stdout

    async def base() -> str:
        seen = b""
        async for line in output:
            seen += line
            if b"/v1/sources" in line:
                return line.split()[-1].decode().removesuffix("/v1/sources")
        raise AssertionError(f"the demo ended:\n{seen.decode()}")

    async def drain() -> None:
        async for _ in output:
            pass

    try:
        async with asyncio.timeout(PATIENCE):
            url = await base()
        draining = asyncio.create_task(drain(), name="demo-output")
        yield url
        process.send_signal(signal.SIGTERM)
        await process.wait()
        await draining
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Space(Upstream):
    """emit.run with one space, which says anything."""

    async def post(self, *messages: Mapping[str, Any]) -> None:
        """Sends messages; what they leave out is about a running job."""
        async with asyncio.timeout(PATIENCE), self._joined:
            await self._joined.wait_for(lambda: self._socket is not None)
        assert self._socket is not None
        for message in messages:
            whole = {
                "jobId": "job-1", "jobName": "render", "type": "progress", "status": "running",
                "timestamp": "2026-01-02T03:04:05.000Z", "data": {}, **message,
            }  # fmt: skip
            await self._socket.send_str(json.dumps(whole))


def source(upstream: Upstream) -> dict[str, Any]:
    """The configuration of a source that reads it."""
    return {
        "name": "jobs", "adapter": "emit", "url": upstream.url.replace("http", "ws"), "token": "t", "spaces": ["s"],
        "reconnect": {"initial": 0.02, "max": 0.2},
    }  # fmt: skip


def expect(thing: Any) -> Any:
    """Playwright's assertions, which wait; imported late, because it may be missing."""
    from playwright.async_api import expect as wait_for

    wait_for.set_options(timeout=PATIENCE * 1000)
    return wait_for(thing)


async def live(page: Page) -> None:
    """Returns once the stream is there."""
    await expect(page.locator(".connection")).to_have_text("Live")


@asynccontextmanager
async def house(directory: Path, **sections: Any) -> AsyncIterator[tuple[Space, str]]:
    """A gateway that reads one space of emit.run."""
    async with Space().running() as upstream:
        config = write(directory, sources=[source(upstream)], **sections)
        async with running(config) as url:
            assert isinstance(upstream, Space)
            yield upstream, url


async def sign_in(page: Page, token: str) -> None:
    """As a person does."""
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Sign in").click()
