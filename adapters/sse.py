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
        events, self._type, self._data = _dispatch(lines, self._type, self._data)
        return events

    def close(self) -> list[Event]:
        """The end of the text. A last event without its blank line counts: a frame is whole (unlike a cut HTTP stream)."""
        rest, self._rest, self._started = self._rest.removesuffix("\r"), "", False
        events, self._type, self._data = _dispatch([rest, ""], self._type, self._data)
        return events


def parse(frame: str) -> list[Event]:
    """The events of one whole frame."""
    text = frame.removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    lines.append("")
    return _dispatch(lines, "", [])[0]


def _dispatch(lines: list[str], kind: str, data: list[str]) -> tuple[list[Event], str, list[str]]:
    """The events that some lines complete, and what is left of the one that has begun."""
    events: list[Event] = []
    for line in lines:
        if not line:
            if data:
                events.append(Event(kind or "message", data[0] if len(data) == 1 else "\n".join(data)))
            kind, data = "", []
            continue
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif name == "event":
            kind = value.removeprefix(" ")
    return events, kind, data
