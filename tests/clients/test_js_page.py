"""The page of the README, as it stands there, in Chromium against the running demo."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.clients.kit import CHROMIUM, PATIENCE, needs_chromium, serving
from tests.clients.test_browser import FLAGS

README = Path(__file__).parents[2] / "README.md"
#: Resolves once a task has ended that the page has shown before its end, with what the page shows then.
WATCH = """
new Promise((resolve) => {
  const moving = new Set();
  const look = () => {
    for (const row of document.querySelectorAll("p[id]")) {
      if (/ running$/.test(row.textContent) && row.firstChild.value > 0) moving.add(row.id);
      if (/ succeeded$/.test(row.textContent) && moving.has(row.id))
        resolve({ ended: row.id, full: row.firstChild.value, rows: document.querySelectorAll("p").length });
    }
  };
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
  look();
})
"""


def page_of_the_readme() -> str:
    """The HTML in it."""
    (found,) = re.findall(r"^```html\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


@asynccontextmanager
async def _demo() -> AsyncIterator[int]:
    """`mainstem demo` on a free port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "demo", "--port", "0", "--rate", "6", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    rest: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(PATIENCE):
            async for line in process.stdout:
                if found := re.search(rb"ws://127\.0\.0\.1:(\d+)/v1/stream", line):
                    break
        assert found
        rest = asyncio.create_task(process.stdout.read(), name="demo-output")
        yield int(found[1])
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
        if rest is not None:
            await rest


class _Tab:
    """The first tab of a browser, by the DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        id = next(self._ids)
        await self._socket.send_json({"id": id, "method": method, "params": parameters})
        answer = await self._until(lambda message: message.get("id") == id)
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def _until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = await self._socket.receive_json(timeout=PATIENCE)
            if wanted(message):
                return message

    async def open(self, url: str) -> None:
        """Loads a page."""
        await self._ask("Page.enable")
        await self._ask("Page.navigate", url=url)
        await self._until(lambda message: message.get("method") == "Page.loadEventFired")

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression, or of the promise that it makes."""
        result = await self._ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")


@asynccontextmanager
async def _tab(profile: Path, *flags: str) -> AsyncIterator[_Tab]:
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank",
        stdout=subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    rest: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(PATIENCE):
            async for line in process.stderr:
                if found := re.search(rb"DevTools listening on ws://([^/]+)/", line):
                    break
        assert found
        rest = asyncio.create_task(process.stderr.read(), name="browser-output")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{found[1].decode()}/json/list") as answer:
                (target,) = [one for one in await answer.json() if one["type"] == "page"]
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield _Tab(socket)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with the processes that it has started
        await process.wait()
        if rest is not None:
            await rest


@needs_chromium
async def test_the_page_of_the_readme(tmp_path: Path) -> None:
    """A task moves and ends on it. Only the ports are led elsewhere, by the browser."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=page_of_the_readme(), content_type="text/html")

    app = web.Application()
    app.router.add_get("/page.html", page)
    async with _demo() as port, serving(app) as origin:
        here = origin.rpartition(":")[2]
        rules = f"--host-resolver-rules=MAP localhost:8080 127.0.0.1:{port},MAP localhost:8000 127.0.0.1:{here}"
        async with _tab(tmp_path, rules) as tab, asyncio.timeout(PATIENCE):
            await tab.open("http://localhost:8000/page.html")
            seen = await tab.evaluate(WATCH)
    assert seen["ended"].startswith(("studio/", "jobs/"))
    assert seen["full"] == 100
    assert seen["rows"] >= 1
