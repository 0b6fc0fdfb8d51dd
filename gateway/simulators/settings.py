"""What every simulator is started with. Knows no upstream's own options."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.clock import Clock, SystemClock
from gateway.simulators.faults import Faults


@dataclass(frozen=True)
class Settings:
    """What every simulator is started with.

    Attributes:
        host: address to listen on.
        port: 0 for any free one.
        seed: one seed, one history.
        rate: new tasks a second; 0 leaves everything to the script.
        life: mean seconds of a task's life at speed 1.
        speed: how many times faster tasks live.
        faults: what goes wrong.
        clock: time.
        retain: seconds that a finished task is remembered.
        most: how many tasks may live at once, and how many finished ones are remembered.
        buffer: bytes that may wait for one slow client before it is cut off.
    """

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 1
    rate: float = 1.0
    life: float = 30.0
    speed: float = 1.0
    faults: Faults = field(default_factory=Faults)
    clock: Clock = field(default_factory=SystemClock)
    retain: float = 600.0
    most: int = 10_000
    buffer: int = 8 * 1024 * 1024
