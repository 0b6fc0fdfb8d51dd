"""Where a reader stands in the gateway's log, and what it has seen. Pure.

A position moves with events of the log and with `stream.synced` alone: whatever else comes (snapshots, notices) says
nothing about completeness, so a cut in its middle must not skip the rest.
"""

from __future__ import annotations

from collections import OrderedDict

from mainstem_client.event import Event

#: Ids that are remembered, to know an event again after the gateway has lost its log and read its upstreams anew.
REMEMBERED = 10_000


class Position:
    """Of one subscription. Feed it every event; `admit` says whether to pass it on."""

    def __init__(self, after: str | None = None) -> None:
        """`after`: `<epoch>:<sequence>` as `text` said, or `<sequence>` alone.

        Raises:
            ValueError: it is neither.
        """
        epoch, colon, sequence = (after or "").rpartition(":")
        if after is not None and not (sequence.isascii() and sequence.isdigit() and len(sequence) <= 20):
            raise ValueError("a position is <sequence> or <epoch>:<sequence>")
        self._epoch: str | None = epoch if colon else None
        self._sequence: int | None = int(sequence) if after is not None else None
        self._log: str | None = None
        self._void = False
        self._seen: OrderedDict[str, None] = OrderedDict()

    @property
    def text(self) -> str | None:
        """What to resume after, `<epoch>:<sequence>`; None before there is anything to resume."""
        if self._sequence is None:
            return None
        return str(self._sequence) if self._epoch is None else f"{self._epoch}:{self._sequence}"

    def admit(self, event: Event) -> bool:
        """Takes note of an event; False for one that was there before."""
        match event.type:
            case "stream.opened":
                self._log = str(event.data.get("epoch"))
            case "stream.subscribed" if event.data.get("resume") == "live":
                self._move(event.sequence)
            case "stream.subscribed":
                self._void = event.data.get("resume") == "reset"
            case "stream.synced":
                self._move(event.sequence)
            case _ if event.in_log:
                return self._note(event)
        return True

    def _move(self, sequence: int) -> None:
        # After a reset the numbers of before say nothing; until something complete has come, they still ask for a reset.
        known = 0 if self._void or self._sequence is None else self._sequence
        self._void, self._epoch, self._sequence = False, self._log, max(sequence, known)

    def _note(self, event: Event) -> bool:
        again = event.id in self._seen
        if not self._void and self._sequence is not None and event.sequence <= self._sequence:
            again = True
        else:
            self._move(event.sequence)
        self._seen[event.id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return not again
