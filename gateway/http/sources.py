"""`/v1/sources`: how the connections to the upstreams are doing. Must not know what a status is made of."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.http import reading
from gateway.http.parts import Parts
from gateway.http.route import PAGES, Route


class SourceList:
    """The resource of sources."""

    def __init__(self, parts: Parts) -> None:
        self._sources = parts.sources

    def routes(self) -> list[Route]:
        """All of them."""
        return [Route("GET", "/v1/sources", self.list, ("events:read",), query=PAGES)]

    async def list(self, request: web.Request) -> web.Response:
        """All sources within the holder's bounds, those that are not enabled too."""
        grant = reading.grant_of(request)
        named = ((str(status["name"]), status) for status in self._sources.status())
        seen = ((name, msgspec.json.encode(status)) for name, status in named if reading.sees_source(grant, name))
        return reading.paged(request, seen)
