"""An attempt that is over is freed by reference counts, however it ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from tests.garbage import circles
from tests.webhooks.fakes import MemoryStore, Receiver, config, dispatching, event, until


async def _hang(request: web.Request, name: str) -> int:
    await asyncio.Event().wait()
    return 200


@pytest.mark.parametrize(
    ("answer", "settings"),
    [
        (None, {}),
        (lambda *_: 500, {"retry_schedule": []}),
        (_hang, {"retry_schedule": [], "timeout": 0.05}),
    ],
    ids=["delivered", "failed", "timed out"],
)
async def test_what_was_tried_is_no_garbage(answer: Any, settings: dict[str, Any]) -> None:
    """A task whose context led back to it was kept for as long as the gateway ran."""
    store = MemoryStore()
    async with Receiver(answer).serve() as receiver, dispatching(store, config(receiver.url, **settings)) as dispatcher:
        dispatcher.publish(store.append(event(1)))  # whatever is made once is made now
        await until(lambda: dispatcher.status()[0].position == 1)
        before = asyncio.all_tasks()
        async with circles() as found:
            dispatcher.publish(store.append(*[event(n, f"jobs/{n}") for n in range(2, 22)]))
            await until(lambda: dispatcher.status()[0].position == 21)
            ending = asyncio.all_tasks() - before
            if ending:
                await asyncio.wait(ending, timeout=0.2)
            del ending
    assert found == {}
