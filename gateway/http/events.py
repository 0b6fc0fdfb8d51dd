"""`/v1/events`: the log, page by page.

Items are whole CloudEvents, the very bytes that the stream sends. Must not know how they came about.
"""

from __future__ import annotations

from aiohttp import web

from gateway.http import problems, reading
from gateway.http.parts import Parts
from gateway.http.route import PAGES, STATES, Route
from gateway.store.api import LogEvent, Store
from gateway.stream import resume

#: A page ends early once its events have so many bytes.
PAGE_BYTES = 8 * 1024 * 1024


class Events:
    """The resource of the log's events."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.store

    def routes(self) -> list[Route]:
        """All of them."""
        return [Route("GET", "/v1/events", self.list, ("events:read",), query=(*STATES, "type", "after", *PAGES))]

    async def list(self, request: web.Request) -> web.Response:
        """Events after a position that match the filter, oldest first; without `after`, from the oldest that is retained.

        `next` is null at the end of the log. `position` is where the answer reaches to, at the end as well, whether the last
        events matched or not: a client that polls passes it as `after`.
        """
        where = [reading.filters(request), reading.grant_of(request).bounds]
        limit = reading.limit(request)
        head = self._store.head
        # As in every list, `next` may also come back as `cursor`.
        begin = after = start(reading.once(request, "after") or reading.once(request, "cursor"), self._store)
        events: list[LogEvent] = []
        size = 0
        more = False
        reached = begin
        while reached < head and not more:
            # One more than asked for tells whether there is a next page.
            page = await self._store.read(reached, limit + 1 - len(events), where, upto=head)
            reached = page.reached
            for event in page.events:
                more = len(events) == limit or (size > 0 and size + len(event.body) > PAGE_BYTES)
                if more:
                    break
                events.append(event)
                size += len(event.body)
                after = event.sequence
        if self._store.floor > begin:
            raise gone(self._store, "The log was trimmed past the position while it was read.")
        position = f"{self._store.epoch}:{after if more else head:020d}"
        return reading.listed((event.body for event in events), position if more else None, position=position)


def start(text: str | None, store: Store) -> int:
    """The position to read after, from `<sequence>`, `<epoch>:<sequence>`, or None.

    Raises:
        problems.Rejection: 400, it is no position; 410, what follows it cannot be told: it is older than the retained log, or
            of another log. `oldest` of the answer is the position from which on everything is there.
    """
    if text is None:
        return store.floor
    try:
        position = resume.parse(text)
    except ValueError as error:
        raise problems.invalid({"after": str(error)}, where="parameter") from error
    if resume.decide(position, snapshot=False, epoch=store.epoch, floor=store.floor, head=store.head) == "reset":
        raise gone(store, "The position is older than the retained log, or of another log.")
    return position.sequence


def gone(store: Store, reason: str) -> problems.Rejection:
    """A 410 that says where the log begins."""
    return problems.Rejection(
        410,
        "position_gone",
        f"{reason} Read the current states, or go on after `oldest`.",
        errors={"after": "cannot be resumed after"},
        members={"reset": True, "epoch": store.epoch, "oldest": f"{store.epoch}:{store.floor:020d}"},
    )
