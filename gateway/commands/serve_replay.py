"""A gateway whose upstreams are a capture: what comes of it is stored, served and delivered like anything else."""

from __future__ import annotations

import asyncio
import signal

import structlog

from adapters.api import Observation
from gateway.app import Gateway
from gateway.capture_replay import Replay
from gateway.config import Settings

log = structlog.get_logger(__name__)


async def run(settings: Settings, replay: Replay, speed: float | None) -> int:
    """Runs until SIGTERM or SIGINT. The exit code.

    Args:
        settings: everything but the sources.
        replay: what the upstreams say.
        speed: how many times faster than they said it; None: without waits.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # known, and not connected
    sources = tuple(config.model_copy(update={"enabled": False}) for config in replay.configs)
    gateway = Gateway(settings.model_copy(update={"sources": sources}))
    await gateway.start()
    feeding = asyncio.create_task(_feed(gateway, replay, speed), name="replay")
    waiting = asyncio.create_task(stopped.wait(), name="replay-stopped")
    try:
        await asyncio.wait({feeding, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if feeding.done():
            feeding.result()
            await waiting
    finally:
        for task in (feeding, waiting):
            task.cancel()
        await asyncio.gather(feeding, waiting, return_exceptions=True)
        await gateway.stop()
    return 0


async def _feed(gateway: Gateway, replay: Replay, speed: float | None) -> None:
    before: float | None = None
    observations = 0
    for step in replay.steps():
        if speed is not None and before is not None:
            await asyncio.sleep(max(step.received - before, 0.0) / speed)
        before = step.received
        items = [item for item in step.items if isinstance(item, Observation)]
        observations += len(items)
        await gateway.intake.submit(step.record.source, step.stream, items, received=step.received, cursor=step.cursor)
    await gateway.intake.flush()
    log.info("replay_complete", observations=observations)
