"""The page about frontends, every block of it, in Chromium: from a page of another origin, against a started gateway."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway import simulators
from gateway.simulators import Triverse
from tests.clients.js_house import PACKAGE, needs_packages
from tests.clients.kit import serving
from tests.docs.pages import ROOT, blocks
from tests.e2e.kit import QUICK, write
from tests.process import running
from tests.ui.kit import Visit, browsing, needs_browser

PAGE = "docs/frontends.md"
CLIENT, BACKEND, ONE, MANY, REACT, PLAIN = (block.text for block in blocks(PAGE))
SECRET = "a secret of the tests that has thirty-two bytes or more"
#: The task of the page, and one that will fail.
FOX, OWL = "92483a80-236c-4889-9a95-4c90bb64dfd8", "0c6f2d0e-6a55-4a7e-8f0b-3f1f6c0b7a11"
PREVIEW = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
#: What the blocks expect of the page around them.
HTML = '<!doctype html><meta charset="utf-8"><title>a shop</title>\n{body}\n<script type="module" src="{name}.js"></script>'
BODY = '<progress id="bar" max="100"></progress> <img id="image" alt=""> <p id="status"></p> <ol id="list"></ol> <div id="root"></div>'
ELEMENTS = 'const [bar, image, status] = ["bar", "image", "status"].map((id) => document.getElementById(id));\n'
LINES = """
const say = (...words) => {
  const line = document.createElement("li");
  line.textContent = words.join(" ");
  document.getElementById("list").append(line);
};
"""


class Shop:
    """A website and its backend, which makes tokens as the page says.

    Attributes:
        scripts: name of a script → its text; each has a page of its own.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, str] = {}
        made: dict[str, Any] = {"SECRET": SECRET}
        exec(BACKEND, made)
        self._token_for = made["token_for"]

    def app(self) -> web.Application:
        """The website."""
        app = web.Application()
        app.router.add_get("/mainstem-token", self._token)
        app.router.add_get("/favicon.ico", self._nothing)
        app.router.add_get("/{name}.js", self._script)
        app.router.add_get("/{name}", self._page)
        return app

    async def _token(self, request: web.Request) -> web.Response:
        return web.Response(text=self._token_for([f"studio/{FOX}", f"studio/{OWL}"]))

    async def _nothing(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text=HTML.format(body=BODY, name=request.match_info["name"]), content_type="text/html")

    async def _script(self, request: web.Request) -> web.Response:
        return web.Response(text=self.scripts[request.match_info["name"]], content_type="text/javascript")


@asynccontextmanager
async def shop(directory: Path, scripts: Mapping[str, str]) -> AsyncIterator[tuple[Triverse, Visit]]:
    """An upstream with two tasks that run, and a browser's window at a website with the scripts, which name a real gateway."""
    site = Shop()
    upstream = await simulators.start("triverse")
    try:
        for task in (FOX, OWL):
            upstream.create_task(task_uuid=task, status="RUNNING", progress=10)
        source = {
            "name": "studio", "adapter": "triverse", "url": upstream.url, "token": upstream.credentials["token"],
            "catch_up": "1h", **QUICK,
        }  # fmt: skip
        async with serving(site.app()) as origin:
            server = {"port": 0, "drain_timeout": 1, "allowed_origins": [origin]}
            config = write(directory, server=server, auth={"secret": SECRET}, sources=[source])
            async with running(config) as url, browsing(origin) as visit:
                for name, text in scripts.items():
                    text = text.replace("wss://events.example.com", url.replace("http", "ws"))
                    site.scripts[name] = text.replace("https://events.example.com", url)
                yield upstream, visit
                visit.requests.clear()  # they went to the gateway, which is elsewhere: that is what is tried here
    finally:
        await upstream.stop()


async def open_page(visit: Visit, name: str) -> Any:
    """The page with a script."""
    await visit.page.goto(f"{visit.base}/{name}")
    return visit.page


def done(upstream: Triverse, task: str) -> None:
    """The task comes out well."""
    upstream.push_state(task, status="SUCCESS", progress=100, output={"preview_url": PREVIEW})


@needs_browser
async def test_one_task(tmp_path: Path) -> None:
    """Its bar moves; its result, or what to do about its failure, is shown."""
    from playwright.async_api import expect

    script = f"{ELEMENTS}{CLIENT}{ONE}"
    assert FOX in script
    async with shop(tmp_path, {"fox": script, "owl": script.replace(FOX, OWL)}) as (upstream, visit):
        page = await open_page(visit, "fox")
        await expect(page.locator("#bar")).to_have_js_property("value", 10)
        upstream.push_state(FOX, progress=42)
        await expect(page.locator("#bar")).to_have_js_property("value", 42)
        done(upstream, FOX)
        await expect(page.locator("#image")).to_have_attribute("src", PREVIEW)
        page = await open_page(visit, "owl")
        await expect(page.locator("#bar")).to_have_js_property("value", 10)
        error = {"code": "GENERATION_FAILED", "message": "It did not converge.", "suggestion": "Use a clearer image."}
        upstream.push_state(OWL, status="FAILED", error=error)
        await expect(page.locator("#status")).to_have_text("Use a clearer image.")


@needs_browser
async def test_many_tasks(tmp_path: Path) -> None:
    """The state of those that run comes first, then what the filter lets pass."""
    from playwright.async_api import expect

    there = "const list = { update: ({ id, status }) => say(id, status) };\n"
    script = f"{LINES}{there}{CLIENT}{MANY}say(typeof stop);\n"
    async with shop(tmp_path, {"many": script}) as (upstream, visit):
        page = await open_page(visit, "many")
        lines = page.locator("#list li")
        await expect(lines).to_have_count(3)
        assert sorted(await lines.all_text_contents()) == [f"{OWL} running", f"{FOX} running", "function"]
        upstream.push_state(FOX, progress=42)
        done(upstream, OWL)
        await expect(lines.nth(3)).to_have_text(f"{OWL} succeeded")


@needs_browser
async def test_without_the_client(tmp_path: Path) -> None:
    """A WebSocket and an EventSource, of which the first shows every message."""
    from playwright.async_api import expect

    token = 'const token = await (await fetch("/mainstem-token")).text();\n'
    show = "const show = ({ type, subject }) => type.startsWith('task.') && say(type, subject);\n"
    script = f"{LINES}{show}{token}{PLAIN}source.addEventListener('stream.synced', () => say('synced'));\n"
    async with shop(tmp_path, {"plain": script}) as (upstream, visit):
        page = await open_page(visit, "plain")
        lines = page.locator("#list li")
        await expect(lines).to_have_count(3)
        assert sorted(await lines.all_text_contents()) == [
            "synced", f"task.snapshot {OWL}", f"task.snapshot {FOX}",
        ]  # fmt: skip
        upstream.push_state(FOX, progress=42)
        await expect(lines.filter(has_text=f"task.progressed {FOX}")).to_have_count(2)
        done(upstream, FOX)
        await expect(lines.filter(has_text=f"task.succeeded {FOX}")).to_have_count(1)


@needs_browser
@needs_packages
async def test_react(tmp_path: Path) -> None:
    """The component of the page, around the client as a package."""
    from playwright.async_api import expect

    (created,) = re.findall(r"`(createClient\(\{ url: .*?\))`", (ROOT / PAGE).read_text())
    entry = tmp_path / "page.jsx"
    entry.write_text(
        f"""import {{ createRoot }} from "react-dom/client";
import {{ createClient }} from "@mainstem/client";
{REACT}
const getToken = async () => (await fetch("/mainstem-token")).text();
const client = {created};
createRoot(document.getElementById("root")).render(<p><Progress client={{client}} id="studio/{FOX}" /><Light client={{client}} /></p>);
"""
    )
    command = [
        str(PACKAGE / "node_modules" / ".bin" / "esbuild"), str(entry), "--bundle", "--format=esm", "--jsx=automatic",
        f"--alias:@mainstem/client={PACKAGE / 'src' / 'client.js'}",
        f"--alias:@mainstem/client/react={PACKAGE / 'src' / 'react.js'}",
        *(f"--alias:{name}={PACKAGE / 'node_modules' / name}" for name in ("react", "react-dom")),
    ]  # fmt: skip
    options = {"capture_output": True, "text": True, "timeout": 60, "check": False}
    bundle = await asyncio.to_thread(subprocess.run, command, **options)
    assert bundle.returncode == 0, bundle.stderr
    async with shop(tmp_path, {"react": bundle.stdout}) as (upstream, visit):
        page = await open_page(visit, "react")
        await expect(page.locator("#root i")).to_have_class("open")
        await expect(page.get_by_title("running")).to_have_js_property("value", 10)
        upstream.push_state(FOX, progress=42)
        await expect(page.get_by_title("running")).to_have_js_property("value", 42)
        done(upstream, FOX)
        await expect(page.get_by_title("succeeded")).to_have_js_property("value", 100)


def test_every_block_is_tried() -> None:
    """A new one has to be told here."""
    assert [block.language for block in blocks(PAGE)] == ["js", "python", "js", "js", "jsx", "js"]
