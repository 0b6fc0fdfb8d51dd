"""What clients did at a simulator's door, and what a script makes the door do. Knows neither paths nor payloads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(slots=True)
class Handshake:
    """An attempt to open a WebSocket. `status` is the HTTP answer: 101, a refusal, or None while it is not decided."""

    path: str
    query: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    at: float
    status: int | None = None


@dataclass(slots=True)
class Request:
    """An ordinary HTTP request and how it was answered."""

    method: str
    path: str
    query: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    at: float
    status: int | None = None


@dataclass(slots=True)
class Refusals:
    """The HTTP answer that the next attempts get, and how many of them."""

    left: int = 0
    status: int = 503
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def next(self) -> web.Response | None:
        """The refusal of this attempt; None where it is to be let in."""
        if self.left <= 0:
            return None
        self.left -= 1
        kind = "application/json" if self.body else "text/plain"
        return web.Response(status=self.status, body=self.body, content_type=kind, headers=self.headers)
