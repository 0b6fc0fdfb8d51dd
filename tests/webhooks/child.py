"""A process that appends events and delivers them until it is killed, or until nothing is left to do.

Arguments: file of the store, URL of the receiver, number of events to append, first number of their ids.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from gateway.clock import SystemClock
from gateway.metrics import Metrics
from gateway.store.api import BODY_HEAD, NO_SEQUENCE, Batch, Draft
from gateway.store.sqlite import SqliteStore
from gateway.webhooks.dispatcher import Dispatcher
from tests.webhooks.fakes import config, until


def draft(number: int) -> Draft:
    body = b'%b%b","id":"e%d"}' % (BODY_HEAD, NO_SEQUENCE.encode(), number)
    task = f"jobs/{number % 13}"
    return Draft(f"e{number}", "task.updated", "jobs", task, None, None, 1000.0, body)


async def main(path: str, url: str, count: int, first: int) -> None:
    clock, metrics = SystemClock(), Metrics()
    store = SqliteStore(Path(path), durability="process", clock=clock, metrics=metrics)
    await store.open()
    endpoint = config(url, retry_schedule=[0.01] * 32, concurrency=8)
    dispatcher = Dispatcher(store, [endpoint], clock=clock, rng=random.Random(first), metrics=metrics)
    await dispatcher.start()
    for number in range(first, first + count, 5):
        committed = await store.append(Batch([draft(n) for n in range(number, number + 5)]))
        dispatcher.publish(committed.events)
        await asyncio.sleep(0.001)
    await until(lambda: dispatcher.status()[0].position == store.head and not dispatcher.status()[0].pending)
    assert dispatcher.failure is None
    assert await dispatcher.drain(5)
    await dispatcher.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
