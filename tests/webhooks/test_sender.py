"""One attempt over real sockets, against good and hostile receivers."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

import gateway
from gateway.clock import SystemClock
from gateway.webhooks.sender import EXCERPT, Sender
from tests.webhooks.fakes import SECRET, Receiver, config, raw_server, read_request

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


async def test_redirect_is_not_followed() -> None:
    """A redirect, to the metadata service at that, is an answer like any other."""
    receiver = Receiver(lambda *_: web.Response(status=307, headers={"Location": "http://169.254.169.254/latest/"}))
    async with receiver.serve(), sending(receiver.url) as sender:
        answer = await sender.send("e1", BODY)
    assert (answer.status, answer.error) == (307, "HTTP 307")
    assert len(receiver.received) == 1


async def test_response_excerpt_is_capped() -> None:
    """Of a long answer the beginning is kept; undecodable bytes do no harm."""
    receiver = Receiver(lambda *_: web.Response(status=500, body=b"\xff" + b"a" * 5000))
    async with receiver.serve(), sending(receiver.url) as sender:
        answer = await sender.send("e1", BODY)
    assert answer.response == "\ufffd" + "a" * (EXCERPT - 1)


async def test_endless_body_ends_the_attempt_at_the_cap() -> None:
    """A body without end is read to the cap; the status counts, the connection is not used again."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"a" * 1024 + b"\r\n")
            await writer.drain()

    async with raw_server(talk) as url, sending(url) as sender:
        answer = await sender.send("e1", BODY)
        assert (answer.outcome, answer.response) == ("delivered", "a" * EXCERPT)
        assert (await sender.send("e2", BODY)).outcome == "delivered"


async def test_gzip_bomb_stays_packed() -> None:
    """A compressed answer is never unpacked, nor shown."""
    bomb = gzip.compress(b"\0" * (8 << 20))
    receiver = Receiver(lambda *_: web.Response(status=500, body=bomb, headers={"Content-Encoding": "gzip"}))
    async with receiver.serve(), sending(receiver.url) as sender:
        answer = await sender.send("e1", BODY)
    assert (answer.status, answer.response) == (500, None)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX-A: "])
async def test_slow_headers_and_hang_run_into_the_deadline(head: bytes) -> None:
    """A receiver that dribbles headers for ever, or says nothing, costs the timeout and no more."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head)
        while True:
            if head:
                writer.write(b"a")
            await asyncio.sleep(0.01)

    async with raw_server(talk) as url, sending(url, timeout=0.2) as sender:
        answer = await sender.send("e1", BODY)
    assert (answer.outcome, answer.status) == ("timeout", None)
    assert answer.error == "no complete answer within 0.2 s"
    assert 0.15 < answer.duration < 3


async def test_slow_body_is_inside_the_deadline() -> None:
    """The deadline covers the body: what has come of it is kept, and the status counts."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\nabc")
        await asyncio.Event().wait()

    async with raw_server(talk) as url, sending(url, timeout=0.2) as sender:
        answer = await sender.send("e1", BODY)
    assert (answer.status, answer.response) == (500, "abc")
    assert answer.duration < 3


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_reset_before_an_answer_is_a_failure() -> None:
    """A fresh connection that is reset is not tried again in the same attempt."""
    calls = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(await read_request(reader))
        reset(writer)

    async with raw_server(talk) as url, sending(url) as sender:
        answer = await sender.send("e1", BODY)
    assert (answer.outcome, answer.status) == ("disconnected", None)
    assert len(calls) == 1


async def test_reset_amid_the_body_leaves_the_status() -> None:
    """The receiver has decided when its status is here."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 202 OK\r\nContent-Length: 1000\r\n\r\nabc")
        await writer.drain()
        await asyncio.sleep(0.02)
        reset(writer)

    async with raw_server(talk) as url, sending(url) as sender:
        answer = await sender.send("e1", BODY)
    assert (answer.outcome, answer.status) == ("delivered", 202)


async def test_stale_kept_connection_is_tried_once_more_at_once() -> None:
    """A kept connection that the receiver drops on the next request costs nothing: the request goes out again."""
    requests = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        requests.append(await read_request(reader))
        reset(writer)

    async with raw_server(talk) as url, sending(url) as sender:
        assert (await sender.send("e1", b"1")).outcome == "delivered"
        assert (await sender.send("e2", b"2")).outcome == "delivered"
    assert requests == [b"1", b"2", b"2"]


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a" * 20000 + b"\r\n\r\n"])
async def test_no_http(answer: bytes) -> None:
    """What cannot be read as HTTP is a failure, not an exception."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with raw_server(talk) as url, sending(url) as sender:
        got = await sender.send("e1", BODY)
    assert (got.outcome, got.status) == ("protocol", None)


async def test_connection_refused() -> None:
    """Nobody listening has words of its own, and they do not contain the URL."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with sending(f"http://127.0.0.1:{closed.getsockname()[1]}/?token=s3cr3t") as sender:
            answer = await sender.send("e1", BODY)
    assert (answer.outcome, answer.error) == ("connection_refused", "connection refused")


async def test_tls_error() -> None:
    """A plain server behind https:// is a TLS failure without any URL in its words."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad\r\n\r\n")
        await writer.drain()

    async with raw_server(talk) as url, sending(url.replace("http:", "https:") + "?token=s3cr3t") as sender:
        answer = await sender.send("e1", BODY)
    assert answer.outcome == "tls"
    assert "s3cr3t" not in str(answer.error)


class FixedResolver(aiohttp.abc.AbstractResolver):
    """A name service that answers with given addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> Any:
        return [
            {
                "hostname": host, "host": one, "port": port, "proto": 0, "flags": socket.AI_NUMERICHOST,
                "family": socket.AF_INET6 if ":" in one else socket.AF_INET,
            }
            for one in self.addresses
        ]  # fmt: skip

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "::1", "10.0.0.1"], ["::ffff:127.0.0.1"]])
async def test_name_that_resolves_inside_is_refused(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    """The address that would be dialled is checked, whatever the name service says; nothing is connected to."""
    async with Receiver().serve() as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        async with sending(f"https://outside.example:{port}/", allow_private=False) as sender:
            monkeypatch.setattr(sender._session.connector, "_resolver", FixedResolver(*addresses))
            answer = await sender.send("e1", BODY)
    assert answer.outcome == "address_refused"
    assert answer.error is not None
    assert answer.error.startswith("address refused: ")
    assert "needs allow_private" in answer.error
    assert receiver.received == []


async def test_plain_http_to_a_public_address_is_refused_when_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """`allow_private` lets plain HTTP go to private addresses only, whatever a name resolves to."""
    async with sending("http://receiver.example/", allow_private=True) as sender:
        monkeypatch.setattr(sender._session.connector, "_resolver", FixedResolver("8.8.8.8"))
        answer = await sender.send("e1", BODY)
    assert answer.outcome == "address_refused"
    assert "allow_http" in str(answer.error)


async def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not resolve is a failure of its own sort."""

    class Nothing(FixedResolver):
        async def resolve(self, host: str, port: int = 0, family: int = 0) -> Any:
            raise OSError(None, "no such name")

    async with sending("https://nowhere.example/?token=s3cr3t") as sender:
        monkeypatch.setattr(sender._session.connector, "_resolver", Nothing())
        answer = await sender.send("e1", BODY)
    assert (answer.outcome, answer.error) == ("dns", "the host name could not be resolved")


async def test_certificate_that_nobody_trusts() -> None:
    """The certificate is verified: a self-signed one is refused with OpenSSL's word for it."""
    answer = None
    async with sending("https://127.0.0.1:1/") as sender:
        error = ssl.SSLCertVerificationError()
        error.verify_message = "self-signed certificate"
        answer = sender._explain(error)
    assert answer == ("tls", "TLS: self-signed certificate")


async def test_cookies_are_not_kept() -> None:
    """A receiver cannot plant a cookie."""
    receiver = Receiver(lambda *_: web.Response(headers={"Set-Cookie": "a=b"}))
    async with receiver.serve(), sending(receiver.url) as sender:
        for name in ("e1", "e2"):
            await sender.send(name, BODY)
    assert all("Cookie" not in headers for _, headers, _ in receiver.received)


async def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment cannot put a proxy between the guard and the receiver."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1/")
    async with Receiver().serve() as receiver, sending(receiver.url) as sender:
        assert (await sender.send("e1", BODY)).status == 200
