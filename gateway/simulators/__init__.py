"""Three upstreams that follow their documents, for the demo, the tests and stand-alone use.

They share no code with the adapters: what one side misreads, the other must not misread in the same way.
"""

from __future__ import annotations

from typing import Any, Literal, overload

from gateway.clock import Clock, SystemClock
from gateway.simulators.catalyst import Catalyst
from gateway.simulators.connection import Connection
from gateway.simulators.emit import Emit
from gateway.simulators.faults import Faults
from gateway.simulators.server import Simulator
from gateway.simulators.settings import Settings
from gateway.simulators.triverse import Triverse

__all__ = ["Catalyst", "Connection", "Emit", "Faults", "Kind", "Settings", "Simulator", "Triverse", "start"]

Kind = Literal["triverse", "emit", "catalyst"]


@overload
async def start(kind: Literal["triverse"], **options: Any) -> Triverse: ...
@overload
async def start(kind: Literal["emit"], **options: Any) -> Emit: ...
@overload
async def start(kind: Literal["catalyst"], **options: Any) -> Catalyst: ...
async def start(
    kind: Kind,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 1,
    rate: float = 1.0,
    life: float = 30.0,
    speed: float = 1.0,
    faults: Faults | None = None,
    clock: Clock | None = None,
    retain: float = 600.0,
    most: int = 10_000,
    buffer: int = 8 * 1024 * 1024,
    **options: Any,
) -> Simulator:
    """Starts a simulated upstream; `stop` ends it.

    Args:
        kind: which.
        host: address to listen on.
        port: 0 for any free one.
        seed: one seed, one history.
        rate: new tasks a second; 0 leaves everything to the script.
        life: mean seconds of a task's life at speed 1.
        speed: how many times faster tasks live.
        faults: what goes wrong; nothing by default.
        clock: time; this machine's by default.
        retain: seconds that a finished task is remembered.
        most: how many tasks may live at once, and how many finished ones are remembered.
        buffer: bytes that may wait for one slow client before it is cut off.
        options: those of `Triverse`, `Emit` or `Catalyst`.

    Raises:
        OSError: the port cannot be had.
        TypeError: an option that this upstream does not have.
    """
    settings = Settings(
        host, port, seed, rate, life, speed, faults or Faults(), clock or SystemClock(), retain, most, buffer
    )
    upstreams: dict[str, type[Triverse | Emit | Catalyst]] = {"triverse": Triverse, "emit": Emit, "catalyst": Catalyst}
    simulator = upstreams[kind](settings, **options)
    await simulator.up()
    return simulator
