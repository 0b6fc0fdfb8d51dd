"""Server-Sent Events text, by the rules of the WHATWG HTML standard, section "Interpreting an event stream".

Owns the framing alone. Must not know what the data means.
"""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """One dispatched event: its type (`message` where none was given) and its data, lines joined by a line feed."""

    type: str
    data: str


class Parser:
    """Incremental: text may be cut anywhere, between CR and LF included. An event is dispatched at its blank line.

    `id` and `retry` fields are understood and left alone: positions here are creation times, and waits are the gateway's.
    """

    def __init__(self) -> None:
        self._rest = ""
        self._started = False
        self._type = ""
        self._data: list[str] = []

    def feed(self, text: str) -> list[Event]:
        """The events that are complete after this piece of text."""
        text = self._rest + text
        if not self._started and text:
            self._started = True
            text = text.removeprefix("\ufeff")
        held = ""
        if "\r" in text:
            # A CR at the very end may be the first half of a CRLF: wait for what follows.
            held = "\r" if text.endswith("\r") else ""
            text = text[: len(text) - len(held)].replace("\r\n", "\n").replace("\r", "\n")
        *lines, last = text.split("\n")
        self._rest = last + held
        return self._lines(lines)

    def close(self) -> list[Event]:
        """The end of the text. A last event without its blank line counts: a frame is whole (unlike a cut HTTP stream)."""
        rest, self._rest, self._started = self._rest.removesuffix("\r"), "", False
        return self._lines([rest, ""] if rest else [""])

    def _lines(self, lines: list[str]) -> list[Event]:
        events: list[Event] = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(Event(self._type or "message", "\n".join(self._data)))
                self._type, self._data = "", []
                continue
            name, _, value = line.partition(":")
            if name == "data":
                self._data.append(value.removeprefix(" "))
            elif name == "event":
                self._type = value.removeprefix(" ")
        return events


def parse(frame: str) -> list[Event]:
    """The events of one whole frame."""
    parser = Parser()
    return parser.feed(frame) + parser.close()
