"""The listening socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientConnectionResetError, ClientConnectorError, ClientSession, web

from gateway.http.app import create_app
from gateway.http.server import Server
from tests.http.fakes import World


@contextlib.asynccontextmanager
async def serving(app: web.Application, host: str = "127.0.0.1", **options: float) -> AsyncIterator[Server]:
    server = Server(app, host, 0, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def test_it_serves_at_its_url_until_it_is_stopped() -> None:
    """Port 0 takes a free one; after `stop` nobody answers, and stopping again is fine."""
    async with ClientSession() as session:
        async with serving(create_app(World().parts)) as server:
            url = server.url
            async with session.get(f"{url}/healthz") as response:
                assert response.status == 200
        await server.stop()
        with pytest.raises(ClientConnectorError):
            await session.get(f"{url}/healthz")
    with pytest.raises(RuntimeError):
        _ = server.address


async def test_an_address_with_colons_is_bracketed() -> None:
    """As URLs want it."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        async with serving(create_app(World().parts), "::1") as server:
            assert server.url.startswith("http://[::1]:")
    except OSError:
        pytest.skip("no IPv6 loopback")


async def test_an_address_in_use_is_an_error() -> None:
    """And leaves nothing open."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server(create_app(World().parts), "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            await server.start()
        await server.stop()


async def test_who_is_being_served_is_served_to_the_end() -> None:
    """`refuse` lets nobody new in, `stop` waits for what is under way."""
    world = World()
    world.store.hold = asyncio.Event()
    reached = asyncio.Event()
    read = world.store.tasks

    async def tasks(source: str, ids: list[str]) -> object:
        reached.set()
        return await read(source, ids)

    world.store.tasks = tasks  # type: ignore[assignment]
    async with ClientSession() as session, serving(create_app(world.parts)) as server:
        url = server.url
        request = asyncio.create_task(session.get(f"{url}/v1/tasks/studio/t1?token=reader"))
        await asyncio.wait_for(reached.wait(), 5)
        await server.refuse()
        async with ClientSession() as other:
            with pytest.raises(ClientConnectorError):
                await other.get(f"{url}/healthz")
        stopping = asyncio.create_task(server.stop())
        world.store.hold.set()
        async with await asyncio.wait_for(request, 5) as response:
            assert response.status == 404
        await asyncio.wait_for(stopping, 5)


async def test_patience_ends() -> None:
    """A request that never ends does not keep the process from stopping."""
    world = World()
    reached, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    world.stream.handle = hang  # type: ignore[method-assign]
    async with (
        ClientSession() as session,
        serving(create_app(World(stream=world.stream).parts), patience=0.05) as server,
    ):
        request = asyncio.create_task(session.get(f"{server.url}/v1/stream"))
        await asyncio.wait_for(reached.wait(), 5)
        await asyncio.wait_for(server.stop(), 5)
        assert cancelled.is_set()
        (failure,) = await asyncio.gather(request, return_exceptions=True)
        assert isinstance(failure, Exception)


async def test_a_client_that_leaves_ends_its_handler() -> None:
    """An abandoned stream must not go on."""
    world = World()
    reached, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    world.stream.handle = hang  # type: ignore[method-assign]
    async with serving(create_app(World(stream=world.stream).parts)) as server:
        _, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(reached.wait(), 5)
        writer.close()
        await asyncio.wait_for(cancelled.wait(), 5)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/tasks?token=hunter2 HTTP/9.x\r\n\r\n",
        b"hunter2\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization hunter2\r\n\r\n",
        b"GET /?token=hunter2" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: hunter2" + b"x" * 20_000 + b"\r\n\r\n",
    ],
)
async def test_malformed_requests_leave_no_trace(request_bytes: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """400, and what they hold is in no log."""
    caplog.set_level(logging.DEBUG)
    async with serving(create_app(World().parts)) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(request_bytes)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert "hunter2" not in caplog.text


async def test_long_tokens_fit() -> None:
    """A token of several kilobytes is fine, in the URL and in the header."""
    async with ClientSession() as session, serving(create_app(World().parts)) as server:
        token = "x" * 12_000
        async with session.get(
            f"{server.url}/healthz?token={token}", headers={"Authorization": f"Bearer {token}"}
        ) as got:
            assert got.status == 200


def test_a_failure_below_the_application_is_named_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """The kind of error is logged; its message could hold anything."""
    logger = logging.getLogger("mainstem.http")
    caplog.set_level(logging.DEBUG)
    try:
        raise RuntimeError("hunter2")
    except RuntimeError as error:
        logger.exception("Unhandled exception", exc_info=error)
    logger.debug("Uncompleted request.")
    assert caplog.messages == ["http_connection_failed: RuntimeError", "Uncompleted request."]
    assert "hunter2" not in caplog.text


def test_who_goes_away_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """A client that connects and resets at once, two thousand times, is not two thousand errors in the log."""
    try:
        raise ClientConnectionResetError("Cannot write to closing transport")
    except ClientConnectionResetError as error:
        logging.getLogger("mainstem.http").exception("Unhandled exception", exc_info=error)
    assert not caplog.messages
