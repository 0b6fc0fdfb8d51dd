"""Resume: what a subscription starts with, given what the client says it has and what the log still holds.

Pure decisions. Must not know connections or the store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["live", "replayed", "snapshot", "reset"]

_POSITION = re.compile(r"(?:(?P<epoch>[A-Za-z0-9_-]{1,64}):)?(?P<sequence>[0-9]{1,20})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log, as a client names it. `epoch` None: of whatever log this is."""

    sequence: int
    epoch: str | None = None


#: A position that is in no log.
UNKNOWN = Position(0, "")


def parse(text: str) -> Position:
    """`<sequence>` or `<epoch>:<sequence>`.

    Raises:
        ValueError: it is neither.
    """
    match = _POSITION.fullmatch(text)
    if match is None:
        raise ValueError("not a position: expected <sequence> or <epoch>:<sequence>")
    return Position(int(match["sequence"]), match["epoch"])


def decide(after: Position | None, *, snapshot: bool, epoch: str, floor: int, head: int) -> Outcome:
    """How a subscription starts.

    A position that can be resumed from wins over `snapshot`: a client that reconnects with the URL it first connected with
    (as browsers do, adding `Last-Event-ID`) wants what it missed. A position that cannot is answered with `reset`.

    Args:
        after: the last position that the client has.
        snapshot: whether it asks for current states.
        epoch: name of the log.
        floor: greatest position that retention has removed.
        head: position of the last event.
    """
    if after is None:
        return "snapshot" if snapshot else "live"
    if after.epoch not in (None, epoch) or not floor <= after.sequence <= head:
        return "reset"
    return "replayed"
