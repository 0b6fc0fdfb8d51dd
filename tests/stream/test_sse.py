"""The stream as Server-Sent Events."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.access import Grant
from tests.stream.clients import sse
from tests.stream.fakes import FakeStore, House, house


@pytest.mark.parametrize("direct", [True, False])
async def test_events(direct: bool) -> None:
    """`event` is the type, `data` the event, and `id` its position, on events of the log and `stream.synced` alone."""
    async with house(direct=direct) as gateway, sse(gateway.url("", "http")) as client:
        assert client.response.content_type == "text/event-stream"
        seen = await client.until("stream.synced")
        gateway.publish("task.started")
        gateway.publish("source.gap", None)
        seen += [await client.next(), await client.next()]
        assert [(item["event"], item.get("id")) for item in seen] == [
            ("stream.opened", None),
            ("stream.subscribed", None),
            ("stream.synced", "0" * 20),
            ("task.started", f"{1:020d}"),
            ("source.gap", f"{2:020d}"),
        ]
        assert json.loads(seen[3]["data"]) == json.loads(gateway.store.events[0].body)
    await gateway.until_empty()
    assert gateway.metrics.stream_connections._value.get() == 0


@pytest.mark.parametrize(
    ("query", "last", "outcome", "expected"),
    [
        ("", "2", "replayed", [3]),
        ("after=1", "", "replayed", [2, 3]),
        ("after=0&snapshot=true", "2", "replayed", [3]),
        ("", "abcdef012345:1", "replayed", [2, 3]),
        ("", "ffffffffffff:1", "reset", []),
        ("", "junk", "reset", []),
    ],
)
async def test_last_event_id(query: str, last: str, outcome: str, expected: list[int]) -> None:
    """The header resumes like `after`, and wins over it."""
    async with house() as gateway:
        for _ in range(3):
            gateway.publish("task.started")
        async with sse(gateway.url(query, "http"), Last_Event_ID=last) as client:
            seen = await client.until("stream.synced")
            assert json.loads(seen[1]["data"])["data"]["resume"] == outcome
            assert [int(item["id"]) for item in seen if item["event"] == "task.started"] == expected
            snapshots = [item for item in seen if item["event"] == "task.snapshot"]
            assert bool(snapshots) is (outcome == "reset")
            assert all("id" not in item for item in snapshots)


async def test_an_unknown_parameter_is_told() -> None:
    """Stand-ins for EventSource put `lastEventId` into the URL: they are served like any other, and resume from the header."""
    async with house() as gateway:
        gateway.publish("task.started")
        async with sse(gateway.url("lastEventId=0", "http"), Last_Event_ID="0") as client:
            seen = await client.until("stream.error")
            assert [item["event"] for item in seen] == [
                "stream.opened", "stream.subscribed", "task.started", "stream.synced", "stream.error",
            ]  # fmt: skip
            assert "id" not in seen[-1]
            assert json.loads(seen[-1]["data"])["data"]["field"] == "lastEventId"


async def test_heartbeat_keeps_quiet_connections() -> None:
    """A comment comes where nothing else does."""
    async with house(heartbeat=0.05, silence=0.1) as gateway, sse(gateway.url("", "http")) as client:
        await client.until("stream.synced")
        waiting = asyncio.create_task(client.next())
        async with asyncio.timeout(5):
            while client.comments < 4:
                await asyncio.sleep(0.01)
        gateway.publish("task.started")
        assert (await waiting)["event"] == "task.started"


async def test_end() -> None:
    """It ends with `stream.closing`, whose wait is a `retry` too, and a complete body."""
    async with house() as gateway, sse(gateway.url("", "http")) as client:
        await client.until("stream.synced")
        await gateway.service.drain(0)
        closing = await client.next()
        told = json.loads(closing["data"])["data"]
        assert (closing["event"], told["reason"], told["code"]) == ("stream.closing", "shutting_down", 1001)
        assert closing["retry"] == str(told["reconnect_after_ms"])
        with pytest.raises(EOFError):
            await client.next()


async def test_expiry() -> None:
    """A token that has run out ends the response; there is no way to renew it here."""
    async with house(open_door=False) as gateway:
        gateway.tokens.grants["short"] = Grant(holder="x", scopes=frozenset({"events:read"}), expires=0.0)
        async with sse(gateway.url("token=short", "http")) as client:
            closing = (await client.until("stream.closing"))[-1]
            assert json.loads(closing["data"])["data"]["code"] == 4009
            assert "retry" not in closing


async def raw(gateway: House, version: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.server.port)
    writer.write(f"GET /v1/stream HTTP/{version}\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
    return reader, writer


async def test_http_1_0() -> None:
    """A proxy that speaks HTTP/1.0 gets the same blocks without chunks."""
    async with house() as gateway:
        reader, writer = await raw(gateway, "1.0")
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"chunked" not in head
            body = await reader.readuntil(b"event: stream.synced\n")
        assert body.startswith(b"event: stream.opened\ndata: {")
        closing = asyncio.create_task(gateway.service.drain(0))
        async with asyncio.timeout(5):
            assert b"stream.closing" in await reader.read()
        await closing
        writer.close()


async def test_cut_connections_are_forgotten() -> None:
    """A client that vanishes is noticed without anything to send."""
    async with house(FakeStore()) as gateway:
        reader, writer = await raw(gateway, "1.1")
        async with asyncio.timeout(5):
            await reader.readuntil(b"stream.synced")
        assert gateway.service.connections == 1
        writer.transport.abort()
        await gateway.until_empty()
        assert len(gateway.hub.index) == 0
