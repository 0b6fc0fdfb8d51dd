"""One attempt over real sockets, against receivers that mean well; `test_hostile` has the others."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from standardwebhooks import Webhook

import gateway
from gateway.clock import SystemClock
from gateway.telemetry import MASK
from gateway.webhooks.sender import EXCERPT, Sender
from tests.webhooks.fakes import SECRET, Receiver, config, raw_server

BODY = b'{"specversion":"1.0","id":"e1"}'


@asynccontextmanager
async def sending(url: str, **more: Any) -> AsyncIterator[Sender]:
    sender = Sender(config(url, **({"timeout": 5} | more)), SystemClock())
    try:
        yield sender
    finally:
        await sender.close()


async def test_request_as_promised() -> None:
    """The body is byte for byte the event, the headers are Standard Webhooks', and the reference library verifies them."""
    async with Receiver().serve() as receiver, sending(receiver.url, headers={"x-team": "blue"}) as sender:
        answer = await sender.send("e1", BODY)
    assert (answer.outcome, answer.status, answer.error) == ("delivered", 200, None)
    _, headers, body = receiver.received[0]
    assert body == BODY
    assert headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert headers["User-Agent"] == f"Mainstem/{gateway.__version__}"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["x-team"] == "blue"
    assert headers["webhook-id"] == "e1"
    assert Webhook(SECRET).verify(body.decode(), headers)["id"] == "e1"


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("", "/"), ("?a=1", "/?a=1"), *((same, same) for same in (
            "/", "/?", "/hook?", "/?sig=abc%2Fdef%2B%3D%3D&redirect=https%3A%2F%2Fx.y%2Fz", "/%41%7E%2d%2D", "/~user", "/a%2fb",
            "/a/../b/./c", "/a%2e%2e/b", "//a//b", "/a+b?c=+&d=%20&e=%2B", "/;p=1?x=;y&q=%26%3D%23", "/?a[]=1&b[0]=2",
            "/?a??b=/c:@d!$'()*,", "/%C3%A4%ff%00%0d%0a", "/x:y@z", "/?&&=&", "/a%25zz",
        )),
    ],
)  # fmt: skip
async def test_the_url_is_sent_as_it_is_written(written: str, sent: str) -> None:
    """Who signs URLs compares them to the byte: nothing is quoted, unquoted or left out on the way."""
    heads = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with raw_server(talk) as url:
        origin = url.rstrip("/")
        async with sending(origin.replace("http:", "HTTP:") + written) as sender:
            assert (await sender.send("e1", BODY)).status == 200
    first, host, *_ = heads[0].decode().split("\r\n")
    assert (first, host) == (f"POST {sent} HTTP/1.1", f"Host: {origin.removeprefix('http://')}")


async def test_large_body_goes_through() -> None:
    """A body of several MB arrives whole, with its length."""
    body = b'{"a":"' + b"x" * (3 << 20) + b'"}'
    async with Receiver().serve() as receiver, sending(receiver.url) as sender:
        assert (await sender.send("e1", body)).status == 200
    assert receiver.received[0][2] == body
    assert receiver.received[0][1]["Content-Length"] == str(len(body))


@pytest.mark.parametrize(
    ("status", "outcome"), [(204, "delivered"), (404, "http_4xx"), (503, "http_5xx"), (304, "http_3xx")]
)
async def test_statuses(status: int, outcome: str) -> None:
    """Only 2xx is a delivery; Retry-After is read from any answer."""
    receiver = Receiver(lambda *_: web.Response(status=status, headers={"Retry-After": "7"}))
    async with receiver.serve(), sending(receiver.url) as sender:
        answer = await sender.send("e1", BODY)
    assert (answer.outcome, answer.status, answer.retry_after) == (outcome, status, 7)
    assert (answer.error is None) == (outcome == "delivered")


async def test_response_excerpt_is_capped() -> None:
    """Of a long answer the beginning is kept; undecodable bytes do no harm."""
    receiver = Receiver(lambda *_: web.Response(status=500, body=b"\xff" + b"a" * 5000))
    async with receiver.serve(), sending(receiver.url) as sender:
        answer = await sender.send("e1", BODY)
    assert answer.response == "\ufffd" + "a" * (EXCERPT - 1)


async def test_what_a_receiver_echoes_shows_no_secret() -> None:
    """Debugging pages print the request that they got. Who may read deliveries need not know what the endpoint sends along;
    what is cut off at the end of the excerpt is no part of a secret either."""
    token, key = "Bearer abc/d+f=0123456789", "k3y-0123456789"

    def echo(request: web.Request, name: str) -> web.Response:
        page = {
            "all": json.dumps(dict(request.headers)),
            "token": f"no such token: {token.removeprefix('Bearer ')}; see /login?t={quote(token, safe='')}",
            "secret": f"expected {SECRET}, or {SECRET.removeprefix('whsec_')}",
            "cut": "x" * (EXCERPT - 10) + token + "y" * 100,
            "fits": "\u00e9" * (EXCERPT // 2) + token,
            "many": (token + " ") * 500,
        }[name]
        return web.Response(status=500, text=page)

    headers = {"Authorization": token, "X-Key": key, "X-Short": "abc", "X-Plain": "blue"}
    async with Receiver(echo).serve() as receiver, sending(receiver.url, headers=headers) as sender:
        said = {
            name: (await sender.send(name, BODY)).response or ""
            for name in ("all", "token", "secret", "cut", "fits", "many")
        }
    echoed = json.loads(said["all"])
    assert {name: echoed[name] for name in headers} == {
        "Authorization": MASK, "X-Key": MASK, "X-Short": "abc", "X-Plain": MASK,
    }  # fmt: skip
    assert echoed["webhook-id"] == "all"
    assert said["token"] == f"no such token: {MASK}; see /login?t={MASK}"
    assert said["secret"] == f"expected {MASK}, or {MASK}"
    assert said["cut"] == "x" * (EXCERPT - 10) + MASK
    assert said["fits"] == "\u00e9" * (EXCERPT // 2)
    assert set(said["many"].split()) == {MASK}


async def test_connection_refused() -> None:
    """Nobody listening has words of its own, and they do not contain the URL."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with sending(f"http://127.0.0.1:{closed.getsockname()[1]}/?token=s3cr3t") as sender:
            answer = await sender.send("e1", BODY)
    assert (answer.outcome, answer.error) == ("connection_refused", "connection refused")


async def test_cookies_are_not_kept() -> None:
    """A receiver cannot plant a cookie."""
    receiver = Receiver(lambda *_: web.Response(headers={"Set-Cookie": "a=b"}))
    async with receiver.serve(), sending(receiver.url) as sender:
        for name in ("e1", "e2"):
            await sender.send(name, BODY)
    assert all("Cookie" not in headers for _, headers, _ in receiver.received)


async def test_what_the_environment_says_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment cannot put a proxy between the guard and the receiver, nor credentials into a request."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    async with Receiver().serve() as receiver, sending(receiver.url) as sender:
        assert (await sender.send("e1", BODY)).status == 200
    assert "Authorization" not in receiver.received[0][1]
