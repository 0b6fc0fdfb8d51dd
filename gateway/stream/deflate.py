"""Deflate: permessage-deflate (RFC 7692) in the one way in which compressed bytes can be shared by many connections.

A message may be shared only where it refers to nothing before it, so `server_no_context_takeover` is always part of what is
agreed on. The other direction is limited alike, because a client says little. Pure.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

_NAME = "permessage-deflate"
_AGREED = f"{_NAME}; server_no_context_takeover; client_no_context_takeover"
#: The window that we compress with; a client that allows less of it gets plain messages.
_WINDOW = 15
#: What ends every flush, and is left out of a message (RFC 7692, section 7.2.1).
_TAIL = b"\x00\x00\xff\xff"


def answer(headers: Iterable[str]) -> str | None:
    """The `Sec-WebSocket-Extensions` of the answer to those of a request: its first offer that can be met, else None."""
    for offer in ",".join(headers).split(","):
        name, *rest = (part.strip() for part in offer.split(";"))
        if name.lower() != _NAME:
            continue
        parameters = _parameters(rest)
        if parameters is None:
            continue
        window = parameters.get("server_max_window_bits")
        if window is None:
            return _AGREED
        if window == str(_WINDOW):  # what is asked for has to be confirmed (section 7.1.2.1)
            return f"{_AGREED}; server_max_window_bits={_WINDOW}"
    return None


def _parameters(parts: list[str]) -> dict[str, str | None] | None:
    """Parameters of an offer by name; None where the offer has to be declined (section 7.1)."""
    found: dict[str, str | None] = {}
    for part in parts:
        name, separator, text = (item.strip() for item in part.partition("="))
        value = text.strip('"') if separator else None
        match name:
            case "server_no_context_takeover" | "client_no_context_takeover":
                valid = value is None
            case "server_max_window_bits":
                valid = value in _BITS
            case "client_max_window_bits":
                valid = value is None or value in _BITS
            case _:
                valid = False
        if not valid or name in found:
            return None
        found[name] = value
    return found


_BITS = frozenset(str(bits) for bits in range(8, 16))


class Compressor:
    """Compresses messages, each on its own.

    One object serves all: a full flush makes it forget what came before, at a third of what a fresh one would cost.
    """

    def __init__(self) -> None:
        self._object = zlib.compressobj(level=1, wbits=-_WINDOW)

    def compress(self, message: bytes) -> bytes:
        """The payload of a frame with RSV1 (section 7.2.1)."""
        data = self._object.compress(message) + self._object.flush(zlib.Z_FULL_FLUSH)
        return data.removesuffix(_TAIL)
