"""One WebSocket connection, and the client that makes it, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from adapters.api import Request
from gateway.upstream.client import Answer, Client, Failure, describe
from gateway.upstream.connection import NO_STATUS, Connection
from gateway.upstream.limits import Limits
from gateway.upstream.liveness import Liveness
from tests.upstream.kit import DEADLINE, START, ManualClock, Upstream, hang_up, until

SECRET = "s3cret-key"
LIMITS = Limits(connect=0.3, close=0.2, request=0.3, frame=1024, body=100)


class Room:
    """A client and a server."""

    def __init__(self, upstream: Upstream, client: Client, clock: ManualClock) -> None:
        self.upstream, self.client, self.clock = upstream, client, clock

    def request(self, path: str, scheme: str = "ws") -> Request:
        base = scheme + self.upstream.url.removeprefix("ws")
        return Request(url=f"{base}{path}?token={SECRET}", headers={"X-Key": SECRET})

    async def connect(
        self, path: str = "/all", ping_interval: float = 20, idle_timeout: float | None = None
    ) -> Connection:
        opened = await self.client.connect(self.request(path), ping_interval=ping_interval, idle_timeout=idle_timeout)
        assert isinstance(opened, Connection)
        return opened

    async def refused(self, path: str = "/all") -> Failure:
        opened = await self.client.connect(self.request(path), ping_interval=20)
        assert isinstance(opened, Failure)
        assert SECRET not in repr(opened)
        return opened


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    clock = ManualClock()
    upstream, client = Upstream(), Client(clock, LIMITS)
    await upstream.server.start_server()
    try:
        yield Room(upstream, client, clock)
    finally:
        await client.close()
        await upstream.server.close()


async def test_text_and_binary_frames_are_read_in_order(room: Room) -> None:
    """Both kinds of data frames, then the close with its code and reason."""

    @room.upstream.on("/all")
    async def script(socket: web.WebSocketResponse, number: int) -> None:
        await socket.send_str("one")
        await socket.send_bytes(b"two")
        await socket.close(code=1011, message=b"trouble")

    connection = await room.connect()
    assert [await connection.receive() for _ in range(3)] == ["one", b"two", None]
    assert await connection.receive() is None
    assert connection.closed is not None
    assert (connection.closed.by_upstream, connection.closed.code, connection.closed.reason) == (True, 1011, "trouble")
    assert connection.closed.error == "closed by the upstream: 1011 trouble"
    await connection.close()
    await connection.close()


async def test_the_handshake_carries_what_the_adapter_asked_for_and_nothing_else(room: Room) -> None:
    """Headers of the request, no compression, no cookies."""
    room.upstream.on("/all")(hang_up)
    room.upstream.answers["/cookie"] = lambda request, number: web.Response(headers={"Set-Cookie": "a=b; Path=/"})
    await room.client.get(room.request("/cookie", "http"))
    connection = await room.connect()
    await connection.receive()
    await connection.close()
    headers = room.upstream.headers[-1]
    assert headers["X-Key"] == SECRET
    assert "Cookie" not in headers
    assert "Sec-WebSocket-Extensions" not in headers
    assert room.upstream.requests[-1] == f"/all?token={SECRET}"


async def test_a_close_without_code(room: Room) -> None:
    """RFC 6455, section 7.1.5: 1005."""

    @room.upstream.on("/all")
    async def script(socket: web.WebSocketResponse, number: int) -> None:
        await socket.send_frame(b"", aiohttp.WSMsgType.CLOSE)

    connection = await room.connect()
    assert await connection.receive() is None
    assert connection.closed is not None
    assert connection.closed.code == NO_STATUS
    await connection.close()


async def test_a_connection_that_breaks_off(room: Room) -> None:
    """No close frame: no code."""

    @room.upstream.on("/all")
    async def script(socket: web.WebSocketResponse, number: int) -> None:
        transport = socket.get_extra_info("socket")
        assert transport is not None
        room.transport.abort()  # type: ignore[attr-defined]

    async def handshake(request: web.Request) -> None:
        room.transport = request.transport  # type: ignore[attr-defined]

    room.upstream.handshake = handshake
    connection = await room.connect()
    assert await connection.receive() is None
    assert connection.closed is not None
    assert (connection.closed.by_upstream, connection.closed.code) == (True, None)
    assert connection.closed.error == "connection lost"
    await connection.close()


async def test_an_oversized_frame_is_an_error_with_a_name(room: Room) -> None:
    """It ends the connection, and is not the upstream's close."""

    @room.upstream.on("/all")
    async def script(socket: web.WebSocketResponse, number: int) -> None:
        await socket.send_str("x" * 5000)
        await room.upstream.listen(socket)

    connection = await room.connect()
    assert await connection.receive() is None
    assert connection.closed is not None
    assert (connection.closed.by_upstream, connection.closed.code) == (False, 1009)
    assert connection.closed.error == "a frame is too large"
    await connection.close()


async def test_text_that_is_not_utf8(room: Room) -> None:
    """RFC 6455, section 8.1: the connection fails."""

    @room.upstream.on("/all")
    async def script(socket: web.WebSocketResponse, number: int) -> None:
        await socket.send_frame(b"\xff\xfe", aiohttp.WSMsgType.TEXT)
        await room.upstream.listen(socket)

    connection = await room.connect()
    assert await connection.receive() is None
    assert connection.closed is not None
    assert connection.closed.code == 1007
    await connection.close()


async def test_pings_of_the_upstream_are_answered(room: Room) -> None:
    """With their payload."""
    answers: list[bytes] = []
    room.upstream.autoping = False

    @room.upstream.on("/all")
    async def script(socket: web.WebSocketResponse, number: int) -> None:
        await socket.ping(b"there?")
        answers.append((await socket.receive()).data)

    connection = await room.connect()
    assert await connection.receive() is None
    assert answers == [b"there?"]
    await connection.close()


async def test_answered_pings_keep_a_silent_connection(room: Room) -> None:
    """A ping per interval of silence, each answered, no end."""
    room.upstream.on("/all")(room.upstream.listen)
    connection = await room.connect()
    reading = asyncio.create_task(connection.receive())
    for _ in range(5):
        heard = connection.liveness.heard_at
        await room.clock.pass_time(20)
        await until(lambda heard=heard: connection.liveness.heard_at > heard)
    assert not reading.done()
    assert connection.heard_at() == START + room.clock.monotonic()
    await connection.close()
    assert await reading is None


async def test_an_unanswered_ping_is_a_dead_connection(room: Room) -> None:
    """The peer is given half an interval."""
    room.upstream.autoping = False
    gone = asyncio.Event()

    @room.upstream.on("/all")
    async def script(socket: web.WebSocketResponse, number: int) -> None:
        await gone.wait()

    connection = await room.connect()
    reading = asyncio.create_task(connection.receive())
    await room.clock.pass_time(20)
    await until(lambda: room.clock.slept[-1] == 10)
    assert not reading.done()
    await room.clock.pass_time(10)
    assert await asyncio.wait_for(reading, DEADLINE) is None
    assert connection.closed is not None
    assert (connection.closed.by_upstream, connection.closed.error) == (False, "a ping was not answered")
    gone.set()
    await connection.close()


async def test_idle_timeout_although_pings_are_answered(room: Room) -> None:
    """Data frames count, pongs do not."""
    room.upstream.on("/all")(room.upstream.says({"a": 1}))
    connection = await room.connect(idle_timeout=50)
    await connection.receive()
    reading = asyncio.create_task(connection.receive())
    while not reading.done():
        await room.clock.pass_time(5)
        await asyncio.sleep(0.005)
    assert connection.closed is not None
    assert connection.closed.error == "no data frame for 50 s"
    assert room.clock.monotonic() >= 50
    await connection.close()


async def test_a_busy_gateway_does_not_take_its_peer_for_dead(room: Room) -> None:
    """While nobody reads, no clock runs."""
    room.upstream.on("/all")(room.upstream.says({"a": 1}, {"b": 2}))
    connection = await room.connect(idle_timeout=50)
    await connection.receive()
    await room.clock.pass_time(1000)
    assert await connection.receive() == '{"b": 2}'
    await connection.close()


class DeafSocket:
    """A peer that reads nothing: what is sent to it blocks."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.closing = False

    async def receive(self) -> aiohttp.WSMessage:
        await self.ended.wait()
        return aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)

    async def ping(self) -> None:
        raise aiohttp.ClientConnectionResetError

    async def pong(self, payload: bytes) -> None:
        raise aiohttp.ClientConnectionResetError

    async def close(self) -> None:
        self.ended.set()
        if not self.closing:
            self.closing = True
            await asyncio.Event().wait()


async def test_a_ping_that_cannot_be_sent_is_the_end() -> None:
    """And the close of such a connection is bounded."""
    clock, socket = ManualClock(), DeafSocket()
    connection = Connection(socket, Liveness(0, 20), clock, 0.01, "/all")  # type: ignore[arg-type]
    reading = asyncio.create_task(connection.receive())
    await clock.pass_time(20)
    assert await asyncio.wait_for(reading, DEADLINE) is None
    assert connection.closed is not None
    assert connection.closed.error == "a ping could not be sent"
    await connection.close()


async def test_a_pong_that_cannot_be_sent_loses_no_frame() -> None:
    """What had arrived before is still read."""
    frames = [
        aiohttp.WSMessage(aiohttp.WSMsgType.PING, b"", None),
        aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, "last words", None),
    ]

    class Gone(DeafSocket):
        async def receive(self) -> aiohttp.WSMessage:
            return frames.pop(0)

    connection = Connection(Gone(), Liveness(0, 20), ManualClock(), 0.01, "/all")  # type: ignore[arg-type]
    assert await connection.receive() == "last words"
    await connection.close()


async def test_no_data_frame_is_ever_sent(room: Room) -> None:
    """Catalyst closes connections that send one."""
    room.upstream.on("/all")(room.upstream.says({"a": 1}))
    connection = await room.connect()
    await connection.receive()
    await connection.close()
    await until(lambda: room.upstream.open == 0)
    assert room.upstream.received == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_a_refused_handshake_is_a_value(room: Room, status: int) -> None:
    """The status, the wait that is asked for, and no URL."""
    room.upstream.answer("/all", status, headers={"Retry-After": "17"})
    failure = await room.refused()
    assert (failure.status, failure.retry_after, failure.timed_out) == (status, 17, False)
    assert failure.error == f"answered with HTTP {status}"


async def test_a_redirect_is_not_followed(room: Room) -> None:
    """It would carry the credentials somewhere else."""
    room.upstream.answer("/all", 302, headers={"Location": "/elsewhere"})
    assert (await room.refused()).status == 302
    answer = await room.client.get(room.request("/all", "http"))
    assert isinstance(answer, Failure)
    assert answer.status == 302
    assert "/elsewhere" not in "".join(room.upstream.requests)


async def test_a_handshake_that_never_ends(room: Room) -> None:
    """It has a time limit."""
    release = asyncio.Event()

    async def handshake(request: web.Request) -> None:
        await release.wait()

    room.upstream.handshake = handshake
    failure = await room.refused()
    assert (failure.error, failure.timed_out) == ("no answer in time", True)
    release.set()


async def test_nobody_listens(room: Room) -> None:
    """Words, not an exception."""
    request = room.request("/all")
    await room.upstream.server.close()
    assert await room.client.connect(request, ping_interval=20) == Failure(
        error="connection failed: Connection refused"
    )


async def test_an_upgrade_that_is_none(room: Room) -> None:
    """A 200 with a page is no handshake; neither is something that is not HTTP."""
    room.upstream.answer("/all", 200, "hello")
    assert (await room.refused()).status == 200

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 ready when you are\r\n\r\n")
        await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        request = Request(url=f"ws://127.0.0.1:{port}/all?token={SECRET}")
        opened = await room.client.connect(request, ping_interval=20)
    assert isinstance(opened, Failure)
    assert opened.status is None
    assert SECRET not in opened.error


async def test_a_rest_answer(room: Room) -> None:
    """The body of a 200; everything else is a failure."""
    room.upstream.answer("/task", body={"a": 1})
    room.upstream.answer("/large", body="x" * 101)
    room.upstream.answer("/gone", 404)
    assert await room.client.get(room.request("/task", "http")) == Answer(body=b'{"a":1}')
    assert await room.client.get(room.request("/large", "http")) == Failure(
        error="answer larger than 100 bytes", status=200
    )
    gone = await room.client.get(room.request("/gone", "http"))
    assert isinstance(gone, Failure)
    assert gone.status == 404


def test_every_client_error_becomes_words_without_its_url() -> None:
    """aiohttp's own texts carry the URL, key included."""
    key = aiohttp.client_reqrep.ConnectionKey("h", 1, True, True, None, None, None)
    tls = aiohttp.ClientConnectorSSLError(key, OSError(1, SECRET))
    certificate = aiohttp.ClientConnectorCertificateError(key, ValueError(SECRET))  # type: ignore[arg-type]
    words = {
        describe(error)
        for error in (
            TimeoutError(SECRET),
            aiohttp.InvalidURL(SECRET),
            aiohttp.ClientConnectorDNSError(key, OSError(-2, SECRET)),
            certificate,
            tls,
            aiohttp.ServerDisconnectedError(SECRET),
            aiohttp.ClientPayloadError(SECRET),
            ConnectionRefusedError(111, SECRET),
        )
    }
    assert len(words) == 8
    assert not any(SECRET in text for text in words)
