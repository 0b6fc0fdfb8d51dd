"""A process that appends events and delivers them to several endpoints until it is killed, or until nothing is left to do.

Arguments: file of the store, number of events to append, first number of their ids, endpoints as a JSON list of settings.
Says `ready` once it delivers.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

from gateway.clock import SystemClock
from gateway.metrics import Metrics
from gateway.store.api import BODY_HEAD, NO_SEQUENCE, Batch, Draft
from gateway.store.sqlite import SqliteStore
from gateway.webhooks.config import EndpointConfig
from gateway.webhooks.dispatcher import Dispatcher

TASKS = 11
TYPES = ("task.progressed", "task.updated", "task.succeeded")


def draft(number: int) -> Draft:
    body = b'%b%b","id":"e%d","n":%d}' % (BODY_HEAD, NO_SEQUENCE.encode(), number, number)
    return Draft(f"e{number}", TYPES[number % 3], "jobs", f"jobs/{number % TASKS}", None, None, 1000.0, body)


async def main(path: str, count: int, first: int, settings: list[dict[str, Any]]) -> None:
    clock, metrics = SystemClock(), Metrics()
    store = SqliteStore(Path(path), durability="process", clock=clock, metrics=metrics)
    await store.open()
    endpoints = [EndpointConfig.model_validate(one) for one in settings]
    dispatcher = Dispatcher(store, endpoints, clock=clock, rng=random.Random(first), metrics=metrics)
    await dispatcher.start()
    print("ready", flush=True)
    for number in range(first, first + count, 3):
        committed = await store.append(Batch([draft(n) for n in range(number, min(number + 3, first + count))]))
        dispatcher.publish(committed.events)
        await asyncio.sleep(0.004)
    while any(status.position < store.head or status.pending for status in dispatcher.status()):
        await asyncio.sleep(0.01)
    assert dispatcher.failure is None
    assert await dispatcher.drain(5)
    await dispatcher.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])))
