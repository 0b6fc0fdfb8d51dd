"""Static files: the JavaScript client and pages, open to all, cached by tag, under any base path."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.http.app import create_app
from gateway.http.assets import POLICY, Assets
from tests.http.fakes import World

PLAIN = {"Accept-Encoding": "identity"}


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[TestClient]:
    """An application of these files alone."""
    for name, text in {
        "tool.js": "// Größe\n" * 99,
        "app/index.html": "<p>page",
        "app/deep/logo.png": "\x89PNG",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    app = web.Application()
    for route in Assets(tmp_path).routes():
        app.router.add_route(route.method, route.path, route.handler)
    async with TestClient(TestServer(app), auto_decompress=False) as client:
        yield client


async def test_the_client_is_served_without_a_token() -> None:
    """`/client.js` is JavaScript of the package, which browsers take from nobody else and ask about again."""
    async with TestClient(TestServer(create_app(World().parts))) as client:
        answer = await client.get("/client.js")
        body = await answer.text()
        head = await client.head("/client.js", headers=PLAIN)
        again = await client.get("/client.js", headers={"If-None-Match": answer.headers["ETag"]})
    assert answer.status == 200
    assert "createClient" in body
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert (head.status, int(head.headers["Content-Length"])) == (200, len(body.encode()))
    assert (again.status, await again.read()) == (304, b"")
    assert again.headers["ETag"] == answer.headers["ETag"]


async def test_a_page_of_an_allowed_origin_may_load_it() -> None:
    """As a module, which browsers fetch with CORS."""
    world = World(allowed_origins=["https://app.example.com"])
    async with TestClient(TestServer(create_app(world.parts))) as client:
        theirs = await client.get("/client.js", headers={"Origin": "https://app.example.com"})
        others = await client.get("/client.js", headers={"Origin": "https://evil.example.com"})
    assert theirs.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert others.status == 403


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip, deflate, br", True), ("GZIP;q=0.5", True), ("*", True), ("gzip;q=1.0", True), ("", False), ("identity", False),
        ("gzip;q=0", False), ("gzip; q=0.000", False), ("br", False),
    ],
)  # fmt: skip
async def test_compression(files: TestClient, tmp_path: Path, accepted: str, packed: bool) -> None:
    """Made in advance, for who can take it, under a tag of its own."""
    answer = await files.get("/tool.js", headers={"Accept-Encoding": accepted})
    body = await answer.read()
    assert answer.headers.get("Content-Encoding") == ("gzip" if packed else None)
    assert (gzip.decompress(body) if packed else body) == (tmp_path / "tool.js").read_bytes()
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.headers["ETag"].endswith('-gzip"') is packed


@pytest.mark.parametrize(
    ("tags", "status"), [("{tag}", 304), ('"x", {tag}', 304), ("*", 304), ("W/{tag}", 304), ('"x"', 200)]
)
async def test_tags(files: TestClient, tags: str, status: int) -> None:
    """RFC 9110, section 13.1.2: compared weakly."""
    tag = (await files.get("/tool.js", headers=PLAIN)).headers["ETag"]
    answer = await files.get("/tool.js", headers={**PLAIN, "If-None-Match": tags.format(tag=tag)})
    assert answer.status == status


async def test_a_directory_is_its_page(files: TestClient) -> None:
    """The way there is relative: a proxy may have put the gateway anywhere."""
    page = await files.get("/app/", headers=PLAIN)
    assert (page.headers["Content-Type"], await page.text()) == ("text/html; charset=utf-8", "<p>page")
    bare = await files.get("/app", allow_redirects=False)
    assert (bare.status, bare.headers["Location"]) == (308, "app/")
    assert (await files.get("/app/deep/logo.png")).headers["Content-Type"] == "image/png"


@pytest.mark.parametrize(
    "path", ["/app/deep/", "/../assets.py", "/app/%2e%2e/%2e%2e/x", "/app//index.html", "/tool.js/"]
)
async def test_nothing_else_is_there(files: TestClient, path: str) -> None:
    """Only what was read at the start."""
    assert (await files.get(path)).status == 404
