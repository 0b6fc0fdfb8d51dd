"""`/v1/tasks`: current states of tasks, one or many, and where the asset of one can be downloaded.

A task is answered as the `data` of its snapshot event plus `sequence`, the position of its last event: a stream that is
opened with it as `after` misses nothing of that task. Must not know how a state is stored or redacted.
"""

from __future__ import annotations

from aiohttp import web

from gateway.errors import Refused
from gateway.http import problems, reading
from gateway.http.parts import Parts
from gateway.http.route import PAGES, STATES, Route
from gateway.store.api import TaskRow


class Tasks:
    """The resources of tasks."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """All of them."""
        task = "/v1/tasks/{source}/{id}"
        return [
            # states have no type, so a filter on it is refused rather than answered with everything or nothing
            Route("GET", "/v1/tasks", self.list, ("events:read",), query=(*STATES, *PAGES)),
            Route("GET", task, self.get, ("events:read:progress",), query=()),
            Route("GET", task + "/download", self.download, ("events:read",), query=()),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Tasks that match the filter, finished ones included, ordered by key.

        `sequence` of the answer is the position that the page is valid at.
        """
        where = [reading.filters(request), reading.grant_of(request).bounds.without_type()]
        limit, cursor = reading.limit(request), reading.once(request, "cursor")
        try:
            page = await self._parts.store.snapshot(where, unfinished=False, limit=limit, after=cursor)
        except ValueError as error:
            raise problems.invalid({"cursor": "is not the next of an earlier answer"}, where="parameter") from error
        items = [self._data(row) for row in page.tasks]
        return reading.listed(items, page.next, sequence=f"{page.sequence:020d}")

    async def get(self, request: web.Request) -> web.Response:
        """One task. Outside of the holder's bounds there is no task."""
        grant = reading.grant_of(request)
        row = await self._row(request)
        if row is None or not reading.seen_by(grant)(row):
            raise _missing()
        return reading.json(self._data(row, redacted=grant.redacts))

    async def download(self, request: web.Request) -> web.Response:
        """What the upstream says about the asset of a task, known to the gateway or not."""
        name, task_id = request.match_info["source"], request.match_info["id"]
        row = await self._row(request) or reading.unseen(name, task_id)
        if not reading.seen_by(reading.grant_of(request))(row):
            raise _missing()
        found = await self._parts.sources.get(name).fetch_download(task_id)
        if found.body is not None:
            return reading.json(bytes(found.body))
        detail = found.message or "The upstream has no answer."
        return problems.answer(request, found.status, found.code or "upstream_failed", detail)

    async def _row(self, request: web.Request) -> TaskRow | None:
        source, task_id = request.match_info["source"], request.match_info["id"]
        rows = await self._parts.store.tasks(source, [task_id])
        return rows[0] if rows else None

    def _data(self, row: TaskRow, *, redacted: bool = False) -> bytes:
        data = self._parts.snapshot_data(row)
        if redacted:
            data = self._parts.redact_data(data)
        return reading.with_sequence(data, row.sequence)


def _missing() -> Refused:
    return Refused(404, "task_not_found", "There is no such task.")
