"""Host names to addresses, so that a name service that hangs for one host keeps no other waiting.

Owns the threads that wait for the name service. The event loop's own pool has a handful, each blocked for as long as the
name service likes: a few dead names there would stop everything else that needs a thread. Here a host has one lookup at a
time, however many ask, and hosts that were slow before may only have a part of the threads. Must not know endpoints, nor
which addresses are allowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.clock import Clock

#: Lookups at once, and those among them of hosts that were slow the last time.
THREADS, SLOW_THREADS = 16, 8
#: Seconds after which a lookup was slow.
SLOW = 1.0
#: Hosts that are remembered to be slow; beyond that, the one that was so longest ago is forgotten.
REMEMBERED = 1000

Info = tuple[int, int, int, str, tuple[Any, ...]]
Lookup = Callable[[str, int, int], Sequence[Info]]


def _getaddrinfo(host: str, family: int, flags: int) -> Sequence[Info]:
    return socket.getaddrinfo(host, 0, family=family, type=socket.SOCK_STREAM, flags=flags)


class Names(AbstractResolver):
    """A resolver for `aiohttp.TCPConnector`, to be shared by many. Made inside a running event loop.

    Args:
        clock: tells how long a lookup took.
        lookup: asks the name service for a host, with a family and flags; blocks.
    """

    def __init__(self, clock: Clock, lookup: Lookup = _getaddrinfo) -> None:
        self._clock, self._lookup = clock, lookup
        self._loop = asyncio.get_running_loop()
        self._threads = asyncio.Semaphore(THREADS)
        self._slow_threads = asyncio.Semaphore(SLOW_THREADS)
        self._slow: dict[str, None] = {}
        self._running: dict[tuple[str, int], asyncio.Task[Sequence[Info]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host.

        Raises:
            OSError: it has none, or the name service cannot tell.
        """
        key = (host, int(family))
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.create_task(self._look_up(host, int(family)), name="webhook-lookup")
            running.add_done_callback(lambda task: self._ended(key, task))
        infos = await asyncio.shield(running)  # whoever gives up must not take the answer from the others
        return [
            ResolveResult(
                hostname=host,
                host=_numeric(address),
                port=port,
                family=found,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, _, protocol, _, address in infos
        ]

    async def close(self) -> None:
        """Waits for no lookup any more. Their threads end by themselves and keep no process alive. Idempotent."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _ended(self, key: tuple[str, int], task: asyncio.Task[Sequence[Info]]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # those who wait have it; where nobody waits any more, it is nobody's

    async def _look_up(self, host: str, family: int) -> Sequence[Info]:
        async with self._slow_threads if host in self._slow else contextlib.nullcontext(), self._threads:
            answer: asyncio.Future[Sequence[Info]] = self._loop.create_future()
            began = self._clock.monotonic()
            threading.Thread(target=self._ask, args=(host, family, answer), name="webhook-lookup", daemon=True).start()
            try:
                return await answer
            finally:
                self._slow.pop(host, None)
                if self._clock.monotonic() - began >= SLOW:
                    self._slow[host] = None
                    if len(self._slow) > REMEMBERED:
                        del self._slow[next(iter(self._slow))]

    def _ask(self, host: str, family: int, answer: asyncio.Future[Sequence[Info]]) -> None:
        """Runs in a thread of its own."""
        try:
            infos, error = self._lookup(host, family, socket.AI_ADDRCONFIG), None
        except Exception as caught:  # handed to those who wait
            infos, error = (), caught
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
            self._loop.call_soon_threadsafe(_settle, answer, infos, error)


def _numeric(address: tuple[Any, ...]) -> str:
    """An address as text; a link-local one is nothing without its scope (RFC 4007, section 11)."""
    scoped = len(address) == 4 and address[3] and "%" not in address[0]
    return f"{address[0]}%{address[3]}" if scoped else str(address[0])


def _settle(answer: asyncio.Future[Sequence[Info]], infos: Sequence[Info], error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(infos)
