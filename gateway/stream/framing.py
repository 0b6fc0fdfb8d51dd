"""Framing: the bytes that carry one event over a WebSocket or a Server-Sent Events response.

A form is a view and a framing together: connections of one form get the same bytes for the same event. Must not know
sockets: bytes in, bytes out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from gateway.stream import views
from gateway.stream.deflate import Compressor

#: Shorter messages are not compressed: that would save less than a packet, and the notices, which are not shared, are short.
SMALL = 600
_compress = Compressor().compress

#: Payloads longer than this need more than one byte for their length (RFC 6455, section 5.2).
_SHORT, _MEDIUM = 125, 0xFFFF

#: A ping without payload, and a comment line that keeps intermediaries from closing an idle response.
PING = b"\x89\x00"
HEARTBEAT = b": \n\n"


def text_frame(payload: bytes) -> bytes:
    """One unmasked, unfragmented text message (RFC 6455, section 5.2)."""
    return _frame(0x81, payload)


def deflated_frame(payload: bytes) -> bytes:
    """The same, compressed where that helps (RFC 7692, section 7.2.1)."""
    if len(payload) >= SMALL:
        data = _compress(payload)
        if len(data) < len(payload):
            return _frame(0xC1, data)
    return text_frame(payload)


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping, with its payload of at most 125 bytes (RFC 6455, section 5.5.3)."""
    return _frame(0x8A, payload)


def close_frame(code: int, reason: str) -> bytes:
    """The frame that begins or answers the closing handshake (RFC 6455, section 5.5.1); reasons are short."""
    return _frame(0x88, struct.pack("!H", code) + reason.encode())


def _frame(head: int, payload: bytes) -> bytes:
    size = len(payload)
    if size <= _SHORT:
        return bytes((head, size)) + payload
    if size <= _MEDIUM:
        return struct.pack("!BBH", head, 126, size) + payload
    return struct.pack("!BBQ", head, 127, size) + payload


def payloads(frames: bytes) -> list[tuple[int, bytes]]:
    """Opcode and payload of each of some joined frames made here, short of compressed ones."""
    found, at = [], 0
    while at < len(frames):
        opcode, size = frames[at] & 0x0F, frames[at + 1]
        at += 2
        if size > _SHORT:
            width = 2 if size == _SHORT + 1 else 8
            size = int.from_bytes(frames[at : at + width], "big")
            at += width
        found.append((opcode, frames[at : at + size]))
        at += size
    return found


def sse_block(body: bytes, kind: str, sequence: int | None, retry: int | None = None) -> bytes:
    """One event of a Server-Sent Events stream (HTML standard, section 9.2.6).

    Args:
        body: JSON; line breaks in it (white space only, JSON has none inside strings) become further `data` lines.
        kind: the `event` field.
        sequence: the `id` field, None for an event that must not move the resume position.
        retry: milliseconds that the client is to wait before it reconnects, from now on.
    """
    if b"\n" in body or b"\r" in body:
        body = b"\ndata: ".join(body.splitlines())
    head = b"" if sequence is None else b"id: %020d\n" % sequence
    if retry is not None:
        head += b"retry: %d\n" % retry
    return b"%bevent: %b\ndata: %b\n\n" % (head, kind.encode(), body)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked HTTP/1.1 body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass(frozen=True, slots=True)
class Framing:
    """How a connection carries an event: body, type, position (None where it must not move the client's), retry → bytes."""

    name: str
    event: Callable[[bytes, str, int | None, int | None], bytes]
    #: what keeps an idle connection alive and finds a dead one
    beat: bytes


def _websocket(body: bytes, kind: str, sequence: int | None, retry: int | None) -> bytes:
    return text_frame(body)


def _deflated(body: bytes, kind: str, sequence: int | None, retry: int | None) -> bytes:
    return deflated_frame(body)


def _chunked(body: bytes, kind: str, sequence: int | None, retry: int | None) -> bytes:
    return chunk(sse_block(body, kind, sequence, retry))


WEBSOCKET = Framing("websocket", _websocket, PING)
#: WebSocket with shared compression.
WEBSOCKET_DEFLATED = Framing("websocket_deflated", _deflated, PING)
#: SSE in an HTTP/1.1 response.
SSE_CHUNKED = Framing("sse_chunked", _chunked, chunk(HEARTBEAT))
#: SSE in a response that ends with its connection (HTTP/1.0), or whose chunks somebody else makes.
SSE_PLAIN = Framing("sse_plain", sse_block, HEARTBEAT)


@dataclass(frozen=True, slots=True)
class Form:
    """A view and a framing. `index` counts the forms from 0, `redacts` says whether the view is the progress one."""

    index: int
    redacts: bool
    framing: Framing

    def view(self, body: bytes) -> bytes:
        """The body as connections of this form see it."""
        return views.redact(body) if self.redacts else body


FORMS = tuple(
    Form(index, redacts, framing)
    for index, (redacts, framing) in enumerate(
        (redacts, framing)
        for redacts in (False, True)
        for framing in (WEBSOCKET, WEBSOCKET_DEFLATED, SSE_CHUNKED, SSE_PLAIN)
    )
)


def form_of(framing: Framing, *, redacts: bool) -> Form:
    """The form of a framing and a view."""
    return next(form for form in FORMS if form.framing is framing and form.redacts is redacts)
