"""Receivers that are broken or mean, over real sockets: what comes of an attempt, how long it lasts, what it may cost.

The rule behind the expectations: once a status line has come the receiver has decided, whatever follows; before that, only
the deadline and what is wrong on the connection count.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import ipaddress
import socket
import ssl
import struct
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from gateway.clock import SystemClock
from gateway.webhooks import guard
from gateway.webhooks.schedule import MAX_RETRY_AFTER
from gateway.webhooks.sender import EXCERPT, LONGEST, Answer, Sender
from tests.webhooks.fakes import (
    DEADLINE,
    MemoryStore,
    Receiver,
    config,
    dispatching,
    event,
    raw_server,
    read_request,
    until,
)

BODY = b'{"specversion":"1.0","id":"e1"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#: More than the kernel keeps for one connection, in both directions.
MUCH = 32 << 20
#: What an attempt may take longer than its timeout on a busy machine, in seconds.
GRACE = 3.0

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def sending(url: str, **more: Any) -> AsyncIterator[Sender]:
    sender = Sender(config(url, **({"timeout": 5} | more)), SystemClock())
    try:
        yield sender
    finally:
        await sender.close()


async def attempt(talk: Talk, timeout: float = 5, body: bytes = BODY) -> Answer:
    """What comes of one attempt at a receiver."""
    async with raw_server(talk) as url, sending(url, timeout=timeout) as sender:
        answer = await sender.send("e1", body)
    assert answer.duration < timeout + GRACE
    return answer


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def saying(*parts: bytes) -> Talk:
    """Reads the request, says the parts one by one, and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)

    return talk


async def for_ever() -> None:
    await asyncio.Event().wait()


# --- answers that come, in every shape --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "outcome", "status"),
    [
        # interim answers
        ([b"HTTP/1.1 100 Continue\r\n\r\n", OK], "delivered", 200),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + OK], "delivered", 200),
        ([b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 50, OK], "delivered", 200),
        ([b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100_000, OK], "disconnected", None),
        ([b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"], "http_1xx", 101),
        # lengths and chunks
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"abc"], "delivered", 200),
        ([b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n", b"abc"], "http_5xx", 500),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", b"abc"], "delivered", 200),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"], "protocol", None),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n"], "protocol", None),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"], "protocol", None),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n"], "protocol", None),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\nabc\r\n"], "delivered", 200),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"f" * 64 + b"\r\n"], "delivered", 200),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nab"], "delivered", 200),
        ([b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"-1\r\n"], "http_5xx", 503),
        # bodies where there is none
        ([b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"], "delivered", 204),
        ([b"HTTP/1.1 204 No Content\r\n\r\n", b"hello"], "delivered", 204),
        ([b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"hello"], "http_3xx", 304),
        # other versions of HTTP, and none
        ([b"HTTP/1.0 200 OK\r\n\r\nuntil the end"], "delivered", 200),
        ([b"HTTP/1.0 503 No\r\nContent-Length: 2\r\n\r\nno"], "http_5xx", 503),
        ([b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00\x03\x00\x00\x00\x80" * 3], "protocol", None),  # HTTP/2 SETTINGS
        ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], "protocol", None),
        ([b"<html>an answer of 1991</html>\r\n"], "protocol", None),
        ([b"SSH-2.0-x\r\n\r\n"], "protocol", None),
        ([b"HTTP/1.1 20 OK\r\n\r\n"], "protocol", None),
        ([b"HTTP/1.1 2000 OK\r\n\r\n"], "protocol", None),
        ([b"HTTP/1.1 twohundred OK\r\n\r\n"], "protocol", None),
        # headers
        ([b"HTTP/1.1 200 OK\r\n" + b"a" * 20_000 + b"\r\n\r\n"], "protocol", None),
        ([b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 20_000 + b"\r\n\r\n"], "protocol", None),
        ([b"HTTP/1.1 200 OK\r\n" + b"X-A: 1\r\n" * 10_000 + b"\r\n"], "protocol", None),
        ([b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\n\r\n"], "protocol", None),
        ([b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"], "protocol", None),
        # no answer
        ([], "disconnected", None),
        ([b"HTTP/1.1 200 O"], "disconnected", None),
    ],
)  # fmt: skip
async def test_answers(parts: list[bytes], outcome: str, status: int | None) -> None:
    """Whatever comes has a word, and never an exception."""
    answer = await attempt(saying(*parts))
    assert (answer.outcome, answer.status) == (outcome, status)
    assert (answer.error is None) == (outcome == "delivered")


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """A redirect, to the metadata service at that, is an answer like any other."""
    receiver = Receiver(lambda *_: web.Response(status=status, headers={"Location": "http://169.254.169.254/latest/"}))
    async with receiver.serve(), sending(receiver.url) as sender:
        answer = await sender.send("e1", BODY)
    assert (answer.outcome, answer.error) == ("http_3xx", f"HTTP {status}")
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7), ("0", 0, 0), ("9" * 400, MAX_RETRY_AFTER, MAX_RETRY_AFTER), ("-5", None, None), ("1e9", None, None),
        ("120.5", 121, 121), ("7\r\nRetry-After: 600\r\nRetry-After: 5", 600, 600),
        ("soon", None, None), ("\u0663", None, None), ("", None, None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER, MAX_RETRY_AFTER), ("Fri, 99 Foo 2015 07:28:00 GMT", None, None),
    ],
)  # fmt: skip
async def test_retry_after(value: str, low: float | None, high: float | None) -> None:
    """Seconds and dates are understood, what is neither is nothing, and nothing asks for more than a day."""
    head = f"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\nRetry-After: {value}\r\n\r\n"
    answer = await attempt(saying(head.encode()))
    assert (answer.outcome, answer.status) == ("http_4xx", 429)
    if low is None or high is None:
        assert answer.retry_after is None
    else:
        assert answer.retry_after is not None
        assert low <= answer.retry_after <= high


async def test_retry_after_a_date() -> None:
    """A date is as far away as it is now."""
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=600)
    head = f"HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: {format_datetime(moment, usegmt=True)}\r\n\r\n"
    answer = await attempt(saying(head.encode()))
    assert answer.retry_after is not None
    assert 500 < answer.retry_after <= 600


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_endless_body_is_cut_off(head: bytes) -> None:
    """A body without end is read to a bound and no further; the status counts, the connection is not used again."""
    said, connections, cut = 0, 0, asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal said, connections
        connections += 1
        await read_request(reader)
        writer.write(head)
        block = b"1000\r\n" + b"a" * 4096 + b"\r\n" if b"chunked" in head else b"a" * 4096
        try:
            while said < MUCH:
                writer.write(block)
                await writer.drain()
                said += len(block)
        finally:
            cut.set()

    async with raw_server(talk) as url, sending(url) as sender:
        answer = await sender.send("e1", BODY)
        assert (answer.outcome, answer.response) == ("delivered", "a" * EXCERPT)
        async with asyncio.timeout(DEADLINE):
            await cut.wait()
        assert said < MUCH
        assert (await sender.send("e2", BODY)).outcome == "delivered"
    assert connections == 2


@pytest.mark.parametrize(("size", "connections"), [(EXCERPT, 1), (LONGEST - 1000, 1), (LONGEST + 100_000, 2)])
async def test_longish_body_does_not_cost_the_connection(size: int, connections: int) -> None:
    """A page of some kilobytes as an answer is read to its end, so that the connection can be used again."""
    peers = set()

    def answer(request: web.Request, _: str) -> web.Response:
        peers.add(request.transport)
        return web.Response(body=b"a" * size)

    async with Receiver(answer).serve() as receiver, sending(receiver.url) as sender:
        for name in ("e1", "e2"):
            assert (await sender.send(name, BODY)).response == "a" * EXCERPT
    assert len(peers) == connections


def deflated(size: int) -> bytes:
    return zlib.compress(b"\0" * size)


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"\0" * (8 << 20), mtime=0)), ("deflate", deflated(8 << 20)), ("GZip", gzip.compress(b"x", mtime=0)),
        ("br", b"\xdb\xff\xff\x7f\xf8\x25\x00\x02\xb0\x06"), ("zstd", b"\x28\xb5\x2f\xfd\xa4"), ("gzip, gzip", b"\0" * 10),
        ("gzip", b"not gzip"), ("what", b"x"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 500])
async def test_bombs_stay_packed(encoding: str, packed: bytes, status: int) -> None:
    """A compressed answer is never unpacked, nor shown, and whether it could be makes no difference."""
    head = f"HTTP/1.1 {status} X\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(packed)}\r\n\r\n"
    answer = await attempt(saying(head.encode(), packed))
    assert (answer.status, answer.response) == (status, None)


async def test_slow_body_is_inside_the_deadline() -> None:
    """The deadline covers the body: what has come of it is kept, and the status counts."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\nabc")
        await for_ever()

    answer = await attempt(talk, timeout=0.2)
    assert (answer.outcome, answer.status, answer.response) == ("http_5xx", 500, "abc")


# --- receivers that take their time -----------------------------------------------------------------------------------


async def _dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nX-A: ")
    while True:
        writer.write(b"a")
        await asyncio.sleep(0.01)


async def _mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await for_ever()


async def _deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads, too
    await for_ever()


async def _not_yet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("talk", [_dribble, _mute, _deaf, _not_yet])
async def test_the_deadline_holds(talk: Talk) -> None:
    """Headers that come a byte at a time, silence, a request that is not read, interim answers for ever: the timeout."""
    answer = await attempt(talk, timeout=0.2, body=b'{"a":"' + b"x" * MUCH + b'"}' if talk is _deaf else BODY)
    assert (answer.outcome, answer.status) == ("timeout", None)
    assert answer.error == "no complete answer within 0.2 s"
    assert answer.duration > 0.15


async def test_nobody_accepts() -> None:
    """A connection that is never made is bounded by the same deadline."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # until the queue of the listener is full, connecting works without anybody accepting
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(full.getsockname())
        async with sending(f"http://127.0.0.1:{full.getsockname()[1]}/", timeout=0.3) as sender:
            answer = await sender.send("e1", BODY)
    assert (answer.outcome, answer.status) == ("timeout", None)
    assert answer.duration < 0.3 + GRACE


async def test_being_cancelled_is_not_a_timeout() -> None:
    """Who cancels an attempt gets the cancellation, and the deadline of one attempt touches no other."""
    async with raw_server(_mute) as url, sending(url, timeout=0.3) as sender:
        first = asyncio.create_task(sender.send("e1", BODY))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(sender.send("e2", BODY))
        third = asyncio.create_task(sender.send("e3", BODY))
        await asyncio.sleep(0.05)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        answers = await asyncio.gather(first, third)
    assert [answer.outcome for answer in answers] == ["timeout"] * 2
    assert all(0.25 < answer.duration < 0.3 + GRACE for answer in answers)


# --- connections ------------------------------------------------------------------------------------------------------


async def test_reset_before_an_answer_is_a_failure() -> None:
    """A fresh connection that is reset is not tried again in the same attempt."""
    calls = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(await read_request(reader))
        reset(writer)

    answer = await attempt(talk)
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

    answer = await attempt(talk)
    assert (answer.outcome, answer.status) == ("delivered", 202)


async def test_half_closed_connections() -> None:
    """A receiver that says it will send nothing more has not answered; one that does so after its answer has."""

    async def before(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await for_ever()

    async def after(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        writer.write_eof()
        await for_ever()

    assert (await attempt(before)).outcome == "disconnected"
    assert (await attempt(after)).outcome == "delivered"


async def test_answer_before_the_request_is_read() -> None:
    """A receiver may refuse a large body without reading it; its status counts although the body cannot be sent."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await for_ever()

    answer = await attempt(talk, body=b'{"a":"' + b"x" * MUCH + b'"}')
    assert (answer.outcome, answer.status) == ("http_4xx", 413)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_stale_kept_connections_are_no_failure(how: str) -> None:
    """A receiver drops all its kept connections, as one that restarts: each request goes out again, once, on a new one.

    Some once went out again on another kept one, which was as dead, and that counted as a failed attempt.
    """
    requests, connections, met = [], 0, asyncio.Barrier(8)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        requests.append(await read_request(reader))
        if connections <= 8:
            await met.wait()
            writer.write(OK)
            requests.append(await read_request(reader))
            if how == "reset":
                reset(writer)
        else:
            writer.write(OK)

    async with raw_server(talk) as url, sending(url, concurrency=8) as sender:
        for wave in "abbb":
            answers = await asyncio.gather(*[sender.send(f"e{n}", wave.encode()) for n in range(8)])
            assert {answer.outcome for answer in answers} == {"delivered"}
    assert Counter(requests) == {b"a": 8, b"b": 8 + 24}


async def test_a_new_connection_that_fails_is_a_failure() -> None:
    """Only a kept connection may have been given up meanwhile."""
    requests = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))

    async with raw_server(talk) as url, sending(url) as sender:
        assert (await sender.send("e1", b"1")).outcome == "disconnected"
    assert requests == [b"1"]


@pytest.mark.parametrize(
    "piece",
    [b"1\r\na\r\n", b"1;" + b"x" * 2000 + b"\r\na\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"],
    ids=["chunks of a byte", "chunk extensions", "interim answers"],
)
async def test_framing_without_end_is_not_read(piece: bytes) -> None:
    """What surrounds a few bytes of body costs the processor: it counts as what it is on the wire, and there is an end to it.

    A receiver that went on with it for its whole timeout once made every other endpoint wait.
    """
    sent, cut = 0, asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        if not piece.startswith(b"HTTP"):
            writer.write(b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while sent < MUCH:
                writer.write(piece * 100)
                sent += len(piece) * 100
                await writer.drain()
        except ConnectionError:
            cut.set()

    async with raw_server(talk) as url, sending(url, timeout=30) as sender:
        answer = await sender.send("e1", BODY)
        async with asyncio.timeout(DEADLINE):
            await cut.wait()
    assert answer.outcome == ("disconnected" if piece.startswith(b"HTTP") else "http_5xx")
    assert sent < MUCH


@pytest.mark.parametrize(
    "extra",
    [
        b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 408 Request Timeout\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 3,
        b"what",
    ],
)
@pytest.mark.parametrize("late", [False, True])
async def test_what_nobody_asked_for_answers_nothing(extra: bytes, late: bool) -> None:
    """A second answer behind the first (response splitting, or a proxy's goodbye on an idle connection) is not taken for the
    answer to the next delivery: the connection is given up."""
    said = asyncio.Event()
    requests = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            requests.append(await read_request(reader))
            if len(requests) == 1:
                writer.write(OK if late else OK + extra)
                if late:
                    await asyncio.sleep(0.05)
                    writer.write(extra)
                await writer.drain()
                said.set()
            else:
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

    async with raw_server(talk) as url, sending(url) as sender:
        assert (await sender.send("e1", b"1")).status == 200
        await said.wait()
        await asyncio.sleep(0.05)  # until it has been received
        assert (await sender.send("e2", b"2")).status == 202
    assert requests == [b"1", b"2"]


async def test_flood_on_an_idle_connection_ends_it() -> None:
    """A kept connection on which answers pour in is closed; they are not collected until the next request."""
    said, cut = 0, asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal said
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.05)
        try:
            while said < MUCH:
                writer.write(OK * 1000)
                await writer.drain()
                said += len(OK) * 1000
                await asyncio.sleep(0)
        finally:
            cut.set()

    async with raw_server(talk) as url, sending(url) as sender:
        assert (await sender.send("e1", BODY)).outcome == "delivered"
        async with asyncio.timeout(DEADLINE):
            await cut.wait()
    assert said < MUCH


# --- TLS --------------------------------------------------------------------------------------------------------------


class Authority:
    """Issues certificates, for a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
        self._root = self._issue(self._name, self._key, None, (-1, 1))

    def _issue(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, names: x509.SubjectAlternativeName | None,
        days: tuple[float, float], *, by: ec.EllipticCurvePrivateKey | None = None,
    ) -> x509.Certificate:  # fmt: skip
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject).issuer_name(subject if by is key else self._name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days[0])).not_valid_after(now + datetime.timedelta(days[1]))
            .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
        )  # fmt: skip
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(by or self._key, hashes.SHA256())

    def server(self, address: str, *, days: tuple[float, float] = (-1, 1), alone: bool = False) -> ssl.SSLContext:
        """A server's context with a certificate for an address; `alone`: signed by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
        certificate = self._issue(subject, key, names, days, by=key if alone else None)
        file = self._directory / "server.pem"
        plain = serialization.NoEncryption()
        file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def trusted(self) -> ssl.SSLContext:
        """A client's context that trusts this authority alone."""
        return ssl.create_default_context(cadata=self._root.public_bytes(serialization.Encoding.PEM).decode())


@asynccontextmanager
async def tls_server(context: ssl.SSLContext) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answers 200 over TLS; its URL and the bodies it got."""
    bodies: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (
            contextlib.closing(writer),
            contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError),
        ):
            while True:
                bodies.append(await read_request(reader))
                writer.write(OK)

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/?token=s3cr3t", bodies
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("made", "outcome", "words"),
    [
        ({"address": "127.0.0.1"}, "delivered", None),
        ({"address": "127.0.0.1", "days": (-9, -1)}, "tls", "TLS: certificate has expired"),
        ({"address": "127.0.0.1", "days": (1, 9)}, "tls", "TLS: certificate is not yet valid"),
        ({"address": "127.0.0.1", "alone": True}, "tls", "TLS: self-signed certificate"),
        ({"address": "127.0.0.2"}, "tls", "TLS: IP address mismatch, certificate is not valid for '127.0.0.1'."),
    ],
)
async def test_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: dict[str, Any], outcome: str, words: str | None
) -> None:
    """Only a certificate that is good, trusted and for this host gets the event; what is wrong with another is told."""
    authority = Authority(tmp_path)
    async with tls_server(authority.server(**made)) as (url, bodies), sending(url) as sender:
        monkeypatch.setattr(sender._session.connector, "_ssl", authority.trusted())
        answer = await sender.send("e1", BODY)
    assert (answer.outcome, answer.error) == (outcome, words)
    assert bodies == ([BODY] if outcome == "delivered" else [])


async def test_authority_that_this_machine_does_not_know(tmp_path: Path) -> None:
    """Without any patch: what the system does not trust is refused."""
    async with tls_server(Authority(tmp_path).server("127.0.0.1")) as (url, bodies), sending(url) as sender:
        answer = await sender.send("e1", BODY)
    assert (answer.outcome, answer.error, bodies) == ("tls", "TLS: unable to get local issuer certificate", [])


async def test_plain_server_behind_https() -> None:
    """A plain server behind https:// is a TLS failure without any URL in its words."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad\r\n\r\n")
        await writer.drain()

    async with raw_server(talk) as url, sending(url.replace("http:", "https:") + "?token=s3cr3t") as sender:
        answer = await sender.send("e1", BODY)
    assert answer.outcome == "tls"
    assert "s3cr3t" not in str(answer.error)


async def test_handshake_that_hangs() -> None:
    """A server that accepts and never speaks TLS costs the timeout."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await for_ever()

    async with raw_server(talk) as url, sending(url.replace("http:", "https:"), timeout=0.3) as sender:
        answer = await sender.send("e1", BODY)
    assert (answer.outcome, answer.duration < 0.3 + GRACE) == ("timeout", True)


# --- names and addresses ----------------------------------------------------------------------------------------------


class Names(aiohttp.abc.AbstractResolver):
    """A name service: each lookup gets the next list of addresses, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> Any:
        found = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if not found:
            raise OSError(None, "no such name")
        return [
            {
                "hostname": host, "host": one, "port": port, "proto": 0, "flags": socket.AI_NUMERICHOST,
                "family": socket.AF_INET6 if ":" in one else socket.AF_INET,
            }
            for one in found
        ]  # fmt: skip

    async def close(self) -> None:
        pass


@asynccontextmanager
async def at_two_addresses() -> AsyncIterator[tuple[int, list[str]]]:
    """A receiver at one port of 127.0.0.1 and 127.0.0.2; the port, and where connections came in."""
    came: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            came.append(writer.get_extra_info("sockname")[0])
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()

    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.2", first.getsockname()[1]))
        servers = [await asyncio.start_server(talk, sock=sock) for sock in (first, second)]
        try:
            yield first.getsockname()[1], came
        finally:
            for server in servers:
                server.close()
                await server.wait_closed()


@pytest.fixture
def public_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.2 counts as a public address."""
    real = guard.classify
    monkeypatch.setattr(guard, "classify", lambda address: None if str(address) == "127.0.0.2" else real(address))


@pytest.mark.usefixtures("public_neighbour")
@pytest.mark.parametrize(
    "order", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"], ["::1", "10.0.0.1", "127.0.0.2"]]
)
async def test_name_with_public_and_private_addresses(monkeypatch: pytest.MonkeyPatch, order: list[str]) -> None:
    """Of a mixed answer only the public addresses are dialled, whatever the order, after a single lookup."""
    names = Names(order)
    async with at_two_addresses() as (port, came):
        url = f"http://outside.example:{port}/"
        async with sending(url, allow_private=False, allow_http=True) as sender:
            monkeypatch.setattr(sender._session.connector, "_resolver", names)
            assert (await sender.send("e1", BODY)).outcome == "delivered"
    assert (came, names.asked) == (["127.0.0.2"], 1)


@pytest.mark.usefixtures("public_neighbour")
async def test_name_that_is_rebound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that was good once and points inside later is refused then: each connection is judged by what it dials."""
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    async with at_two_addresses() as (port, came):
        url = f"http://outside.example:{port}/"
        async with sending(url, allow_private=False, allow_http=True) as sender:
            connector = sender._session.connector
            assert isinstance(connector, aiohttp.TCPConnector)
            monkeypatch.setattr(connector, "_resolver", names)
            assert (await sender.send("e1", BODY)).outcome == "delivered"
            connector.clear_dns_cache()
            answer = await sender.send("e2", BODY)
    assert (answer.outcome, came, names.asked) == ("address_refused", ["127.0.0.2"], 2)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["127.0.0.1", "::1", "10.0.0.1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["2002:7f00:1::"],
        ["::ffff:169.254.169.254"], ["169.254.169.254"], ["::127.0.0.1"], ["fe80::1%lo"], ["0.0.0.0"],
    ],
)  # fmt: skip
async def test_name_that_resolves_inside_is_refused(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    """The address that would be dialled is checked, whatever the name service says; nothing is connected to."""
    async with Receiver().serve() as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        async with sending(f"https://outside.example:{port}/", allow_private=False) as sender:
            monkeypatch.setattr(sender._session.connector, "_resolver", Names(addresses))
            answer = await sender.send("e1", BODY)
    assert answer.outcome == "address_refused"
    assert str(answer.error).startswith("address refused: ")
    assert receiver.received == []


async def test_plain_http_to_a_public_address_is_refused_when_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """`allow_private` lets plain HTTP go to private addresses only, whatever a name resolves to."""
    async with sending("http://receiver.example/", allow_private=True) as sender:
        monkeypatch.setattr(sender._session.connector, "_resolver", Names(["8.8.8.8"]))
        answer = await sender.send("e1", BODY)
    assert answer.outcome == "address_refused"
    assert "allow_http" in str(answer.error)


async def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not resolve is a failure of its own sort, and the next attempt asks again."""
    names = Names([], ["127.0.0.1"])
    async with Receiver().serve() as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        async with sending(f"http://nowhere.example:{port}/?token=s3cr3t") as sender:
            monkeypatch.setattr(sender._session.connector, "_resolver", names)
            answer = await sender.send("e1", BODY)
            assert (answer.outcome, answer.error) == ("dns", "the host name could not be resolved")
            assert (await sender.send("e2", BODY)).outcome == "delivered"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "2130706433", "0x7f000001", "0X7F.1", "017700000001", "0177.0.0.1", "127.1", "127.0.1", "127.0.0.1.",
        "%31%32%37.0.0.1", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:1]",
        "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]", "[fe80::1]", "localhost", "LOCALHOST", "localhost.",
        "a.localhost", "0", "0.0.0.0", "169.254.169.254", "[fd00:ec2::254]", "\u2460\u2461\u2466.0.0.1", "127\u30020.0.1",
    ],
)  # fmt: skip
async def test_spellings_of_inside_addresses(host: str) -> None:
    """However an inside address is written, such an endpoint cannot be made."""
    with pytest.raises(ValidationError):
        config(f"https://{host}/", allow_private=False)


async def test_kept_connection_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that may not connect to an address cannot use the connection that another one has there."""
    async with Receiver().serve() as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        url = f"http://outside.example:{port}/"
        async with sending(url) as may, sending(url, allow_private=False, allow_http=True) as may_not:
            for sender in (may, may_not):
                monkeypatch.setattr(sender._session.connector, "_resolver", Names(["127.0.0.1"]))
            assert (await may.send("e1", BODY)).outcome == "delivered"
            assert (await may_not.send("e2", BODY)).outcome == "address_refused"
    assert receiver.ids == ["e1"]


# --- beside each other ------------------------------------------------------------------------------------------------


async def test_hostile_endpoints_delay_no_other() -> None:
    """A good endpoint gets everything while each of the others holds as many connections as it may."""
    flood = asyncio.Event()

    async def storm(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 429 No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not flood.is_set():
            writer.write(b"a" * 65536)
            await writer.drain()

    store = MemoryStore()
    async with contextlib.AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(raw_server(talk)) for talk in (_mute, _dribble, _deaf, storm, endless)]
        receiver = await stack.enter_async_context(Receiver().serve())
        hostile = [config(url, name=f"bad-{number}", timeout=60) for number, url in enumerate(urls)]
        async with dispatching(store, *hostile, config(receiver.url, name="good")) as dispatcher:
            dispatcher.publish(store.append(*(event(n, f"jobs/{n % 50}", size=1000) for n in range(1, 501))))
            await receiver.wait(500)
            await until(lambda: next(s for s in dispatcher.status() if s.name == "good").position == 500)
            flood.set()
    assert sorted(receiver.ids) == sorted(f"e{n}" for n in range(1, 501))
