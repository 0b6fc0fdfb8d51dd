"""Deliveries: from the log to a signed POST that was answered and written down, beside clients that only POST.

What is measured runs on core 0, a process for each measurement: the dispatcher with the store that `mainstem run` uses
(fsynced), or the same signed requests in a bare loop over aiohttp's client, or wrk. The receiver (`sink.c`) is on core 1. CPU
is that of the whole process, the store's thread and the kernel's share included. Bookkeeping is all but the POST itself:
reading the log, order, schedule, verdict, history, row, commit. It is measured with a client that has the answer at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from bench.report import Row
from gateway.clock import SystemClock
from gateway.collector import Collector
from gateway.metrics import Metrics
from gateway.store.api import BODY_HEAD, NO_SEQUENCE, Batch, Draft, LogEvent
from gateway.store.sqlite import SqliteStore
from gateway.webhooks import signing
from gateway.webhooks.client import Client
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.dispatcher import Dispatcher
from gateway.webhooks.sender import Answer

ROUNDS = 3
#: deliveries of one measurement; the first part warms up and does not count
COUNT, WARM_UP = 24_000, 4_000
IN_FLIGHT = 256
TASKS = 1_000
BODY_BYTES = 1_100
#: milliseconds that a real receiver takes, how many requests wait at once for it, on how many endpoints
SLOW, CROWD, ENDPOINTS = 250, 1_000, 4
#: events that are committed one at a time, to see when each is sent
SINGLES = 300
TEN = 10

_HERE = Path(__file__).parent
_HEAD = BODY_HEAD + NO_SEQUENCE.encode() + b'","data":"'
_BODY = _HEAD + b"x" * (BODY_BYTES - len(_HEAD) - 2) + b'"}'
_SECRET = signing.encode_secret(bytes(range(32)))
_WRK = """wrk.method = "POST"
wrk.body = string.rep("x", {size})
wrk.headers["Content-Type"] = "application/cloudevents+json; charset=utf-8"
wrk.headers["webhook-id"] = "0123456789abcdef0123456789"
wrk.headers["webhook-timestamp"] = "1735689600"
wrk.headers["webhook-signature"] = "v1,dfZtf4P1Vqp/53wTdVatI9m72V3QnukToEg3bj5oeeg="
"""


# --- what runs on core 0 -----------------------------------------------------------------------------------------------


def _drafts(first: int, count: int) -> list[Draft]:
    return [
        Draft(
            f"{number:026x}", "task.updated", "bench", f"bench/{number % TASKS}", "flow", "running", time.time(), _BODY
        )
        for number in range(first, first + count)
    ]


def _memory() -> float:
    """Megabytes that the process has in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _endpoints(urls: Sequence[str], concurrency: int) -> list[EndpointConfig]:
    return [
        EndpointConfig.model_validate(
            {"name": f"hook-{number}", "url": url, "secret": _SECRET, "allow_private": True, "concurrency": concurrency}
        )
        for number, url in enumerate(urls)
    ]


@asynccontextmanager
async def _dispatching(store: SqliteStore, configs: Sequence[EndpointConfig]) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(store, configs, clock=SystemClock(), rng=random.Random(1), metrics=Metrics())
    await dispatcher.start()
    try:
        yield dispatcher
        if dispatcher.failure is not None:
            raise RuntimeError(dispatcher.failure)
    finally:
        await dispatcher.drain(5)
        await dispatcher.close()


@asynccontextmanager
async def _stored(path: str) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(Path(path), durability="power", clock=SystemClock())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


class _Progress:
    """Samples of a run, taken as its endpoints move on: when, CPU, memory."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float, float]] = []

    def take(self) -> None:
        """Now."""
        self.samples.append((time.perf_counter(), time.process_time(), _memory()))

    def figures(self, count: int) -> dict[str, float]:
        """Between the first and the last sample, over so many deliveries."""
        (t0, c0, m0), (t1, c1, m1) = self.samples[0], self.samples[-1]
        return {"rate": count / (t1 - t0), "cpu_us": (c1 - c0) / count * 1e6, "grown_mb": m1 - m0, "memory_mb": m1}


async def _deliver(path: str, urls: list[str], count: int, warm_up: int, concurrency: int, watched: int) -> Any:
    """Delivers a log of `count` events to every URL; the figures are about the first `watched` endpoints."""
    clock, configs, progress = SystemClock(), _endpoints(urls, concurrency), _Progress()
    async with _stored(path) as store:
        async with _dispatching(store, configs):
            pass  # they begin where the log ends, so before it is filled
        for first in range(0, count, 1000):
            await store.append(Batch(_drafts(first, 1000)))
        async with _dispatching(store, configs) as dispatcher:
            names = {config.name for config in configs[:watched]}
            for mark in (warm_up, count):
                while any(status.position < mark for status in dispatcher.status() if status.name in names):
                    await clock.sleep(0.005)
                if mark == count:
                    await dispatcher.drain(5)  # written down
                progress.take()
    return progress.figures((count - warm_up) * watched)


async def _answer(client: Client, event: LogEvent) -> Answer:
    await asyncio.sleep(0)
    return Answer("delivered", 204, None, None, None, time.time(), 0.001)


async def _keep_books(path: str, count: int, warm_up: int, concurrency: int) -> Any:
    """As `_deliver`, with a client that has the answer at once."""
    Client.send = _answer  # type: ignore[method-assign]
    return await _deliver(path, ["http://127.0.0.1:9/"], count, warm_up, concurrency, 1)


async def _one_by_one(path: str, url: str) -> list[int]:
    """Commits events one at a time to a log that is read live; when each was committed, in nanoseconds."""
    clock, moments = SystemClock(), []
    async with _stored(path) as store, _dispatching(store, _endpoints([url], IN_FLIGHT)) as dispatcher:
        for number in range(SINGLES):
            committed = await store.append(Batch(_drafts(number, 1)))
            moments.append(time.monotonic_ns())
            dispatcher.publish(committed.events)
            while dispatcher.status()[0].position < number + 1:
                await clock.sleep(0.002)
    return moments


async def _bare(url: str, count: int, warm_up: int, in_flight: int) -> Any:
    """The same signed requests in a loop, and nothing else."""
    keys, progress, done = [signing.decode_secret(_SECRET)], _Progress(), 0
    numbers = iter(range(count))

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal done
        for number in numbers:
            name, now = f"{number:026x}", int(time.time())
            headers = {
                "webhook-id": name,
                "webhook-timestamp": str(now),
                "webhook-signature": signing.sign(keys, name, now, _BODY),
            }
            async with session.post(url, data=_BODY, headers=headers, allow_redirects=False) as response:
                await response.read()
            done += 1
            if done in (warm_up, count):
                progress.take()

    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=in_flight),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Content-Type": "application/cloudevents+json; charset=utf-8", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
        ) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(in_flight):
            group.create_task(work(session))
    return progress.figures(count - warm_up)


_ROLES = {"deliver": _deliver, "keep_books": _keep_books, "one_by_one": _one_by_one, "bare": _bare}


async def _play(role: str, arguments: list[Any]) -> Any:
    collector = Collector(lambda: 0, lambda: 0)
    collector.start()
    try:
        return await _ROLES[role](*arguments)
    finally:
        collector.stop()


def _child(role: str, *arguments: object) -> Any:
    """What a role answers, played in a process of its own on core 0."""
    with tempfile.TemporaryDirectory(prefix="mainstem-bench-") as directory:
        path = [str(Path(directory) / "log.db")] if role != "bare" else []
        finished = subprocess.run(
            [sys.executable, "-m", "bench.webhooks", role, json.dumps([*path, *arguments])],
            check=True, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {0}),
        )  # fmt: skip
    return json.loads(finished.stdout.splitlines()[-1])  # behind what was logged


# --- what runs on core 1 -----------------------------------------------------------------------------------------------


class _Sink:
    """A receiver in C."""

    def __init__(self, program: Path, delay: float) -> None:
        self._process = subprocess.Popen(
            [str(program), str(delay)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/hook"

    def close(self) -> list[int]:
        """When each request arrived, in nanoseconds. Called once."""
        out, _ = self._process.communicate()
        return [int(line) for line in out.split()]


@contextmanager
def _sink(program: Path, delay: float = 0) -> Iterator[str]:
    sink = _Sink(program, delay)
    try:
        yield sink.url
    finally:
        sink.close()


@contextmanager
def _nobody() -> Iterator[str]:
    """A URL at which connections are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/hook"


def _wrk(program: str, url: str) -> float:
    """Requests a second of wrk, with one thread on core 0."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "post.lua"
        script.write_text(_WRK.format(size=len(_BODY)))
        out = subprocess.run(
            [program, "-t", "1", "-c", str(IN_FLIGHT), "-d", "2s", "-s", str(script), url],
            check=True, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {0}),
        ).stdout  # fmt: skip
    return float(next(line.split()[1] for line in out.splitlines() if line.startswith("Requests/sec:")))


# --- the whole ---------------------------------------------------------------------------------------------------------


def _throughput(sink: Path) -> list[Row]:
    wrk = shutil.which("wrk")
    if wrk is None:
        print("not measured, because it is not installed: wrk")
    ours, books, bare, floor = [], [], [], []
    for _ in range(ROUNDS):
        with _sink(sink) as url:
            ours.append(_child("deliver", [url], COUNT, WARM_UP, IN_FLIGHT, 1))
            books.append(_child("keep_books", COUNT, WARM_UP, IN_FLIGHT))
            bare.append(_child("bare", url, COUNT, WARM_UP, IN_FLIGHT))
            if wrk is not None:
                floor.append(_wrk(wrk, url))
    rates, name = [one["rate"] for one in ours], f"delivered from the log and recorded, {IN_FLIGHT} in flight"
    costs, kept, bare_costs = ([one["cpu_us"] for one in runs] for runs in (ours, books, bare))
    return [
        Row(name, rates, "/s", "≥ 4,000", "bare aiohttp", [one["rate"] for one in bare]),
        *([Row(name, rates, "/s", "", "wrk", floor)] if floor else []),
        Row("a delivery", costs, "µs CPU", "", "bare aiohttp", bare_costs),
        Row("all of it but the POST: bookkeeping", kept, "µs CPU", "≤ 20, reach 10", "bare aiohttp", bare_costs),
    ]


def _slow(sink: Path) -> list[Row]:
    figures = []
    with _sink(sink, SLOW) as url:
        urls = [url] * ENDPOINTS
        for _ in range(ROUNDS):
            figures.append(_child("deliver", urls, 5_000, 2_000, CROWD // ENDPOINTS, ENDPOINTS))
    name = f"{CROWD:,} in flight at a receiver that takes {SLOW} ms"
    return [
        Row(name, [one["rate"] for one in figures], "/s", "", "at most", [CROWD / SLOW * 1000]),
        Row(f"{name}, memory grown", [one["grown_mb"] for one in figures], "MB", "≤ 5"),
    ]


def _latency(sink: Path) -> list[Row]:
    middles, tails = [], []
    for _ in range(ROUNDS):
        receiver = _Sink(sink, 0)
        try:
            moments = _child("one_by_one", receiver.url)
        finally:
            arrived = receiver.close()
        waits = sorted((there - here) / 1e6 for here, there in zip(moments, arrived, strict=True))
        middles.append(statistics.median(waits))
        tails.append(waits[len(waits) * 99 // 100])
    return [
        Row("committed until it has arrived, p50", middles, "ms", "≤ 2"),
        Row("committed until it has arrived, p99", tails, "ms"),
    ]


def _beside_a_dead_one(sink: Path) -> list[Row]:
    beside, well = [], []
    for _ in range(ROUNDS):
        with _sink(sink) as url, _nobody() as dead:
            for found, last in ((beside, dead), (well, url)):
                found.append(_child("deliver", [url] * (TEN - 1) + [last], 3_000, 500, IN_FLIGHT, TEN - 1)["rate"])
    return [Row(f"{TEN - 1} endpoints beside a dead one", beside, "/s", "≥ 0.95x", "beside one that is well", well)]


def rows() -> list[Row]:
    """All figures of deliveries; none where there is no C compiler, or no second core for the receiver."""
    compiler = shutil.which("cc")
    if compiler is None or (os.cpu_count() or 1) < 2:
        print("webhooks: skipped, because it needs a C compiler (cc) for its receiver, and two cores")
        return []
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {1})
        with tempfile.TemporaryDirectory() as directory:
            sink = Path(directory) / "sink"
            subprocess.run([compiler, "-O2", "-o", str(sink), str(_HERE / "sink.c")], check=True)
            return [*_throughput(sink), *_latency(sink), *_slow(sink), *_beside_a_dead_one(sink)]
    finally:
        os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_play(sys.argv[1], json.loads(sys.argv[2])))))
