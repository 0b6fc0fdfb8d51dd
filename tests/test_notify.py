"""What the service manager is told, over a datagram socket as systemd has one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.notify import Notifier
from tests.process import Process


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that a service manager listens at."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        yield listener


class Ticks:
    """A clock that says when it is slept on, and ends the sleep when told to."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[float] = asyncio.Queue()
        self.go = asyncio.Semaphore(0)

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.asked.put_nowait(seconds)
        await self.go.acquire()


def test_it_says_what_happens(manager: socket.socket) -> None:
    """One message each, in the words of sd_notify(3)."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.ready()
    notifier.reloading(1234.5678901)
    notifier.stopping()
    assert [manager.recv(100) for _ in range(3)] == [
        b"READY=1\nSTATUS=Takes in and passes on",
        b"RELOADING=1\nMONOTONIC_USEC=1234567890\nSTATUS=Reads its configuration again",
        b"STOPPING=1\nSTATUS=Drains",
    ]


def test_the_abstract_namespace() -> None:
    """A name that begins with @ is no path."""
    name = f"mainstem-test-{os.getpid()}-{os.urandom(4).hex()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(20)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert listener.recv(100).startswith(b"READY=1\n")


@pytest.mark.parametrize("value", ["", "vsock:2:1234", "relative/path"])
async def test_outside_of_a_service_manager(value: str) -> None:
    """Nothing is said, nothing is logged, and nobody waits for signs of life."""
    notifier = Notifier({"NOTIFY_SOCKET": value, "WATCHDOG_USEC": "1000000"})
    with capture_logs() as logs:
        notifier.ready()
        notifier.stopping()
        await notifier.watch(Ticks(), lambda: True)
    assert logs == []


def test_a_manager_that_is_gone(tmp_path: Path) -> None:
    """It is said once, and nothing else happens."""
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    with capture_logs() as logs:
        notifier.ready()
        notifier.stopping()
    assert [line["event"] for line in logs] == ["service_manager_unreachable"]


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_pace_of_the_watchdog(environ: dict[str, str], interval: float | None) -> None:
    """Half of what it asks for, where it asks this process."""
    assert Notifier({"NOTIFY_SOCKET": "/x", **environ}, pid=7).interval == interval


async def test_signs_of_life(manager: socket.socket) -> None:
    """One an interval, and none while something has died."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "4000000"})
    clock, well = Ticks(), True
    watching = asyncio.create_task(notifier.watch(clock, lambda: well))
    assert await clock.asked.get() == 2.0
    assert manager.recv(100) == b"WATCHDOG=1"
    well = False
    clock.go.release()
    await clock.asked.get()
    well = True
    clock.go.release()
    await clock.asked.get()
    assert manager.recv(100) == b"WATCHDOG=1"
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_started_gateway(manager: socket.socket, tmp_path: Path) -> None:
    """Ready once it listens, alive after that, reloading when it is told to and ready again, valid or not; stopping at the
    end."""
    config = tmp_path / "config.yaml"
    config.write_text("server: {port: 0}\n")
    environ: dict[str, Any] = {**os.environ, "NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000"}
    process = await Process.start(config, environ)
    try:

        async def heard() -> bytes:
            message = await asyncio.to_thread(manager.recv, 100)
            return message.partition(b"\nSTATUS=")[0]

        assert await heard() == b"READY=1"
        assert [await heard(), await heard()] == [b"WATCHDOG=1"] * 2

        async def next_but_life() -> bytes:
            while (message := await heard()) == b"WATCHDOG=1":
                pass
            return message

        for text in ("server: {port: 0}\nlog: {level: warning}\n", "serve: {}\n"):
            before = time.monotonic_ns() // 1000
            config.write_text(text)
            process.signal(signal.SIGHUP)
            first, _, moment = (await next_but_life()).decode().partition("\nMONOTONIC_USEC=")
            assert first == "RELOADING=1"
            assert before <= int(moment) <= time.monotonic_ns() // 1000
            assert await next_but_life() == b"READY=1"
        process.signal(signal.SIGTERM)
        assert await next_but_life() == b"STOPPING=1"
        assert await process.ended() == 0
    finally:
        await process.kill()
