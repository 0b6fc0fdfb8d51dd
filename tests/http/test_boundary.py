"""Hosts, origins, CORS, and headers that every answer has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from aiohttp.test_utils import TestClient

from gateway.http.boundary import Boundary
from tests.http.checks import bearer, problem_of
from tests.http.fakes import World

Serve = Callable[[World], Awaitable[TestClient]]
READER = bearer("reader")
APP = "https://app.example.com"


@pytest.mark.parametrize(
    ("origin", "host", "permitted"),
    [
        ("http://gateway.example:8080", "gateway.example:8080", True),
        ("http://Gateway.Example:8080", "gateway.example:8080", True),
        ("http://gateway.example", "gateway.example:80", True),
        ("https://gateway.example", "gateway.example", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://gateway.example:8081", "gateway.example:8080", False),
        ("https://gateway.example", "gateway.example:80", False),
        ("http://evil.example", "gateway.example", False),
        ("http://gateway.example.evil.example", "gateway.example", False),
        ("null", "gateway.example", False),
        ("file://", "", False),
        ("http://", "", False),
        ("", "", False),
        ("http://gateway.example:port", "gateway.example", False),
        ("http://[", "gateway.example", False),
    ],
)
def test_without_configuration_the_own_host_is_the_origin(origin: str, host: str, permitted: bool) -> None:
    """A page that came from here may call; the port of its scheme counts where none is given."""
    assert Boundary((), None).permits(origin, host) is permitted


@pytest.mark.parametrize(
    ("origin", "permitted"),
    [
        (APP, True),
        ("HTTPS://APP.EXAMPLE.COM", True),
        ("http://app.example.com", False),
        ("https://app.example.com:8443", False),
        ("https://app.example.com.evil.example", False),
        ("http://gateway.example", False),
        ("null", False),
    ],
)
def test_with_configuration_the_list_decides(origin: str, permitted: bool) -> None:
    """Exactly; the own host has to be listed then, too."""
    assert Boundary((APP + "/",), None).permits(origin, "gateway.example") is permitted


@pytest.mark.parametrize(
    "route",
    [("GET", "/v1/tasks"), ("GET", "/healthz"), ("GET", "/v1/stream"), ("OPTIONS", "/v1/tasks"), ("GET", "/nowhere")],
)
async def test_a_foreign_origin_is_refused_everywhere(client: TestClient, world: World, route: tuple[str, str]) -> None:
    """403 before anything else, and nothing that would let the page read the answer."""
    async with client.request(*route, headers=READER | {"Origin": "https://evil.example"}) as response:
        await problem_of(response, 403, "origin_refused")
        assert not [name for name in response.headers if name.startswith("Access-Control")]
    assert world.stream.requests == []


@pytest.mark.parametrize(
    ("allowed", "origin", "detail"),
    [
        ([APP], "http://gateway:8080", "Pages of the Origin 'http://gateway:8080' may not call the gateway: "
         "server.allowed_origins does not include it."),
        ([], "https://evil.example", "Pages of the Origin 'https://evil.example' may not call the gateway: "
         "without server.allowed_origins only those of the host that the request was sent to may."),
        ([APP], "x" * 5000, f"Pages of the Origin {'x' * 256!r} may not call the gateway: "
         "server.allowed_origins does not include it."),
    ],
)  # fmt: skip
async def test_a_refusal_names_the_origin_and_the_setting(
    serve: Serve, allowed: list[str], origin: str, detail: str
) -> None:
    """Whoever forgot the gateway's own origin, for its dashboard, reads what to add and where."""
    client = await serve(World(allowed_origins=allowed))
    async with client.get("/v1/tasks", headers=READER | {"Origin": origin}) as response:
        assert (await problem_of(response, 403, "origin_refused"))["detail"] == detail


async def test_an_allowed_origin_may_read_the_answer(serve: Serve) -> None:
    """Errors as well, or a frontend could not tell why it was refused; without an origin there is no CORS."""
    client = await serve(World(allowed_origins=[APP]))
    for path, headers, status in (("/v1/tasks", READER, 200), ("/v1/tasks", {}, 401), ("/v1/stream", READER, 200)):
        async with client.get(path, headers=headers | {"Origin": APP}) as response:
            assert response.status == status
            assert response.headers["Access-Control-Allow-Origin"] == APP
            assert "WWW-Authenticate" in response.headers["Access-Control-Expose-Headers"]
            assert "Origin" in response.headers["Vary"]
    async with client.get("/v1/tasks", headers=READER) as response:
        assert response.status == 200
        assert "Access-Control-Allow-Origin" not in response.headers
        assert "Origin" in response.headers["Vary"]


async def test_preflight(serve: Serve) -> None:
    """A browser asks without a token, and is told the methods of the resource and the headers it may send."""
    client = await serve(World(allowed_origins=[APP]))
    headers = {
        "Origin": APP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with client.options("/v1/watches", headers=headers) as response:
        assert (response.status, await response.read()) == (204, b"")
        assert response.headers["Access-Control-Allow-Origin"] == APP
        assert response.headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS, POST"
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        assert response.headers["Access-Control-Max-Age"] == "600"


async def test_options(client: TestClient) -> None:
    """Says what may be done, of resources that there are."""
    async with client.options("/v1/watches/studio/t1") as response:
        assert (response.status, response.headers["Allow"]) == (204, "DELETE, OPTIONS")
        assert "Access-Control-Allow-Methods" not in response.headers
    async with client.options("/nowhere") as response:
        await problem_of(response, 404, "not_found")


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/events", "/readyz", "/metrics", "/schemas/", "/v1/tasks/a/b"])
async def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    """The same status and the same headers, `Content-Length` included where what is answered does not change by itself."""
    changing = {"Date": "", "Content-Length": ""} if path == "/metrics" else {"Date": ""}
    async with client.get(path, headers=READER) as response:
        assert int(response.headers["Content-Length"]) > 0
        expected = (response.status, {**response.headers, **changing})
    async with client.head(path, headers=READER) as response:
        assert int(response.headers["Content-Length"]) > 0
        assert (response.status, {**response.headers, **changing}) == expected
        assert await response.read() == b""


@pytest.mark.parametrize("path", ["/v1/tasks", "/healthz", "/nowhere", "/v1/stream"])
async def test_security_headers(client: TestClient, path: str) -> None:
    """On every answer, be it an error or a stream; the server's make is nobody's business."""
    async with client.get(path) as response:
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Server"] == "mainstem"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1", 200),
        ("[::1]:1", 200),
        ("evil.example", 421),
        ("[", 421),
    ],
)
async def test_only_under_its_own_names(serve: Serve, host: str, status: int) -> None:
    """A page whose own name resolves to a loopback address does not get through, although it sends no Origin."""
    client = await serve(World(hosts=frozenset({"localhost", "127.0.0.1", "::1"})))
    async with client.get("/healthz", headers={"Host": host}) as response:
        assert response.status == status
