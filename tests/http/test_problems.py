"""Every error is a problem details object, and tells no secret."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import structlog
from aiohttp import ClientError, ClientPayloadError, web
from aiohttp.test_utils import TestClient

from gateway.errors import Refused, StoreError
from gateway.http.route import OPEN, Route
from tests.http.checks import bearer, problem_of
from tests.http.fakes import World

Serve = Callable[[World], Awaitable[TestClient]]
READER = bearer("reader")


def raising(error: Exception) -> World:
    """A world with a route that raises."""

    async def handle(request: web.Request) -> web.Response:
        raise error

    return World(routes=[Route("GET", "/raise", handle, OPEN)])


@pytest.mark.parametrize("path", ["/", "/v2/tasks", "/v1/tasks/studio", "/v1/tasks/a/b/c", "/schemas/x", "/v1//tasks"])
async def test_an_unknown_path(client: TestClient, path: str) -> None:
    """404, whoever asks."""
    async with client.get(path) as response:
        await problem_of(response, 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v1/tasks", "GET, HEAD, OPTIONS"),
        ("PUT", "/v1/watches", "GET, HEAD, OPTIONS, POST"),
        ("GET", "/v1/watches/studio/t1", "DELETE, OPTIONS"),
        ("HEAD", "/v1/stream", "GET, OPTIONS"),
        ("PROPFIND", "/healthz", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_wrong_method(client: TestClient, method: str, path: str, allow: str) -> None:
    """405 with `Allow`."""
    async with client.request(method, path, headers=READER) as response:
        assert (response.status, response.headers["Allow"]) == (405, allow)
        if method != "HEAD":
            await problem_of(response, 405, "method_not_allowed")


@pytest.mark.parametrize(
    ("error", "status", "code", "detail"),
    [
        (Refused(409, "in_use", "It is in use."), 409, "in_use", "It is in use."),
        (web.HTTPBadRequest(text="No."), 400, "bad_request", "No."),
        (web.HTTPConflict(), 409, "bad_request", "409: Conflict"),
        (web.HTTPNotImplemented(), 501, "internal_error", "501: Not Implemented"),
        (web.HTTPServiceUnavailable(), 503, "unavailable", "503: Service Unavailable"),
        (Refused(400, "odd", "lone \udcff surrogate"), 400, "odd", "lone ? surrogate"),
    ],
)
async def test_refusals_keep_what_they_say(serve: Serve, error: Exception, status: int, code: str, detail: str) -> None:
    """Exceptions of ours and of aiohttp become the same kind of answer."""
    client = await serve(raising(error))
    async with client.get("/raise?token=x") as response:
        body = await problem_of(response, status, code)
    assert body["detail"] == detail
    assert "token" not in body["instance"]


async def test_headers_of_an_exception_are_kept(serve: Serve) -> None:
    """Such as when to come back."""
    client = await serve(raising(web.HTTPTooManyRequests(headers={"Retry-After": "7"})))
    async with client.get("/raise") as response:
        await problem_of(response, 429, "too_many_requests")
        assert response.headers["Retry-After"] == "7"


@pytest.mark.parametrize(
    ("status", "header", "value"),
    [
        (401, "WWW-Authenticate", 'Bearer realm="mainstem"'),
        (426, "Upgrade", "websocket"),
        (429, "Retry-After", "5"),
        (503, "Retry-After", "5"),
    ],
)
async def test_a_refusal_has_the_headers_of_its_status(serve: Serve, status: int, header: str, value: str) -> None:
    """Whoever refuses need not know them."""
    client = await serve(raising(Refused(status, "refused", "No.")))
    async with client.get("/raise") as response:
        await problem_of(response, status, "refused")
        assert response.headers[header] == value


async def test_a_connection_that_fails_behind_is_a_failure(serve: Serve) -> None:
    """Only the client's own connection may end a request without an answer."""
    client = await serve(raising(ConnectionResetError("key server")))
    with structlog.testing.capture_logs() as logs:
        async with client.get("/raise") as response:
            await problem_of(response, 500, "internal_error")
    assert len(logs) == 1


@pytest.mark.parametrize(
    "headers", [{"Content-Encoding": "gzip"}, {"Content-Encoding": "deflate"}, {"Transfer-Encoding": "chunked"}]
)
async def test_a_body_that_is_not_what_it_says(client: TestClient, headers: dict[str, str]) -> None:
    """400: the client's fault, and nothing to log."""
    lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
    length = b"" if "Transfer-Encoding" in headers else b"Content-Length: 12\r\n"
    head = b"POST /v1/watches HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer watcher\r\nConnection: close\r\n"
    with structlog.testing.capture_logs() as logs:
        answer = await raw(client, head + lines + length + b"\r\nnot encoded!")
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), answer
    assert logs == []


async def test_what_is_an_answer_already_is_left_alone(serve: Serve) -> None:
    """A redirect, or a problem that a handler wrote itself."""
    client = await serve(raising(web.HTTPFound("/elsewhere")))
    async with client.get("/raise", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "/elsewhere")
    ready = web.HTTPBadRequest(text='{"code":"own"}', content_type="application/problem+json")
    client = await serve(raising(ready))
    async with client.get("/raise") as response:
        assert (response.status, (await response.json(content_type=None))["code"]) == (400, "own")


async def test_a_failure_shows_nothing_and_is_logged_once(serve: Serve) -> None:
    """500 without internals; one line for the operator, without the credentials of the request."""
    client = await serve(raising(RuntimeError("at /srv/private with hunter2+x and hunter2%2Bx and p4ssw0rd")))
    with structlog.testing.capture_logs() as logs:
        headers = bearer("p4ssw0rd")
        async with client.get("/raise", params={"token": "hunter2+x"}, headers=headers) as response:
            body = await problem_of(response, 500, "internal_error")
    assert "private" not in str(body)
    assert [(entry["event"], entry["error"], entry["route"]) for entry in logs] == [
        ("http_request_failed", "RuntimeError", "/raise")
    ]
    assert "/srv/private" in logs[0]["trace"]
    assert "hunter2" not in str(logs)
    assert "p4ssw0rd" not in str(logs)


async def test_a_store_that_fails_is_unavailable(client: TestClient, world: World) -> None:
    """503 with when to come back."""
    world.store.failure = StoreError("I/O error at /srv/private")
    with structlog.testing.capture_logs() as logs:
        async with client.get("/v1/tasks", headers=READER) as response:
            body = await problem_of(response, 503, "log_unavailable")
            assert response.headers["Retry-After"] == "5"
    assert "private" not in str(body)
    assert len(logs) == 1


async def test_an_answer_that_was_begun_is_cut_off(client: TestClient, world: World) -> None:
    """No second head is written into a stream; the client sees that it is not complete."""
    world.stream.failure = RuntimeError("hub fell")
    with structlog.testing.capture_logs() as logs:
        async with client.get("/v1/stream") as response:
            assert response.status == 200
            assert await response.content.readline() == b": hello\n"
            with pytest.raises((ClientPayloadError, ClientError)):
                await response.read()
    assert [entry["event"] for entry in logs] == ["http_request_failed"]


async def test_a_client_that_went_away_is_no_failure(client: TestClient, world: World) -> None:
    """Nothing is logged for it."""
    world.stream.failure = ConnectionResetError()
    with structlog.testing.capture_logs() as logs:
        async with client.get("/v1/stream") as response:
            with pytest.raises(ClientError):
                await response.read()
    assert logs == []


async def raw(client: TestClient, request: bytes) -> bytes:
    """What the server answers to these bytes, until it closes."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_bytes_that_are_no_text_are_refused(client: TestClient) -> None:
    """A URL that is not ASCII is a bad request (RFC 3986), not a failure."""
    answer = await raw(client, b"GET /v1/tasks/studio/\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.partition(b" ")[2].startswith(b"400 ")


async def test_an_unknown_expectation_is_ignored_and_a_known_one_met(client: TestClient, world: World) -> None:
    """`100-continue` asks for the body first; anything else a server may ignore."""
    body = b'{"source":"studio","task_id":"t1"}'
    head = b"POST /v1/watches HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer watcher\r\nConnection: close\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    answer = await raw(client, head + b"Expect: 100-continue\r\n" + length + body)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 ")
    answer = await raw(client, head + b"Expect: miracles\r\n" + length + body)
    assert answer.startswith(b"HTTP/1.1 200 ")
