"""Host names: a name service that hangs for some hosts keeps the others from nothing."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.webhooks import names as names_module
from gateway.webhooks.names import Info, Names
from tests.webhooks.fakes import DEADLINE, ManualClock, MemoryStore, Receiver, config, dispatching, event, until


class NameService:
    """Answers at once, short of hosts that begin with `dead`, which wait until they are let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()

    def __call__(self, host: str, family: int, flags: int) -> Sequence[Info]:
        self.asked.append(host)
        if host.startswith("dead"):
            assert self.go.wait(DEADLINE)
        if host.startswith("none"):
            raise socket.gaierror("no such host")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))]


@pytest.fixture
async def service() -> AsyncIterator[NameService]:
    service = NameService()
    yield service
    service.go.set()


async def test_answers(service: NameService) -> None:
    """Addresses come with the port that was asked for; a host without any is an OSError; scopes are kept."""
    names = Names(ManualClock(), service)
    (found,) = await names.resolve("host", 443)
    assert (found["hostname"], found["host"], found["port"], found["family"]) == (
        "host",
        "192.0.2.7",
        443,
        socket.AF_INET,
    )
    with pytest.raises(socket.gaierror):
        await names.resolve("none", 443)
    local = Names(ManualClock(), lambda *_: [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 0, 0, 2))])
    assert (await local.resolve("link", 1))[0]["host"] == "fe80::1%2"
    await names.close()


async def test_real_name_service() -> None:
    """The system's own resolver stands behind it."""
    names = Names(ManualClock())
    assert "127.0.0.1" in {found["host"] for found in await names.resolve("localhost", 80, socket.AF_INET)}


async def test_one_lookup_a_host(service: NameService) -> None:
    """However many ask, and however often somebody gives up, a host has one thread."""
    names = Names(ManualClock(), service)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await names.resolve("dead", 80)
    waiting = [asyncio.create_task(names.resolve("dead", 80)) for _ in range(5)]
    await asyncio.sleep(0)
    assert service.asked == ["dead"]
    service.go.set()
    assert len(await asyncio.gather(*waiting)) == 5
    await names.resolve("dead", 80)
    assert service.asked == ["dead", "dead"]


async def test_slow_hosts_leave_threads_to_others(service: NameService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that were slow the last time have a part of the threads; the others go on."""
    monkeypatch.setattr(names_module, "THREADS", 4)
    monkeypatch.setattr(names_module, "SLOW_THREADS", 2)
    clock = ManualClock()
    names = Names(clock, service)
    hosts = [f"dead{n}" for n in range(4)]
    first = [asyncio.create_task(names.resolve(host)) for host in hosts]
    await until(lambda: len(service.asked) == 4)
    await clock.advance(2)
    service.go.set()
    await asyncio.gather(*first)
    service.go.clear()
    second = [asyncio.create_task(names.resolve(host)) for host in hosts]
    await until(lambda: len(service.asked) == 6)
    await asyncio.gather(*(names.resolve(f"host{n}") for n in range(20)))
    assert len([host for host in service.asked if host.startswith("dead")]) == 6
    service.go.set()
    await asyncio.gather(*second)


async def test_closing_waits_for_nothing(service: NameService) -> None:
    """Whoever waits is cancelled, and the thread keeps nobody from leaving."""
    names = Names(ManualClock(), service)
    waiting = asyncio.create_task(names.resolve("dead", 80))
    await until(lambda: service.asked == ["dead"])
    await names.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "webhook-lookup")


async def test_hanging_name_delays_no_other_endpoint(service: NameService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty endpoints whose names hang, and the event loop's own threads stay free."""
    monkeypatch.setattr(names_module.Names.__init__, "__defaults__", (service,))
    store = MemoryStore()
    async with Receiver().serve() as receiver:
        dead = [config(f"http://dead{n}.example/", name=f"dead{n}") for n in range(30)]
        async with dispatching(store, *dead, config(receiver.url, name="good")) as dispatcher:
            dispatcher.publish(store.append(*[event(n, f"jobs/{n}") for n in range(1, 11)]))
            await receiver.wait(10)
            await until(lambda: len(service.asked) == names_module.THREADS)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(DEADLINE):
                await asyncio.gather(*(loop.run_in_executor(None, len, "x") for _ in range(50)))
            service.go.set()
