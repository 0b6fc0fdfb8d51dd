"""Tokens that come to mean something else while streams are open: who is closed, who sees less, and who notices nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from aiohttp import web

from gateway.access import Grant
from gateway.errors import Refused
from schemas.filter import Filter
from tests.stream.clients import sequences, sse, ws
from tests.stream.fakes import house

READ = frozenset({"events:read"})


async def test_a_token_that_is_refused_now() -> None:
    """4001 on a WebSocket, the same notice and an end on SSE; the others get the next event as if nothing had been."""
    async with (
        house(open_door=False) as gateway,
        ws(gateway.url("token=full")) as gone,
        ws(gateway.url()) as by_command,
        sse(gateway.url("token=full", "http")) as gone_too,
        ws(gateway.url("token=admin")) as stays,
        ws(gateway.url()) as unknown,
    ):
        await by_command.next()
        await by_command.send(op="authenticate", token="full")
        for client in (gone, by_command, stays):
            await client.until("stream.synced")
        await gone_too.until("stream.synced")
        await unknown.next()
        del gateway.tokens.grants["full"]
        assert await gateway.service.judge() == 3
        for client in (gone, by_command):
            code, seen = await client.closed()
            assert code == 4001
            assert [event["data"]["reason"] for event in seen] == ["unauthenticated"]
            assert seen[0]["data"]["reconnect_after_ms"] is None
        notice = await gone_too.next()
        assert json.loads(notice["data"])["data"]["code"] == 4001
        with pytest.raises(EOFError):
            await gone_too.next()
        made = gateway.publish("task.started")
        assert sequences([await stays.next()]) == [made.sequence]
        await unknown.send(op="authenticate", token="admin")
        await unknown.until("stream.synced")


async def test_the_last_token_counts() -> None:
    """A connection that has shown another one meanwhile is judged by that; one that failed to, by the one before."""
    async with (
        house(open_door=False) as gateway,
        ws(gateway.url("token=full")) as renewed,
        ws(gateway.url("token=full")) as failed,
    ):
        for client, token in ((renewed, "admin"), (failed, "bad")):
            await client.until("stream.synced")
            await client.send(op="authenticate", token=token)
            await client.send(op="ping")
            await client.until("stream.pong")
        del gateway.tokens.grants["full"]
        assert await gateway.service.judge() == 1
        assert (await failed.closed())[0] == 4001
        made = gateway.publish("task.started")
        assert sequences([await renewed.next()]) == [made.sequence]


async def test_less_and_more_is_shown() -> None:
    """From the next event on, and nothing is lost or doubled on the way."""
    async with (
        house(open_door=False) as gateway,
        ws(gateway.url("token=full")) as client,
        ws(gateway.url("token=full&task=studio/1")) as one,
    ):
        await client.until("stream.synced")
        await one.until("stream.synced")
        gateway.tokens.grants["full"] = Grant(holder="full", scopes=READ, bounds=Filter(source=("studio",)))
        first = gateway.publish("task.started", "jobs/1", source="jobs")
        assert await gateway.service.judge() == 0
        gateway.publish("task.progressed", "jobs/1", source="jobs")
        second = gateway.publish("task.started", "studio/1")
        gateway.tokens.grants["full"] = Grant(holder="full", scopes=READ)
        assert await gateway.service.judge() == 0
        third = gateway.publish("task.succeeded", "jobs/1", source="jobs")
        assert sequences([await client.next() for _ in range(3)]) == [made.sequence for made in (first, second, third)]
        gateway.tokens.grants["full"] = Grant(holder="full", scopes=frozenset({"events:read:progress"}))
        assert await gateway.service.judge() == 1
        assert (await client.closed())[0] == 4003
        gateway.publish("task.succeeded", "studio/1")
        assert [(await one.next())["data"]["redacted"] for _ in range(2)] == [False, True]


async def test_a_new_name_is_no_reason_to_close() -> None:
    """A holder that is called otherwise now has the connections it has, whatever the limit; the limit is for who comes."""
    async with (
        house(open_door=False, per_holder=1) as gateway,
        ws(gateway.url("token=full")) as one,
        ws(gateway.url("token=admin")) as other,
    ):
        await one.until("stream.synced")
        await other.until("stream.synced")
        gateway.tokens.grants["full"] = Grant(holder="admin", scopes=READ)
        assert await gateway.service.judge() == 0
        made = gateway.publish("task.started")
        assert sequences([await one.next(), await other.next()]) == [made.sequence] * 2
    await gateway.until_empty()
    assert not gateway.service._per_holder


@pytest.mark.parametrize(("status", "code", "closed"), [(401, "token_expired", 4009), (503, "keys_unavailable", 1011)])
async def test_why_it_cannot_be_judged(status: int, code: str, closed: int) -> None:
    """A token that ran out meanwhile ends as it would have; where it cannot be verified now, its holder may come back."""
    async with house(open_door=False) as gateway, ws(gateway.url("token=full")) as client:
        await client.until("stream.synced")

        class Nobody(dict[str | None, Grant]):
            def get(self, token: str | None, default: Any = None) -> Any:
                raise Refused(status, code, "No.")

        gateway.tokens.grants = Nobody()
        assert await gateway.service.judge() == 1
        assert (await client.closed())[0] == closed


async def test_who_was_just_coming_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was good when the request came and is not when its connection opens does not stay."""
    arrived, go = asyncio.Event(), asyncio.Event()
    prepare = web.WebSocketResponse.prepare

    async def held(socket: web.WebSocketResponse, request: web.BaseRequest) -> Any:
        arrived.set()
        await go.wait()
        return await prepare(socket, request)

    monkeypatch.setattr(web.WebSocketResponse, "prepare", held)
    async with house(open_door=False) as gateway:

        async def come_in() -> int:
            async with ws(gateway.url("token=full")) as client:
                return (await client.closed())[0]

        coming = asyncio.create_task(come_in())
        await arrived.wait()
        del gateway.tokens.grants["full"]
        assert await gateway.service.judge() == 0
        go.set()
        assert await coming == 4001


async def test_many() -> None:
    """Others run between; whoever leaves meanwhile is no trouble."""
    async with house(open_door=False) as gateway, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(ws(gateway.url("token=full"))) for _ in range(120)]
        for client in clients:
            await client.until("stream.synced")
        del gateway.tokens.grants["full"]
        judging = asyncio.create_task(gateway.service.judge())
        clients[-1].cut()
        assert await judging in (119, 120)
        assert {(await client.closed())[0] for client in clients[:-1]} == {4001}
        await gateway.until_empty()
