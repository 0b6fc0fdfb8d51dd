"""`/openapi.json`, `/asyncapi.json`, `/schemas/`: what describes the interface to machines.

Serves the committed documents as they are, so that what is served is what was reviewed and a start costs nothing. Must not
know how they are made.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec
from aiohttp import web

from gateway.errors import Refused
from gateway.http import reading
from gateway.http.route import ANY_TOKEN, Route

MEDIA_TYPE = "application/schema+json"

#: Documents that are no JSON Schemas and have paths of their own.
_OWN = ("openapi", "asyncapi")


@cache
def documents() -> dict[str, bytes]:
    """Name of each document, and its text. Read once in the life of the process."""
    folder = resources.files("schemas") / "documents"
    found = {file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(".json")}
    return {name.removesuffix(".json"): found[name] for name in sorted(found)}


class Schemas:
    """The resources of documents."""

    def __init__(self) -> None:
        self._documents = documents()
        self._items = []
        for name, text in self._documents.items():
            if name not in _OWN:
                schema = msgspec.json.decode(text)
                about = {"name": name, "id": schema["$id"], "title": schema["title"], "url": f"/schemas/{name}.json"}
                self._items.append(msgspec.json.encode(about))

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/openapi.json", self.openapi, ANY_TOKEN),
            Route("GET", "/asyncapi.json", self.asyncapi, ANY_TOKEN),
            Route("GET", "/schemas", self.list, ANY_TOKEN),
            Route("GET", "/schemas/", self.list, ANY_TOKEN),
            Route("GET", "/schemas/{name}.json", self.get, ANY_TOKEN),
        ]

    async def openapi(self, request: web.Request) -> web.Response:
        """The HTTP API."""
        return reading.json(self._documents["openapi"])

    async def asyncapi(self, request: web.Request) -> web.Response:
        """The stream and the webhooks."""
        return reading.json(self._documents["asyncapi"])

    async def list(self, request: web.Request) -> web.Response:
        """Each schema's name, its `$id` (which events give as `dataschema`), and where it is."""
        return reading.listed(self._items, None)

    async def get(self, request: web.Request) -> web.Response:
        """One schema."""
        name = request.match_info["name"]
        if name in _OWN or name not in self._documents:
            raise Refused(404, "schema_not_found", "There is no such schema; /schemas/ lists them.")
        return web.Response(body=self._documents[name], content_type=MEDIA_TYPE)
