"""What a test can make a simulated upstream do, and see of its clients; what stays bounded; what goes wrong on demand."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
import websockets

from gateway import simulators
from gateway.simulators import Faults

ALL = "/api/v1/tasks/watch/all"


@pytest.fixture
async def sim(simulate):
    """A scripted Triverse: every upstream has the same script."""
    return await simulate("triverse")


@pytest.fixture
def watch(connect):
    """Opens `watch/all` with the good token."""

    async def watch(sim, **options):
        return await connect(sim, ALL, token=sim.credentials["token"], **options)

    return watch


async def test_raw_frames_arrive_verbatim(sim, watch):
    """On all connections or on one; text and binary."""
    first, second = await watch(sim), await watch(sim)
    sim.push_raw("not: sse {")
    sim.push_raw(b"\x00\xff", sim.connections[0])
    assert await first.text() == await second.text() == "not: sse {"
    assert await first.socket.receive_bytes(timeout=5) == b"\x00\xff"


async def test_a_close_comes_after_what_was_sent(sim, watch):
    """With its code and reason."""
    client = await watch(sim)
    sim.push_raw("last")
    sim.close(4321, "enough")
    sim.push_raw("never")
    assert await client.text() == "last"
    message = await client.socket.receive(timeout=5)
    assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4321, "enough")


async def test_a_drop_has_no_close_frame(sim, watch):
    """What was sent before it still arrives; then the TCP connection ends, 1006."""
    client = await watch(sim)
    connection = await sim.wait_connection()
    sim.push_raw("last")
    sim.drop()
    assert await client.text() == "last"
    assert await client.end() == 1006
    await connection.closed.wait()
    assert connection.close_code == 1006


async def test_a_stalled_connection_says_nothing(sim, watch):
    """It stays open and, if told so, answers pings as before or not at all."""
    for answers in (True, False):
        client = await watch(sim, autoping=False)
        connection = sim.connections[-1]
        sim.stall(connection, answer_pings=answers)
        sim.push_raw("lost", connection)
        await client.socket.ping(b"there?")
        await client.socket.send_str("marker")
        await sim.wait_for(lambda connection=connection: len(connection.received) == 1)
        assert connection.pings == 1
        assert not connection.closed.is_set()
        connection.abort()
        message = await client.socket.receive(timeout=5)
        assert (message.type is aiohttp.WSMsgType.PONG) is answers


async def test_handshakes_are_refused_as_often_as_told(sim, watch):
    """Status, headers and body; then the door is open again."""
    sim.refuse_handshakes(2, 429, headers={"Retry-After": "7"}, body={"code": 2000})
    for _ in range(2):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await watch(sim)
        assert refused.value.status == 429
        assert refused.value.headers["Retry-After"] == "7"
    await sim.wait_refused(2)
    await watch(sim)
    assert [each.status for each in sim.handshakes] == [429, 429, 101]


async def test_requests_are_refused_as_often_as_told(sim, http):
    """The same for ordinary HTTP; each request is on record with its answer."""
    sim.refuse_requests(1, 500, body={"code": 5003})
    url = f"{sim.http_url}/api/v1/tasks/x"
    async with http.get(url) as answer:
        assert (answer.status, await answer.json()) == (500, {"code": 5003})
    async with http.get(url) as answer:
        assert answer.status == 401
    assert (await sim.wait_request(2)).status == 401
    assert [each.status for each in sim.requests] == [500, 401]


async def test_down_and_up_again_on_the_same_port(sim, watch, http):
    """Down, connections are aborted and the port refuses; up, it serves the tasks it had, changes included."""
    client = await watch(sim)
    task, port = sim.create_task(announce=False), sim.port
    await sim.down()
    await sim.down()
    assert await client.end() == 1006
    assert sim.connections == []
    with pytest.raises(aiohttp.ClientConnectorError):
        await watch(sim)
    sim.push_state(task.uuid, status="RUNNING")
    await sim.up()
    assert sim.port == port
    await watch(sim)
    headers = {"Authorization": f"Bearer {sim.credentials['token']}"}
    async with http.get(f"{sim.http_url}/api/v1/tasks/{task.uuid}", headers=headers) as answer:
        assert (await answer.json())["data"]["status"] == "RUNNING"


async def test_what_clients_do_is_on_record(sim, http):
    """Path, query and headers of each connection, and what it sent."""
    token = sim.credentials["token"]
    async with http.ws_connect(f"{sim.url}{ALL}?token={token}", headers={"User-Agent": "probe"}) as socket:
        connection = await sim.wait_connection()
        await socket.send_str("hi")
        await sim.wait_for(lambda: bool(sim.received_frames))
        assert (connection.number, connection.path, connection.query) == (1, ALL, {"token": token})
        assert connection.headers["user-agent"] == "probe"
        assert token not in repr(connection) + repr(sim.handshakes[0])
        assert list(sim.received_frames) == [(connection, "hi")]
    await connection.closed.wait()
    await connection.flush()
    assert connection.close_code == 1000
    assert await sim.wait_connection(1) is connection
    with pytest.raises(TimeoutError):
        await sim.wait_connection(2, timeout=0.01)


async def test_flush_hands_everything_over(sim, watch):
    """After it, even an abort loses nothing."""
    client = await watch(sim)
    for number in range(100):
        sim.push_raw(str(number))
    await sim.flush()
    assert sim.connections[0].sent == 100
    sim.connections[0].abort()
    assert [await client.text() for _ in range(100)] == [str(number) for number in range(100)]


async def test_a_client_that_does_not_read_is_cut_off(simulate):
    """What waits for it is bounded in bytes."""
    sim = await simulate("triverse", buffer=1 << 20)
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port, limit=1 << 10)
    path = f"{ALL}?token={sim.credentials['token']}"
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    connection = await sim.wait_connection()
    while not connection.closed.is_set():
        sim.push_raw("x" * 100_000)
        await asyncio.sleep(0)
    assert connection.close_code == 1006
    writer.close()
    del reader


async def test_a_foreign_client_gets_along(sim):
    """The `websockets` library, with its pings and its offer of compression."""
    async with websockets.connect(f"{sim.url}{ALL}?token={sim.credentials['token']}") as socket:
        await (await socket.ping())
        sim.create_task()
        assert str(await socket.recv()).startswith("event: update\n")


async def test_stop_says_goodbye(simulate, connect):
    """1001 on every connection, and the port is free."""
    sim = await simulate("catalyst")
    client = await connect(sim, "/ws/events/tasks/", uuid=sim.credentials["uuid"])
    await sim.wait_connection()
    port = sim.port
    stopping = asyncio.create_task(sim.stop())
    assert await client.end() == 1001
    await stopping
    async with simulators.Catalyst(simulators.Settings(port=port, rate=0)) as again:
        assert again.port == port


async def test_what_breaks_a_simulator_is_told(simulate, clock):
    """An error in its own tasks is not swallowed."""
    sim = await simulators.start("emit", clock=clock, rate=1.0)

    def broken(happening):
        raise ZeroDivisionError("broken")

    sim.happened = broken
    await clock.advance(30.0)
    with pytest.raises(ExceptionGroup):
        await sim.forever()
    with pytest.raises(ExceptionGroup):
        await sim.stop()


async def test_options_are_checked():
    """An option of another upstream is an error, as are impossible numbers."""
    with pytest.raises(TypeError):
        await simulators.start("catalyst", edition="newer")
    with pytest.raises(ValueError, match="rate"):
        await simulators.start("emit", rate=-1)
    with pytest.raises(ValueError, match="no such fault"):
        Faults().script("fire")


async def test_an_ordinary_request_to_a_stream_is_an_error(sim, http):
    """No upgrade asked for: 400, and no connection."""
    async with http.get(f"{sim.http_url}{ALL}", params={"token": sim.credentials["token"]}) as answer:
        assert answer.status == 400
    assert sim.accepted == 0


async def frames(client, count):
    return [(await client.sse())[1]["progress"] for _ in range(count)]


async def push(sim, count):
    task = sim.create_task(announce=False)
    for progress in range(1, count + 1):
        sim.push_state(task.uuid, progress=progress)


async def test_fault_duplicate(sim, watch):
    """The next frame goes out twice."""
    client = await watch(sim)
    sim.faults.script("duplicate")
    await push(sim, 2)
    assert await frames(client, 3) == [1, 1, 2]


async def test_fault_out_of_order(sim, watch):
    """The next frame goes out after the one behind it."""
    client = await watch(sim)
    sim.faults.script("out_of_order")
    await push(sim, 3)
    assert await frames(client, 3) == [2, 1, 3]


async def test_a_frame_kept_back_comes_before_a_close(simulate, connect):
    """Out of order never means lost: `finalized` still comes before the end of a single-task watch."""
    sim = await simulate("triverse")
    task = sim.create_task()
    client = await connect(sim, f"/api/v1/tasks/watch/{task.uuid}", token=sim.credentials["token"])
    await client.sse()
    sim.faults.script("out_of_order")
    sim.push_state(task.uuid, status="SUCCESS", event="finalized")
    assert (await client.sse())[0] == "finalized"
    assert await client.end() == 1000


async def test_fault_malformed(sim, watch):
    """Half a frame, which is no JSON, and then the whole one."""
    client = await watch(sim)
    sim.faults.script("malformed")
    await push(sim, 1)
    half = await client.text()
    with pytest.raises(json.JSONDecodeError):
        json.loads(half.split("\n")[1].removeprefix("data: "))
    assert await frames(client, 1) == [1]


async def test_fault_drop(sim, watch):
    """The connection is aborted after a frame; the next connection is not."""
    client = await watch(sim)
    sim.faults.script("drop")
    await push(sim, 2)
    assert await frames(client, 1) == [1]
    assert await client.end() == 1006
    again = await watch(sim)
    await push(sim, 1)
    assert await frames(again, 1) == [1]


async def test_fault_stall(simulate, watch):
    """From some frame on nothing comes, and pings stay unanswered if told so."""
    sim = await simulate("triverse", faults=Faults(stalled_answers_pings=False))
    client = await watch(sim, autoping=False)
    await push(sim, 1)
    sim.faults.script("stall")
    await push(sim, 3)
    assert await frames(client, 1) == [1]
    await client.socket.ping()
    await client.socket.send_str("marker")
    await sim.wait_for(lambda: bool(sim.received_frames))
    sim.connections[0].abort()
    assert await client.end() == 1006


async def test_fault_accept_then_close(simulate, watch):
    """A handshake that succeeds and a close at once, without a frame."""
    sim = await simulate("triverse", faults=Faults(accept_then_close=1.0, close_code=1013))
    sim.create_task()
    client = await watch(sim)
    assert await client.end() == 1013
    sim.faults.accept_then_close = 0.0
    client = await watch(sim)
    await push(sim, 1)
    assert await frames(client, 1) == [1]


@pytest.mark.parametrize("kind", ["triverse", "emit", "catalyst"])
async def test_fault_http_500(simulate, connect, kind):
    """A handshake answered with 500, whatever the path and the credentials."""
    sim = await simulate(kind)
    sim.faults.script("http_500")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await connect(sim, "/ws/events/tasks/")
    assert refused.value.status == 500


async def test_faults_by_chance(simulate, watch):
    """A probability strikes some frames and spares others."""
    sim = await simulate("triverse", faults=Faults(duplicate=0.3))
    client = await watch(sim)
    await push(sim, 200)
    sim.push_raw("event: update\ndata: " + json.dumps({"progress": "end"}))
    seen = []
    while not seen or seen[-1] != "end":
        seen += await frames(client, 1)
    assert 230 < len(seen) < 290
