"""`/v1/watches`: which single tasks are watched upstream, beside what the configuration asks for.

A watch may be asked for by a task's id, or with the answer that its creation got: then the task is known, with its priority
and cost, before the first frame about it comes. Must not know how a watch is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import web

from adapters.api import Observation, Rejected
from gateway.access import Grant
from gateway.errors import Refused
from gateway.http import problems, reading
from gateway.http.parts import Parts, Source
from gateway.http.route import PAGES, Route
from gateway.store.api import TaskRow

#: Longest task id that is taken; those of the known upstreams have 36 characters at most.
_ID_LENGTH = 256
#: States of a watch that is listed for a while, although nothing more will come of it.
_OVER = ("finished", "failed")
_PATH = re.compile(r" - at `\$\.?(?P<path>.*)`$")


class WatchRequest(msgspec.Struct):
    """The body of a POST: `task_id`, `created`, or both where they agree."""

    source: str
    task_id: str | None = None
    created: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Watches:
    """The resources of watches."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/v1/watches", self.list, ("watches:write", "events:read"), query=PAGES),
            Route("POST", "/v1/watches", self.start, ("watches:write",), query=()),
            Route("DELETE", "/v1/watches/{source}/{id}", self.stop, ("watches:write",), query=()),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """All watches within the holder's bounds."""
        grant = reading.grant_of(request)
        by_source: dict[str, list[Mapping[str, Any]]] = {}
        for watch in self._parts.sources.watches():
            by_source.setdefault(watch["source"], []).append(watch)
        items: list[tuple[str, bytes]] = []
        for source, watches in by_source.items():
            seen = await self._seen(grant, source, [watch["task_id"] for watch in watches])
            for watch in watches:
                if watch["task_id"] in seen:
                    items.append((f"{source}/{watch['task_id']}", msgspec.json.encode(watch)))
        return reading.paged(request, items)

    async def start(self, request: web.Request) -> web.Response:
        """Starts a watch: 201 with it, 200 where it was running already."""
        body = _body(await reading.body(request))
        grant = reading.grant_of(request)
        if not reading.sees_source(grant, body.source):
            raise _missing()
        source = self._parts.sources.get(body.source)
        task_id, kind = body.task_id, None
        if body.created is not msgspec.UNSET:
            task_id, kind = _created(source, bytes(body.created), task_id)
        if task_id is None:
            raise problems.invalid({"task_id": "is needed, or created"}, where="body")
        if not await self._may_watch(grant, body.source, task_id, kind):
            raise _missing()
        _check(source, task_id)
        running = any(watch["task_id"] == task_id and watch["state"] not in _OVER for watch in source.watches())
        if body.created is not msgspec.UNSET:
            watch = await source.created(bytes(body.created))
        else:
            watch = await source.watch(task_id)
        if running:
            return reading.encoded(watch)
        location = f"/v1/watches/{quote(body.source, safe='')}/{quote(task_id, safe='')}"
        return reading.encoded(watch, 201, {"Location": location})

    async def stop(self, request: web.Request) -> web.Response:
        """Stops a watch."""
        name, task_id = request.match_info["source"], request.match_info["id"]
        if not await self._seen(reading.grant_of(request), name, [task_id]):
            raise _missing()
        await self._parts.sources.get(name).unwatch(task_id)
        return web.Response(status=204)

    async def _may_watch(self, grant: Grant, source: str, task_id: str, kind: str | None) -> bool:
        """Whether a task is within bounds: by what the log knows of it, else by what its creation response says."""
        rows = await self._parts.store.tasks(source, [task_id])
        return reading.seen_by(grant)(rows[0] if rows else reading.unseen(source, task_id, kind))

    async def _seen(self, grant: Grant, source: str, ids: Sequence[str]) -> set[str]:
        """Those of the tasks that are within bounds; a task that the log does not know has no kind."""
        known: dict[str, TaskRow] = {row.id: row for row in await self._parts.store.tasks(source, ids)}
        sees = reading.seen_by(grant)
        return {task_id for task_id in ids if sees(known.get(task_id) or reading.unseen(source, task_id))}


def _body(body: bytes) -> WatchRequest:
    try:
        request = msgspec.json.decode(body, type=WatchRequest)
    except msgspec.ValidationError as error:
        message = str(error)
        match = _PATH.search(message)
        missing = re.search(r"required field `(\w+)`", message)
        name = missing[1] if missing else (match["path"] if match else "") or "body"
        raise problems.invalid({name: _PATH.sub("", message)}, where="body") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, "invalid_json", "The body is not valid JSON.") from error
    if request.task_id is not None and not 0 < len(request.task_id) <= _ID_LENGTH:
        raise problems.invalid({"task_id": f"must have 1 to {_ID_LENGTH} characters"}, where="body")
    return request


def _created(source: Source, payload: bytes, task_id: str | None) -> tuple[str, str | None]:
    """Id and kind of the task that a creation response speaks of."""
    item = next(iter(source.adapter.created(payload)), None)
    if not isinstance(item, Observation):
        problem = item.problem if isinstance(item, Rejected) else "says nothing of a task"
        raise problems.invalid({"created": problem}, where="body")
    if task_id is not None and task_id != item.task_id:
        raise problems.invalid({"task_id": f"is not the one that created speaks of, {item.task_id}"}, where="body")
    return item.task_id, item.kind if isinstance(item.kind, str) else None


def _check(source: Source, task_id: str) -> None:
    try:
        source.adapter.watch(task_id)
    except ValueError as error:
        raise problems.invalid({"task_id": str(error)}, where="body") from error


def _missing() -> Refused:
    return Refused(404, "task_not_found", "There is no such task, or no watch of it.")
