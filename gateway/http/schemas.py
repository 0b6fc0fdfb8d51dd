"""`/schemas/`: the JSON Schemas of what the gateway sends. Must not know how they are made."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.errors import Refused
from gateway.http import reading
from gateway.http.route import ANY_TOKEN, Route
from schemas import export

MEDIA_TYPE = "application/schema+json"


class Schemas:
    """The resources of schemas, encoded once."""

    def __init__(self) -> None:
        documents = export.documents()
        self._bodies = {name: msgspec.json.encode(document) for name, document in documents.items()}
        self._items = [
            msgspec.json.encode(
                {"name": name, "id": document["$id"], "title": document["title"], "url": f"/schemas/{name}.json"}
            )
            for name, document in documents.items()
        ]

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/schemas", self.list, ANY_TOKEN),
            Route("GET", "/schemas/", self.list, ANY_TOKEN),
            Route("GET", "/schemas/{name}.json", self.get, ANY_TOKEN),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Each schema's name, its `$id` (which events give as `dataschema`), and where it is."""
        return reading.listed(self._items, None)

    async def get(self, request: web.Request) -> web.Response:
        """One schema."""
        body = self._bodies.get(request.match_info["name"])
        if body is None:
            raise Refused(404, "schema_not_found", "There is no such schema; /schemas/ lists them.")
        return web.Response(body=body, content_type=MEDIA_TYPE)
