"""The stream over real WebSockets."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest

from gateway.access import Grant
from gateway.stream.websocket import ABNORMAL
from schemas.filter import Filter
from tests.stream.clients import sequences, types, ws
from tests.stream.fakes import FakeStore, House, house

NOTICES = ("stream.opened", "stream.subscribed", "stream.synced")


def closed(gateway: House, code: int) -> float:
    """How many connections were closed with a code."""
    return gateway.metrics.stream_closed.labels(str(code))._value.get()


async def test_live() -> None:
    """Opened, subscribed, synced, then every event as it happens; each message one CloudEvent."""
    async with house() as gateway, ws(gateway.url(), subprotocols=["cloudevents.json"]) as client:
        assert client.socket.subprotocol == "cloudevents.json"
        opened, subscribed, synced = [await client.next() for _ in range(3)]
        assert types([opened, subscribed, synced]) == list(NOTICES)
        assert opened["data"]["epoch"] == gateway.store.epoch
        assert opened["data"]["scope"] == "admin"
        assert opened["data"]["sequence"] == "0" * 20
        assert subscribed["data"] == {"id": "default", "resume": "live", "sequence": "0" * 20}
        assert synced["data"]["id"] == "default"
        gateway.publish("task.started")
        gateway.publish_many([("task.progressed", "studio/1"), ("task.succeeded", "studio/1")])
        gateway.publish("source.gap", None)
        events = [await client.next() for _ in range(4)]
        assert events == [json.loads(item.body) for item in gateway.store.events]
        ids = {event["id"] for event in (opened, subscribed, synced)}
        assert len(ids) == 3
        assert gateway.metrics.stream_connections._value.get() == 1
    await gateway.until_empty()
    assert gateway.metrics.stream_sent._value.get() == 7
    assert gateway.metrics.stream_connections._value.get() == 0
    assert closed(gateway, 1000) == 1


async def test_no_compression_and_unknown_subprotocols() -> None:
    """Compression is never negotiated; a client without our subprotocol gets none."""
    async with house() as gateway, ws(gateway.url()) as client:
        assert client.socket.response is not None
        assert "Sec-WebSocket-Extensions" not in client.socket.response.headers
        assert client.socket.subprotocol is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [1, 2, 3, 4]),
        ("source=studio", [1, 2, 4]),
        ("source=studio,jobs&type=task.*", [1, 2, 3]),
        ("task=studio/1", [1]),
        ("task=studio/1&task=jobs/1", [1, 3]),
        ("type=task.failed,source.gap", [3, 4]),
        ("status=running&kind=text-to-3d", [1, 2]),
        ("task=studio/1&source=jobs", []),
    ],
)
async def test_filters(query: str, expected: list[int]) -> None:
    """Values are OR-ed, parameters AND-ed, for live traffic and for replay alike."""
    async with house() as gateway, ws(gateway.url(query)) as live:
        await live.until("stream.synced")
        gateway.publish("task.started", "studio/1")
        gateway.publish("task.progressed", "studio/2")
        gateway.publish("task.failed", "jobs/1")
        gateway.publish("source.gap", None)
        assert sequences([await live.next() for _ in expected]) == expected
        async with ws(gateway.url(f"{query}&after=0")) as replayed:
            seen = await replayed.until("stream.synced")
            assert sequences(seen) == expected
            assert seen[1]["data"]["resume"] == "replayed"
            assert seen[-1]["sequence"] == f"{4:020d}"
        await live.send(op="ping")
        assert (await live.next())["type"] == "stream.pong"


async def test_progress_scope_sees_the_redacted_view_everywhere() -> None:
    """Live, replayed and snapshot events alike; the events of others stay unchanged."""
    async with house(open_door=False) as gateway:
        async with ws(gateway.url("token=progress&task=studio/1")) as client, ws(gateway.url("token=full")) as full:
            await client.until("stream.synced")
            await full.until("stream.synced")
            gateway.publish("task.started")
            gateway.publish("source.gap", None)
            gateway.publish("task.succeeded")
            seen = [await client.next(), await client.next()]
            assert types(seen) == ["task.started", "task.succeeded"]
            assert all(event["data"]["redacted"] and event["data"]["native"] is None for event in seen)
            assert (await full.next())["data"]["native"] is not None
        for query in ("after=0", "snapshot=true"):
            async with ws(gateway.url(f"token=progress&task=studio/1&{query}")) as client:
                seen = [event for event in await client.until("stream.synced") if event["type"].startswith("task")]
                assert seen
                assert "secret" not in json.dumps(seen)
                assert all(event["data"]["redacted"] for event in seen)


async def test_bounds_of_a_token_hold_everywhere() -> None:
    """A holder sees nothing outside of the bounds, live, replayed or as a snapshot."""
    async with house(open_door=False) as gateway:
        async with ws(gateway.url("token=bounded")) as client:
            await client.until("stream.synced")
            gateway.publish("task.started", "jobs/1")
            gateway.publish("task.started", "studio/1")
            assert (await client.next())["partitionkey"] == "studio/1"
        for query in ("after=0", "snapshot=true", "after=0&source=jobs", "snapshot=true&task=jobs/1"):
            async with ws(gateway.url(f"token=bounded&{query}")) as client:
                assert "jobs/1" not in json.dumps(await client.until("stream.synced"))


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("token=bad", {}, 401),
        ("token=other", {}, 403),
        ("token=progress", {}, 403),
        ("token=full&after=x", {}, 400),
        ("token=full&type=a*b", {}, 400),
        ("token=full&status=bogus", {}, 400),
        ("token=full", {"Origin": "https://evil.example"}, 403),
    ],
)
async def test_refusals_before_the_upgrade(query: str, headers: dict[str, str], status: int) -> None:
    """They are HTTP errors with problem details, for WebSocket and SSE alike."""
    async with (
        house(open_door=False, permits=lambda origin, host: False) as gateway,
        aiohttp.ClientSession() as session,
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(gateway.url(query), headers=headers)
        assert caught.value.status == status
        headers = {"Accept": "text/event-stream", **headers}
        async with session.get(gateway.url(query, "http"), headers=headers) as response:
            assert response.status == status
            assert response.content_type == "application/problem+json"
            assert (await response.json())["status"] == status
        assert gateway.service.connections == 0


async def test_neither_websocket_nor_sse() -> None:
    """A plain GET is told what to ask for; a broken handshake is refused."""
    async with house() as gateway, aiohttp.ClientSession() as session:
        async with session.get(gateway.url("", "http")) as response:
            assert response.status == 426
        headers = {"Upgrade": "websocket", "Connection": "upgrade"}
        async with session.get(gateway.url("", "http"), headers=headers) as response:
            assert response.status == 400
        async with session.head(gateway.url("", "http"), headers={"Accept": "text/event-stream"}) as response:
            assert response.status == 405


# --- parameters that nobody knows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "after=0", "snapshot=true"])
async def test_an_unknown_parameter_is_served_and_told(query: str) -> None:
    """Once, behind everything that the URL asks for, with its name and never its value."""
    async with house() as gateway:
        for n in range(3):
            gateway.publish("task.started", f"studio/{n}")
        async with ws(gateway.url(f"{query}&stauts=hush")) as client:
            await client.until("stream.synced")
            error = await client.next()
            assert (error["type"], error["data"]) == (
                "stream.error",
                {
                    "code": "unknown_parameter",
                    "message": "unknown parameter: 'stauts'; known: source, task, kind, status, type, after, snapshot, "
                    "subscribe, token",
                    "field": "stauts",
                    "id": None,
                },
            )
            await client.send(op="ping")
            assert (await client.next())["type"] == "stream.pong"


async def test_unknown_parameters_are_no_malformed_commands() -> None:
    """However many there are, the client may go on making as many mistakes as any other."""
    async with house(malformed=2) as gateway, ws(gateway.url("&".join(f"n{n}=1" for n in range(20)))) as client:
        seen = await client.until("stream.error")
        assert seen[-1]["data"]["field"] is None
        assert seen[-1]["data"]["message"].startswith("unknown parameter: 'n0', 'n1', 'n2', 'n3', 'n4'; known: ")
        await client.send(op="dance")
        assert (await client.next())["data"]["code"] == "unknown_op"
        await client.send(op="ping")
        assert (await client.next())["type"] == "stream.pong"


async def test_unknown_parameters_wait_for_the_token() -> None:
    """Nothing but `stream.opened` comes before it; without a subscription they are told at once."""
    async with house(open_door=False) as gateway, ws(gateway.url("subscribe=none&lastEventId=")) as client:
        assert (await client.next())["type"] == "stream.opened"
        await client.send(op="authenticate", token="full")
        error = await client.next()
        assert (error["data"]["code"], error["data"]["field"]) == ("unknown_parameter", "lastEventId")


# --- commands ---------------------------------------------------------------------------------------------------------


async def test_subscriptions() -> None:
    """Several on one connection; an event that matches two comes once; without any, none come."""
    async with house() as gateway, ws(gateway.url("subscribe=none")) as client:
        assert (await client.next())["type"] == "stream.opened"
        gateway.publish("task.created")
        await client.send(op="subscribe", id="a", filter={"task": ["studio/1"]})
        await client.send(op="subscribe", id="b", filter={"type": ["task.started"]})
        assert [event["data"]["id"] for event in [await client.next() for _ in range(4)]] == ["a", "a", "b", "b"]
        gateway.publish_many(
            [("task.started", "studio/2"), ("task.started", "studio/1"), ("task.progressed", "studio/1")]
        )
        assert sequences([await client.next() for _ in range(3)]) == [2, 3, 4]
        await client.send(op="unsubscribe", id="a")
        assert (await client.next())["data"] == {"id": "a"}
        gateway.publish("task.progressed", "studio/1")
        gateway.publish("task.started", "studio/1")
        assert sequences([await client.next()]) == [6]
        await client.send(op="subscribe", id="c", after=f"{gateway.store.epoch}:0")
        seen = await client.until("stream.synced")
        assert sequences(seen) == [1, 4, 5]  # the others came because of b, which is still there


async def test_refused_commands() -> None:
    """What cannot be done is told with the field, and the connection stays."""
    async with house(open_door=False, subscriptions=3) as gateway, ws(gateway.url("token=full")) as client:
        await client.until("stream.synced")

        async def refused(**command: object) -> dict[str, object]:
            await client.send(**command)
            error = await client.next()
            assert error["type"] == "stream.error"
            return dict(error["data"])

        assert (await refused(op="unsubscribe", id="x"))["code"] == "unknown_subscription"
        assert (await refused(op="subscribe", id="default"))["code"] == "already_subscribed"
        assert (await refused(op="subscribe", id="y", after="junk"))["field"] == "after"
        assert (await refused(op="subscribe", id="y", filter={"colour": []}))["field"] == "filter.colour"
        assert (await refused(op="authenticate", token="bad"))["field"] == "token"
        await client.socket.send(b"\x00")
        assert (await client.next())["data"]["code"] == "not_text"
        for id in "bc":
            await client.send(op="subscribe", id=id)
            await client.until("stream.synced")
        assert (await refused(op="subscribe", id="d"))["code"] == "too_many_subscriptions"
        async with ws(gateway.url("token=progress&subscribe=none")) as narrow:
            await narrow.next()
            await narrow.send(op="subscribe", id="a")
            error = await narrow.next()
            assert (error["data"]["code"], error["data"]["field"], error["data"]["id"]) == (
                "not_allowed",
                "filter.task",
                "a",
            )
            await narrow.send(op="subscribe", id="a", filter={"task": "studio/1"})
            assert (await narrow.next())["type"] == "stream.subscribed"


async def test_a_ping_is_answered_with_its_id() -> None:
    """So that a client can tell answers apart; without one there is none."""
    async with house() as gateway, ws(gateway.url("subscribe=none")) as client:
        await client.send(op="ping", id="p1")
        assert (await client.until("stream.pong"))[-1]["data"] == {"id": "p1"}
        await client.send(op="ping")
        assert (await client.until("stream.pong"))[-1]["data"] == {}


async def test_ten_malformed_in_a_row() -> None:
    """Nine are forgiven when a good one follows; ten in a row close with 4000."""
    async with house() as gateway, ws(gateway.url("subscribe=none")) as client:
        for _ in range(9):
            await client.socket.send("nonsense")
        await client.send(op="ping")
        await client.until("stream.pong")
        for _ in range(10):
            await client.socket.send("nonsense")
        code, seen = await client.closed()
        assert code == 4000
        assert types(seen) == ["stream.error"] * 10 + ["stream.closing"]
        assert seen[-1]["data"] == {"reason": "malformed_commands", "reconnect_after_ms": None, "code": 4000}
        await gateway.until_empty()
        assert closed(gateway, 4000) == 1


async def test_greatest_message() -> None:
    """64 KiB pass, one byte more closes with 1009."""
    async with house() as gateway, ws(gateway.url("subscribe=none")) as client:
        await client.next()
        await client.socket.send('{"op":"ping"}'.ljust(64 * 1024))
        assert (await client.next())["type"] == "stream.pong"
        await client.socket.send('{"op":"ping"}'.ljust(64 * 1024 + 1))
        assert (await client.closed())[0] == 1009
        await gateway.until_empty()
        assert closed(gateway, 1009) == 1


@pytest.mark.parametrize("control", [False, True])
async def test_flood(control: bool) -> None:
    """Too many commands, or pings, close with 4129."""
    async with house(command_burst=20, command_rate=0.1) as gateway, ws(gateway.url("subscribe=none")) as client:
        for _ in range(21):
            if control:
                await client.socket.ping()
            else:
                await client.send(op="ping")
        code, seen = await client.closed()
        assert code == 4129
        assert seen[-1]["data"]["reconnect_after_ms"] > 0


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_first_message_authenticates() -> None:
    """Without a token nothing but `stream.opened` comes before the `authenticate` command; then the URL's subscription."""
    async with house(open_door=False) as gateway, ws(gateway.url("task=studio/1&after=0")) as client:
        opened = await client.next()
        assert opened["data"]["scope"] == ""
        gateway.publish("task.started")
        await client.send(op="authenticate", token="progress")
        assert types([await client.next() for _ in range(3)]) == ["stream.subscribed", "task.started", "stream.synced"]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"op": "authenticate", "token": "bad"}, 4001),
        ({"op": "ping"}, 4001),
        ({"op": "authenticate", "token": "other"}, 4003),
        ({"op": "authenticate", "token": "progress"}, 4003),
        (None, 4001),
    ],
)
async def test_first_message_refused(command: dict[str, str] | None, code: int) -> None:
    """Anything else as the first message, a bad token, a scope that is not enough, or nothing in time."""
    async with house(open_door=False, authentication=0.05) as gateway, ws(gateway.url()) as client:
        gateway.publish("task.started")
        if command is not None:
            await client.send(**command)
        got, seen = await client.closed()
        assert got == code
        assert types(seen) == ["stream.opened", "stream.closing"]


async def test_expiry_and_renewal() -> None:
    """A token that runs out closes with 4009, unless `authenticate` has brought a newer one."""
    async with house(open_door=False) as gateway:
        full = frozenset({"events:read"})
        soon = time.time() + 0.3
        gateway.tokens.grants["short"] = Grant(holder="x", scopes=full, expires=soon)
        async with ws(gateway.url("token=short")) as left, ws(gateway.url("token=short")) as renewed:
            await renewed.until("stream.synced")
            await renewed.send(op="authenticate", token="full")
            code, seen = await left.closed()
            assert (code, seen[-1]["data"]["reason"]) == (4009, "token_expired")
            assert time.time() >= soon
            gateway.publish("task.started")
            assert (await renewed.next())["type"] == "task.started"


async def test_renewal_changes_what_is_seen() -> None:
    """A narrower token redacts from then on, or closes with 4003 where a subscription is beyond it."""
    async with house(open_door=False) as gateway, ws(gateway.url("token=full&task=studio/1")) as client:
        await client.until("stream.synced")
        await client.send(op="authenticate", token="progress")
        await client.send(op="ping")
        await client.until("stream.pong")
        gateway.publish("task.started")
        assert (await client.next())["data"]["redacted"] is True
        await client.send(op="authenticate", token="admin")
        await client.send(op="subscribe", id="all")
        await client.until("stream.synced")
        gateway.publish("task.started")
        assert (await client.next())["data"]["redacted"] is False
        await client.send(op="authenticate", token="progress")
        assert (await client.closed())[0] == 4003


async def test_limits_of_connections() -> None:
    """Too many of a token or an address: 429 before the upgrade, 4129 after; places are given back."""
    async with house(open_door=False, per_holder=1, per_address=3) as gateway, aiohttp.ClientSession() as session:
        async with ws(gateway.url("token=full")) as first:
            await first.next()
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(gateway.url("token=full"))
            assert caught.value.status == 429
            async with ws(gateway.url()) as late, ws(gateway.url("token=admin")) as third:
                await third.next()
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    await session.ws_connect(gateway.url("token=bounded"))
                assert caught.value.status == 429
                await late.send(op="authenticate", token="full")
                assert (await late.closed())[0] == 4129
        await gateway.until_empty()
        async with ws(gateway.url("token=full")) as again:
            assert (await again.next())["type"] == "stream.opened"
    assert not gateway.service._per_address
    assert not gateway.service._per_holder


# --- liveness ---------------------------------------------------------------------------------------------------------


async def test_pings_and_the_dead() -> None:
    """Pings come from the gateway; a peer that answers stays, one that does not is gone, and client pings are answered."""
    async with house(ping=0.05, silence=1.0) as gateway, ws(gateway.url()) as alive:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.server.port)
        writer.write(
            b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        began = time.monotonic()
        data = b""
        async with asyncio.timeout(15):
            while chunk := await _read(reader):
                data += chunk
        assert data.count(b"\x89\x00") >= 2
        assert time.monotonic() - began >= 1.0
        writer.close()
        waiter = await alive.socket.ping(b"payload")
        async with asyncio.timeout(5):
            await waiter
        assert gateway.service.connections == 1
        assert closed(gateway, ABNORMAL) == 1


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionResetError:
        return b""


async def test_cut_connections_are_forgotten() -> None:
    """A client that vanishes leaves nothing behind."""
    async with house() as gateway:
        async with ws(gateway.url()) as client:
            await client.until("stream.synced")
            client.cut()
            await gateway.until_empty()
        assert len(gateway.hub.index) == 0
        gateway.publish("task.started")


async def test_frames_go_through_aiohttp_where_the_transport_cannot_be_used() -> None:
    """The slower way says the same, the closing included."""
    async with house(FakeStore(), direct=False) as gateway, ws(gateway.url("after=0")) as client:
        await client.until("stream.synced")
        gateway.publish_many([("task.started", f"studio/{n}") for n in range(20)])
        assert sequences([await client.next() for _ in range(20)]) == list(range(1, 21))
        closing = asyncio.create_task(gateway.service.drain(0))
        code, seen = await client.closed()
        assert (code, types(seen)) == (1001, ["stream.closing"])
        await closing


async def test_an_event_costs_those_who_want_it() -> None:
    """Connections that want other tasks are not looked at."""
    async with house() as gateway, ws(gateway.url("task=studio/1")) as one, ws(gateway.url("task=studio/2")) as two:
        await one.until("stream.synced")
        await two.until("stream.synced")
        groups = list(gateway.hub.index.matching(gateway.store.append("task.started", "studio/2")))
        assert [group.wanted for group in groups] == [Filter(task=("studio/2",))]
