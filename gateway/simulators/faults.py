"""What can go wrong on the way from an upstream: which faults exist, and when each strikes.

Pure: chance is handed in. Knows nothing of sockets; `connection` and `server` ask before each frame and handshake and
carry the fault out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

FaultName = Literal["drop", "stall", "accept_then_close", "malformed", "duplicate", "out_of_order", "http_500"]


class Coin(Protocol):
    """Chance, as `random.Random` has it."""

    def random(self) -> float:
        """A number in [0, 1)."""


@dataclass
class Faults:
    """A switch per fault. Each is a probability, per frame or per handshake; `script` makes the next ones certain.

    Attributes:
        drop: the TCP connection is aborted after a frame, without a close frame.
        stall: the connection stays open, and nothing is sent on it any more.
        accept_then_close: a handshake succeeds and the socket is closed at once, before any frame.
        malformed: the first half of a frame goes out ahead of the whole one.
        duplicate: a frame goes out twice.
        out_of_order: a frame goes out after the one that follows it, or before a close.
        http_500: a handshake is answered with HTTP 500 (documented by Catalyst, possible anywhere).
        stalled_answers_pings: whether a stalled connection still answers pings.
        close_code: the close code of `accept_then_close`.
    """

    drop: float = 0.0
    stall: float = 0.0
    accept_then_close: float = 0.0
    malformed: float = 0.0
    duplicate: float = 0.0
    out_of_order: float = 0.0
    http_500: float = 0.0
    stalled_answers_pings: bool = True
    close_code: int = 1000
    _scripted: dict[str, int] = field(default_factory=dict, repr=False)

    def script(self, name: FaultName, count: int = 1) -> None:
        """Makes the fault certain for the next `count` frames (or handshakes).

        Raises:
            ValueError: there is no such fault.
        """
        if name not in get_args(FaultName):
            raise ValueError(f"no such fault: {name}")
        self._scripted[name] = self._scripted.get(name, 0) + count

    def strikes(self, name: FaultName, coin: Coin) -> bool:
        """Whether the fault happens now. The coin is thrown only for a fault that is switched on."""
        if self._scripted.get(name, 0) > 0:
            self._scripted[name] -= 1
            return True
        probability: float = getattr(self, name)
        return probability > 0.0 and coin.random() < probability
