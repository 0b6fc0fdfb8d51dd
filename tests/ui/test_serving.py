"""How the dashboard is served."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from gateway.http.app import create_app
from tests.http.fakes import World

BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
Serve = Callable[..., Awaitable[TestClient[Any, Any]]]


@pytest.fixture
def serve(aiohttp_client: Any) -> Serve:
    async def serve(ui: bool = True) -> TestClient[Any, Any]:
        client: TestClient[Any, Any] = await aiohttp_client(TestServer(create_app(replace(World().parts, ui=ui))))
        return client

    return serve


async def test_the_page_needs_no_token_and_may_do_little(serve: Serve) -> None:
    client = await serve()
    answer = await client.get("/ui/")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-cache"
    again = await client.get("/ui/", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304


@pytest.mark.parametrize(
    ("path", "kind", "cache"),
    [
        ("app.js", "text/javascript; charset=utf-8", "no-cache"),
        ("app.css", "text/css; charset=utf-8", "no-cache"),
        ("icon.svg", "image/svg+xml; charset=utf-8", "no-cache"),
        ("vendor/preact-11.2.0.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
        ("vendor/uplot-1.6.32.css", "text/css; charset=utf-8", "public, max-age=31536000, immutable"),
        ("vendor/manifest.json", "application/json", "no-cache"),
    ],
)
async def test_files(serve: Serve, path: str, kind: str, cache: str) -> None:
    """What has its version in its name never changes and is never asked about again."""
    answer = await (await serve()).get(f"/ui/{path}")
    assert (answer.status, answer.headers["Content-Type"], answer.headers["Cache-Control"]) == (200, kind, cache)


@pytest.mark.parametrize("path", ["/ui/%2e%2e/%2e%2e/gateway/app.py", "/ui/vendor/", "/ui/none.js"])
async def test_nothing_else_is_there(serve: Serve, path: str) -> None:
    assert (await (await serve()).get(URL(path, encoded=True))).status == 404


async def test_browsers_are_led_there(serve: Serve) -> None:
    """By relative addresses, because a proxy may have put the gateway below a path; programs are not."""
    client = await serve()
    root = await client.get("/", headers=BROWSER, allow_redirects=False)
    assert (root.status, root.headers["Location"]) == (307, "ui/")
    bare = await client.get("/ui", allow_redirects=False)
    assert (bare.status, bare.headers["Location"]) == (308, "ui/")
    assert (await client.get("/")).status == 404


async def test_it_can_be_switched_off(serve: Serve) -> None:
    """Then nothing of it is there; the client still is."""
    client = await serve(ui=False)
    statuses = {path: (await client.get(path, headers=BROWSER)).status for path in ("/", "/ui", "/ui/", "/client.js")}
    assert statuses == {"/": 404, "/ui": 404, "/ui/": 404, "/client.js": 200}
