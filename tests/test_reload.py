"""What a reload does with two configurations, and in which order it does one reload after another."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import telemetry
from gateway.config import Auth, Settings
from gateway.errors import ConfigError
from gateway.metrics import Metrics
from gateway.notify import Notifier
from gateway.reload import OUTCOMES, Difference, Reloader, compare
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.manager import Followed

STUDIO = {"name": "studio", "adapter": "triverse", "url": "wss://studio.example.com", "token": "canary-studio"}
OPS = {"name": "ops", "adapter": "catalyst", "url": "wss://ops.example.com", "uuid": "canary-ops"}
TOKEN = {"token": "canary-token", "scope": "admin"}
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
HOOK = {"name": "billing", "url": "https://billing.example.com", "secret": SECRET}


def settings(**sections: Any) -> Settings:
    """As a file that has these sections."""
    return Settings.model_validate({"server": {}, "auth": {}, "store": {}, "log": {}} | sections)


@pytest.mark.parametrize(
    ("before", "after", "now", "restart"),
    [
        ({}, {}, [], []),
        ({}, {"server": {"port": 8080}, "store": {"retain": "7d"}}, [], []),
        ({}, {"log": {"level": "debug"}}, ["log.level"], []),
        ({}, {"log": {"level": "debug", "format": "console"}}, ["log.level", "log.format"], []),
        ({}, {"server": {"port": 1, "host": "::1"}}, [], ["server.host", "server.port"]),
        ({"server": {"port": 1}}, {}, [], ["server.port"]),
        ({}, {"store": {"url": "sqlite:///other.db", "retain": 1}}, [], ["store.url", "store.retain"]),
        ({}, {"webhooks": [HOOK]}, [], []),
        ({"auth": {"tokens": [TOKEN]}}, {"auth": {"tokens": [{**TOKEN, "scope": "events:read"}]}}, ["auth.tokens"], []),
        ({"auth": {"tokens": [TOKEN]}}, {"auth": {"tokens": [TOKEN], "secret": "canary"}}, ["auth.secret"], []),
        ({"auth": {"secret": "a"}}, {"auth": {"secret": "a", "issuer": "x"}}, ["auth.issuer"], []),
        ({"auth": {"secret": "a"}}, {"auth": {"jwks_url": "https://x.example.com"}}, ["auth.secret", "auth.jwks_url"], []),
        ({}, {"auth": {"tokens": [TOKEN]}}, [], ["auth.tokens"]),
        ({"auth": {"tokens": [TOKEN], "issuer": "x"}}, {"auth": {"mode": "none"}}, [], ["auth.issuer", "auth.tokens", "auth.mode"]),
        ({"sources": [STUDIO, OPS]}, {"sources": [OPS, STUDIO]}, [], []),
        ({"sources": [STUDIO]}, {"sources": [OPS, STUDIO]}, [], ["sources[0]"]),
        ({"sources": [STUDIO, OPS]}, {"sources": [STUDIO]}, [], ["sources"]),
        ({"sources": [OPS, STUDIO]}, {"sources": [OPS, {**STUDIO, "token": "canary-2"}]}, [], ["sources[1].token"]),
        ({"sources": [STUDIO]}, {"sources": [{**STUDIO, "reconnect": {"max": 9}}]}, [], ["sources[0].reconnect.max"]),
        ({"sources": [STUDIO]}, {"sources": [{**OPS, "name": "studio"}]}, [], ["sources[0]"]),
    ],
)  # fmt: skip
def test_what_is_different(before: Any, after: Any, now: list[str], restart: list[str]) -> None:
    """Keys as the file has them: what is followed, and what needs a restart. What only follows from another key is not named."""
    assert compare(settings(**before), settings(**after)) == Difference(tuple(now), tuple(restart))


class Clock:
    """Time that stands still until it is set."""

    def __init__(self) -> None:
        self.wall = 1000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return 5.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("a reload waits for no time")


class Told(Notifier):
    """What the service manager was told."""

    def __init__(self) -> None:
        super().__init__({})
        self.words: list[str] = []
        self.rounds = asyncio.Semaphore(0)

    def _send(self, message: str) -> None:
        self.words.append(message)
        if message.startswith("READY=1\n"):
            self.rounds.release()


class House:
    """A reloader among parts that remember what they were told."""

    def __init__(self, **sections: Any) -> None:
        self.file: Settings | Exception = settings(**sections)
        self.done: list[Any] = []
        self.failed: list[str] = []
        self.broken: Exception | None = None
        self.loads = 0
        self.gate = threading.Event()
        self.gate.set()
        self.loading = asyncio.Semaphore(0)
        self.loop = asyncio.get_running_loop()
        self.clock, self.metrics, self.manager = Clock(), Metrics(), Told()
        self.reloader = Reloader(
            self.file, self.load, admit=self.admit, streams=self, webhooks=self,
            notifier=self.manager, clock=self.clock, metrics=self.metrics,
        )  # fmt: skip

    def load(self) -> Settings:
        self.loads += 1
        file = self.file
        self.loop.call_soon_threadsafe(self.loading.release)
        assert self.gate.wait(20)
        if isinstance(file, Exception):
            raise file
        return file

    def admit(self, auth: Auth) -> None:
        self.done.append([token.scope for token in auth.tokens])

    async def judge(self) -> int:
        self.done.append("judge")
        return 3

    async def follow(self, files: Sequence[EndpointConfig]) -> Followed:
        if self.broken is not None:
            raise self.broken
        self.done.append([file.name for file in files])
        return Followed(["a"], ["b"], ["c"], self.failed)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[House]:
        task = asyncio.create_task(self.reloader.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    def counted(self) -> dict[str, float]:
        return {outcome: self.metrics.config_reloads.labels(outcome)._value.get() for outcome in OUTCOMES}


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Levels that the log was set to; it stays as it is, so that it can be looked at."""
    found: list[str] = []
    monkeypatch.setattr(telemetry, "reconfigure", lambda level, format: found.append(level))
    return found


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Undoes what a test sets up."""
    yield
    telemetry.configure("info", "console")


async def test_tokens_come_first() -> None:
    """Who must not get in any more does not, whatever the rest takes; then webhooks, then the log, then the line."""
    house = House(auth={"tokens": [TOKEN]})
    house.file = settings(auth={"tokens": [{**TOKEN, "scope": "events:read"}]}, webhooks=[HOOK], server={"port": 1})
    with capture_logs() as logs:
        assert await house.reloader.reload() == "success"
    assert house.done == [["events:read"], "judge", ["billing"]]
    assert logs == [
        {"event": "configuration_needs_restart", "log_level": "warning", "keys": ("server.port",)},
        {
            "event": "configuration_reloaded", "log_level": "info", "changed": ("auth.tokens",),
            "webhooks_added": ["a"], "webhooks_changed": ["b"], "webhooks_removed": ["c"], "streams_closed": 3,
        },
    ]  # fmt: skip


async def test_what_was_followed_is_not_followed_again(levels: list[str]) -> None:
    """And what was not, is still said to need a restart."""
    house = House(auth={"tokens": [TOKEN]})
    house.file = settings(auth={"tokens": [{**TOKEN, "name": "x"}]}, log={"level": "error"}, server={"port": 1})
    await house.reloader.reload()
    house.done.clear()
    with capture_logs() as logs:
        assert await house.reloader.reload() == "success"
    assert house.done == [[]]  # each endpoint is compared where it works
    assert levels == ["error"]
    assert [line.get("changed", line.get("keys")) for line in logs] == [("server.port",), ()]


async def test_another_mode_is_not_followed_in_part() -> None:
    """Neither are the tokens that come with it."""
    house = House()
    house.file = settings(auth={"tokens": [TOKEN]})
    with capture_logs() as logs:
        assert await house.reloader.reload() == "success"
    assert house.done == [[]]
    assert logs[0]["keys"] == ("auth.tokens",)


async def test_what_is_not_valid() -> None:
    """Nothing is done, and the problems are in one line."""
    house = House()
    house.file = ConfigError("config.yaml:1: a: is wrong\nconfig.yaml:2: b: is wrong")
    with capture_logs() as logs:
        assert await house.reloader.reload() == "invalid"
    assert house.done == []
    problems = ["config.yaml:1: a: is wrong", "config.yaml:2: b: is wrong"]
    assert logs == [{"event": "configuration_invalid", "log_level": "error", "problems": problems}]


async def test_what_fails_is_told_and_tried_again(levels: list[str]) -> None:
    """An endpoint that could not be changed, and a fault of the gateway: it runs on, and the next reload does the rest."""
    house = House(auth={"tokens": [TOKEN]})
    house.failed = ["billing"]
    with capture_logs() as logs:
        assert await house.reloader.reload() == "failed"
    assert logs[0] == {"event": "configuration_not_followed", "log_level": "error", "webhooks": ["billing"]}
    house.broken = RuntimeError("boom")
    house.file = settings(log={"level": "error"}, auth={"tokens": [TOKEN]})
    with capture_logs() as logs:
        assert await house.reloader.reload() == "failed"
    assert [(line["event"], line["log_level"]) for line in logs] == [("configuration_not_followed", "error")]
    house.broken, house.failed = None, []
    with capture_logs() as logs:
        assert await house.reloader.reload() == "success"
    assert logs[-1]["changed"] == ("log.level",)
    assert levels == ["error"]


@pytest.mark.usefixtures("logging_as_before")
async def test_what_is_read_is_masked_before_it_can_be_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Of sources, too, which wait for a restart."""
    telemetry.configure("info", "json")
    house = House()
    house.file = settings(sources=[STUDIO], webhooks=[HOOK])
    house.broken = RuntimeError(f"canary-studio {SECRET}")
    assert await house.reloader.reload() == "failed"
    out = capsys.readouterr().out
    assert "configuration_not_followed" in out
    assert "canary" not in out
    assert SECRET.removeprefix("whsec_") not in out


async def test_one_after_the_other() -> None:
    """Asked again and again while one is under way, one more follows, of the file as it is then."""
    house = House()
    house.gate.clear()
    async with house.running():
        house.reloader.ask()
        await house.loading.acquire()
        house.file = settings(webhooks=[HOOK])
        for _ in range(5):
            house.reloader.ask()
        assert house.loads == 1
        house.gate.set()
        for _ in range(2):
            await house.manager.rounds.acquire()
    assert house.done == [[], ["billing"]]
    assert house.loads == 2
    assert (
        house.manager.words
        == [
            "RELOADING=1\nMONOTONIC_USEC=5000000\nSTATUS=Reads its configuration again",
            "READY=1\nSTATUS=Takes in and passes on",
        ]
        * 2
    )


async def test_what_is_measured() -> None:
    """Each outcome from the start on, and when the configuration was last followed: first at the start."""
    house = House()
    assert house.counted() == {"success": 0, "invalid": 0, "failed": 0}
    assert house.metrics.config_loaded._value.get() == 1000
    async with house.running():
        house.clock.wall, house.file = 2000.0, ConfigError("x: y")
        house.reloader.ask()
        await house.manager.rounds.acquire()
        assert house.metrics.config_loaded._value.get() == 1000
        house.file = settings()
        house.reloader.ask()
        await house.manager.rounds.acquire()
    assert house.metrics.config_loaded._value.get() == 2000
    assert house.counted() == {"success": 1, "invalid": 1, "failed": 0}
