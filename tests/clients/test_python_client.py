"""`mainstem_client`: against a started gateway through a line that breaks at random, and against one that says no."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web

import mainstem_client
from gateway import simulators
from mainstem_client import Connected, Disconnected, Reconnect, Refused, State, retry, token
from mainstem_client import event as events
from mainstem_client.position import Position
from tests.clients.kit import Upstream, gateway, serving
from tests.e2e.kit import QUICK, log_of, write
from tests.process import running

QUICKLY = Reconnect(initial=0.01, max=0.05)
SEEDED = random.Random


class Line:
    """A TCP proxy whose connections break off after a random number of bytes, in the middle of whatever there is."""

    def __init__(self, target: str, rng: random.Random, most: int) -> None:
        self._host, _, port = target.removeprefix("http://").partition(":")
        self._port = int(port)
        self._rng = rng
        self._most = most
        self.cuts = 0
        self.url = ""

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        left = self._rng.randint(1, self._most)

        async def forward() -> None:
            while data := await reader.read(65536):
                back.write(data)

        forwarding = asyncio.create_task(forward())
        try:
            while left > 0 and (data := await there.read(left)):
                left -= len(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the client was the first to go
        finally:
            self.cuts += 1
            forwarding.cancel()
            await asyncio.gather(forwarding, return_exceptions=True)
            for end in (writer, back):
                end.transport.abort()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Line]:
        """Listens on loopback."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_nothing_is_lost_or_doubled(tmp_path: Path, seed: int) -> None:
    """400 events through a line that breaks every few kilobytes: each once, in the order of the log."""
    rng = SEEDED(seed)
    async with (
        Upstream().running() as upstream,
        gateway(tmp_path, upstream) as house,
        Line(house.url, rng, 12_000).open() as line,
        mainstem_client.connect(line.url, reconnect=QUICKLY, rng=rng) as client,
    ):
        await upstream.say(1)
        stream = client.events(type="task.progressed", after=0)
        speaking = asyncio.create_task(upstream.say(399))
        got: list[mainstem_client.Event] = []
        async with asyncio.timeout(60):
            async for event in stream:
                got.append(event)
                if len(got) == 400:
                    break
        await speaking
        logged = [event for event in await log_of(house.url) if event["type"] == "task.progressed"]
    assert [json.loads(event.text) for event in got] == logged
    assert line.cuts > 20


async def test_a_gateway_that_restarts(tmp_path: Path) -> None:
    """A drain and a kill: the same iterator goes on, and `position` is enough for another program to go on from there."""
    states: list[State] = []
    async with Upstream().running() as upstream, gateway(tmp_path, upstream) as house:
        async with mainstem_client.connect(house.url, reconnect=QUICKLY) as client:
            stream = client.events(type="task.*", after=0, on_state=states.append)
            await upstream.say(3)
            steps = [(await anext(stream)).data["detail"]["step"] for _ in range(3)]
            await house.stop()
            await house.start()
            await upstream.say(2)
            steps += [(await anext(stream)).data["detail"]["step"] for _ in range(2)]
            await house.kill()
            await house.start()
            position = stream.position
        await upstream.say(2)
        async with mainstem_client.connect(house.url) as client:
            later = client.events(type="task.*", after=position)
            steps += [(await anext(later)).data["detail"]["step"] for _ in range(2)]
    assert steps == [f"schöner Schritt {number}" for number in range(1, 8)]
    assert states[0] == Connected("replayed")
    assert isinstance(states[1], Disconnected)
    assert states[1].error == "shutting down, close code 1001"


async def test_a_program_that_is_slow(tmp_path: Path) -> None:
    """More than the queue, the socket and the gateway's buffer hold: progress is folded or sent again, the end comes."""
    async with (
        Upstream().running() as upstream,
        gateway(tmp_path, upstream, stream_buffer=4096) as house,
        mainstem_client.connect(house.url, reconnect=QUICKLY) as client,
    ):
        await upstream.say(1)
        stream = client.events(after=0, type="task.*", notices=True)
        first = [await anext(stream) for _ in range(4)]
        assert [event.type for event in first][:2] == ["stream.opened", "stream.subscribed"]
        await upstream.say(5999)
        async with asyncio.timeout(60):
            while (await log_of(house.url))[-1]["data"].get("detail", {}).get("step") != "schöner Schritt 6000":
                await asyncio.sleep(0.05)
            got = []
            async for event in stream:
                if event.in_log:
                    got.append(event)
                    if event.data["detail"]["step"] == "schöner Schritt 6000":
                        break
    sequences = [event.sequence for event in got]
    assert sequences == sorted(set(sequences))


async def test_a_task_to_its_end(tmp_path: Path) -> None:
    """`task(...).done()` with the least of tokens, renewed by a function; and again once it is over: the snapshot."""
    secret = "a-shared-secret-of-32-bytes-or-more"
    asked = 0

    async def bring() -> str:
        nonlocal asked
        asked += 1
        claims = {"exp": int(time.time()) + 600, "scope": "events:read:progress", "tasks": [key]}
        return jwt.encode(claims, secret, algorithm="HS256")

    async with await simulators.start("triverse", rate=0) as upstream:
        source = {"name": "studio", "adapter": "triverse", "url": upstream.url, "token": upstream.credentials["token"]}
        config = write(tmp_path, auth={"secret": secret}, sources=[{**source, **QUICK}])
        async with running(config) as url:
            await upstream.wait_connection()
            task = upstream.create_task(status="RUNNING", progress=5)
            key = f"studio/{task.uuid}"
            async with asyncio.timeout(60), mainstem_client.connect(url, token=bring, reconnect=QUICKLY) as client:
                seen = []
                async for event in client.task(key):
                    seen.append(event.type)
                    if event.task is not None and event.task.status == "running":
                        upstream.push_state(task.uuid, status="SUCCESS", progress=100)
                done = await client.task(key).done()
    assert seen[-1] == "task.succeeded"
    assert done.type == "task.snapshot"
    assert done.task is not None
    assert done.task.finished
    assert done.data["redacted"] is True
    assert asked == 2


# --- a gateway that says no ------------------------------------------------------------------------------------------


def frame(kind: str, sequence: int = 0, **data: Any) -> str:
    return json.dumps({
        "specversion": "1.0", "id": f"e-{kind}-{sequence}", "source": "/mainstem", "type": kind,
        "time": "2026-01-01T00:00:00Z", "sequence": f"{sequence:020d}", "data": data,
    })  # fmt: skip


class Script:
    """A gateway that plays one act per connection; remembers what it was asked."""

    def __init__(self, *acts: Callable[[web.WebSocketResponse], Awaitable[None]] | web.Response) -> None:
        self._acts = list(acts)
        self.commands: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers.get("Authorization"))
        act = self._acts.pop(0)
        if isinstance(act, web.Response):
            return act
        socket = web.WebSocketResponse(timeout=1)
        await socket.prepare(request)
        await socket.send_str(frame("stream.opened", epoch="log-1"))
        self.commands.append(await socket.receive_json())
        await act(socket)
        return socket

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/below/v1/stream", self.handle)
        async with serving(app) as url:
            yield f"{url}/below"


def closing(code: int, *events: int, wait: int | None = None) -> Callable[[web.WebSocketResponse], Awaitable[None]]:
    """Sends these events of the log, and closes."""

    async def act(socket: web.WebSocketResponse) -> None:
        await socket.send_str(frame("stream.subscribed", id="events", resume="live"))
        for sequence in events:
            await socket.send_str(frame("source.connected", sequence))
        await socket.send_str(frame("stream.closing", reason="just_because", reconnect_after_ms=wait, code=code))
        await socket.close(code=code)

    return act


async def refusing(socket: web.WebSocketResponse) -> None:
    await socket.send_str(frame("stream.error", id="events", code="not_allowed", message="no"))


async def read(url: str, count: int, **options: Any) -> tuple[list[int], list[State]]:
    """Sequences of so many events, and what was said of the connection meanwhile."""
    states: list[State] = []
    async with asyncio.timeout(20), mainstem_client.connect(url, reconnect=QUICKLY, rng=SEEDED(1), **options) as client:
        stream = client.events(on_state=states.append)
        return [(await anext(stream)).sequence for _ in range(count)], states


async def test_too_slow_comes_back_at_once_after_what_it_has() -> None:
    """4208 after an event: no wait. What was there before is not passed on again."""
    script = Script(closing(4208, 1, 2), closing(1000, 2, 3))
    async with script.running() as url:
        got, states = await read(url, 3)
    assert got == [1, 2, 3]
    assert script.commands[0] == {"op": "subscribe", "id": "events", "filter": {}, "snapshot": False}
    assert script.commands[1]["after"] == "log-1:2"
    assert states[1] == Disconnected("just because, close code 4208", 0.0)


async def test_waits_are_those_that_were_asked_for_or_random() -> None:
    """1001 and `Retry-After` are lower bounds; 41xx and a cut wait with jitter; other waits grow until an event comes."""
    script = Script(
        closing(1001, 1, wait=70), closing(4129), web.Response(status=503, headers={"Retry-After": "0"}),
        web.Response(status=429), closing(1000, 2),
    )  # fmt: skip
    async with script.running() as url:
        got, states = await read(url, 2)
    assert got == [1, 2]
    waits = [state.retry_in for state in states if isinstance(state, Disconnected)]
    assert waits[0] == 0.07
    rng = SEEDED(1)
    chances = [rng.random() for _ in range(4)]
    assert waits[1:4] == [QUICKLY.delay(attempt, chances[attempt]) for attempt in (1, 2, 3)]


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (closing(4000), 4000),
        (closing(4003), 4003),
        (closing(1008), 1008),
        (closing(4001), 4001),
        (closing(4009, 1), 4009),
        (refusing, "not_allowed"),
        (web.Response(status=403), 403),
        (web.Response(status=401), 401),
        (web.Response(status=404), 404),
    ],
)
async def test_refusals_come_out(act: Any, code: int | str) -> None:
    """What would be refused again is not tried again, and what came before it is still delivered."""
    script = Script(act)
    async with script.running() as url, mainstem_client.connect(url, token="t", reconnect=QUICKLY) as client:
        with pytest.raises(Refused) as caught:
            async for _ in client.events():
                pass
    assert caught.value.code == code
    assert script.tokens == ["Bearer t"]


async def test_a_function_brings_new_tokens() -> None:
    """4009 and 401 ask it once more each; a token that is refused right away again is the end."""
    numbers = iter(range(1, 10))
    script = Script(closing(4009, 1), closing(4009, 2), web.Response(status=401), web.Response(status=401))
    async with (
        script.running() as url,
        mainstem_client.connect(url, token=lambda: f"t{next(numbers)}", reconnect=QUICKLY) as client,
    ):
        stream = client.events()
        got = [(await anext(stream)).sequence for _ in range(2)]
        with pytest.raises(Refused):
            await anext(stream)
    assert got == [1, 2]
    assert script.tokens == ["Bearer t1", "Bearer t2", "Bearer t3"]


async def test_a_token_is_renewed_before_it_ends() -> None:
    """On the open connection, with the command for it."""
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def act(socket: web.WebSocketResponse) -> None:
        await heard.put(await socket.receive_json())
        await socket.send_str(frame("source.connected", 1))

    ends = iter((0.4, 600.0))

    async def bring() -> str:
        return jwt.encode({"exp": time.time() + next(ends)}, "k" * 32, algorithm="HS256")

    async with Script(act).running() as url:
        await read(url, 1, token=bring)
    command = heard.get_nowait()
    assert command["op"] == "authenticate"
    assert (token.expires(command["token"]) or 0) > time.time() + 500


async def test_what_the_function_raises_comes_out() -> None:
    """An identity provider that fails is for the program to judge."""

    async def bring() -> str:
        raise LookupError("no such user")

    async with mainstem_client.connect("http://127.0.0.1:1", token=bring) as client:
        with pytest.raises(LookupError):
            await anext(client.events())


async def test_gives_up_when_told_to() -> None:
    """A number of attempts in a row; the words hold no URL."""
    async with mainstem_client.connect("http://127.0.0.1:1", reconnect=Reconnect(initial=0.01, give_up=3)) as client:
        with pytest.raises(mainstem_client.ClientError, match=r"^no connection after 3 attempts: [^/]*refused$"):
            await anext(client.events())


async def test_leaving_ends_who_waits() -> None:
    """The client closes every subscription: an iterator that waits in another task ends, and no task is left."""

    async def act(socket: web.WebSocketResponse) -> None:
        await socket.send_str(frame("source.connected", 1))
        await socket.receive()

    got: asyncio.Queue[int] = asyncio.Queue()

    async def consume(client: mainstem_client.Client) -> None:
        async for event in client.events():
            await got.put(event.sequence)

    async with Script(act).running() as url:
        async with mainstem_client.connect(url) as client:
            consuming = asyncio.create_task(consume(client))
            assert await got.get() == 1
        await consuming
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("mainstem-client")]


# --- pure parts ------------------------------------------------------------------------------------------------------


def test_the_position_moves_with_the_log_alone() -> None:
    """A cut in the middle of a snapshot starts over; one in the middle of a reset asks for the reset again."""
    place = Position("old:7")
    for text in (frame("stream.opened", 50, epoch="new"), frame("stream.subscribed", 50, resume="reset")):
        assert place.admit(events.parse(text))
    snapshot = json.loads(frame("task.snapshot", 50)) | {"data": {"task": None}}
    assert place.admit(events.parse(json.dumps(snapshot)))
    assert place.text == "old:7"
    assert place.admit(events.parse(frame("stream.synced", 3)))
    assert place.text == "new:3"
    assert not place.admit(events.parse(frame("source.gap", 3)))
    assert place.admit(events.parse(frame("source.gap", 4)))
    assert place.text == "new:4"


def test_an_event_is_known_again_in_another_log() -> None:
    """A gateway that lost its log reads its upstreams anew: the same occurrence has the same id, at another place."""
    place = Position()
    again = json.loads(frame("task.started", 3)) | {"data": {"task": None}}
    place.admit(events.parse(frame("stream.opened", 9, epoch="old")))
    assert place.admit(events.parse(json.dumps(again | {"sequence": f"{9:020d}"})))
    place.admit(events.parse(frame("stream.opened", 2, epoch="new")))
    place.admit(events.parse(frame("stream.subscribed", 2, resume="reset")))
    assert not place.admit(events.parse(json.dumps(again)))
    assert place.text == "new:3"


@pytest.mark.parametrize("text", ["", "x", "a:", ":", "-1", "1.0", "9" * 21])
def test_positions_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="a position is"):
        Position(text)


@pytest.mark.parametrize(
    "text",
    [
        "{}", "[]", "3", "null", '{"type": 1, "data": {}}', "{", '{"type": "task.x", "data": []}', "[" * 5000,
        '{"type": "x", "id": "", "source": "", "time": "", "sequence": 1e400, "data": {}}',
    ],
)  # fmt: skip
def test_what_is_no_event(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # json's own words where it is no JSON
        events.parse(text)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (None, "backoff"), (1000, "backoff"), (1001, "backoff"), (1006, "backoff"), (1011, "backoff"), (1008, "refused"),
        (1009, "refused"), (4000, "refused"), (4001, "renew"), (4003, "refused"), (4009, "renew"), (4077, "refused"),
        (4129, "backoff"), (4199, "backoff"), (4208, "at_once"), (4299, "at_once"), (4300, "backoff"),
    ],
)  # fmt: skip
def test_close_codes_by_class(code: int | None, verdict: str) -> None:
    assert retry.after_close(code) == verdict


def test_waits() -> None:
    """Full jitter below a ceiling that doubles; what is asked for is a lower bound, and bounded."""
    reconnect = Reconnect(initial=1, max=10)
    assert [reconnect.delay(attempt, 1.0) for attempt in (0, 1, 2, 3, 4, 10_000)] == [1, 2, 4, 8, 10, 10]
    assert reconnect.delay(3, 0.25) == 2
    assert reconnect.delay(0, 0.0, asked=7) == 7
    assert reconnect.delay(0, 0.0, asked=1e9) == retry.LONGEST_REQUEST
    assert retry.retry_after("12", 0) == 12
    assert retry.retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 20.0) == 40
    assert retry.retry_after("soon", 0) is None
    assert retry.retry_after(None, 0) is None


def test_when_a_token_is_renewed() -> None:
    """Half a minute before its end, a short one at three quarters; opaque tokens and endless ones never."""
    assert token.renewal(jwt.encode({"exp": 1600}, "k" * 32), 1000) == 570
    assert token.renewal(jwt.encode({"exp": 1040}, "k" * 32), 1000) == 30
    assert token.renewal(jwt.encode({"exp": 900}, "k" * 32), 1000) == 0
    assert token.renewal(jwt.encode({}, "k" * 32), 1000) is None
    for text in ("opaque", "a.b.c", "a.bnVsbA.c"):
        assert token.renewal(text, 0) is None


@pytest.mark.parametrize("url", ["", "host:80", "ftp://h", "http://", "http://u:p@h", "http://h?token=t", "http://h#x"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="the URL of a gateway"):
        mainstem_client.connect(url)


def test_needs_nothing_of_the_gateway() -> None:
    """It can be copied out, or installed alone: aiohttp is enough."""
    code = (
        "import sys, mainstem_client\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'gateway', 'adapters', 'schemas', 'pydantic',"
        " 'msgspec', 'structlog', 'click', 'jwt', 'prometheus_client', 'uvloop', 'ruamel'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
