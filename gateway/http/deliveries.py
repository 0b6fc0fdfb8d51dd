"""`/v1/deliveries` and the deliveries of an endpoint: what became of each event on its way to a webhook, and another try.

Who manages endpoints sees whole deliveries, excerpts of receivers' answers included, so nothing here is for readers of the
stream. Must not know how deliveries are made.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from gateway.http import body, problems, reading
from gateway.http.parts import Parts, Webhooks
from gateway.http.route import PAGES, Route
from gateway.webhooks.manager import DeliveryView

SCOPES = ("webhooks:write",)
STATES = ("pending", "delivered", "dead", "skipped")
#: A page ends early once its deliveries have so many bytes: each may have a hundred attempts, with what was answered.
PAGE_BYTES = 4 * 1024 * 1024
#: Deliveries asked for at a time.
_CHUNK = 50


class Deliveries:
    """The resources of deliveries."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """All of them."""
        endpoint, delivery = "/v1/webhooks/{name}", "/v1/deliveries/{id}"
        return [
            Route("GET", endpoint + "/deliveries", self.list, SCOPES, unbounded=True, query=("state", *PAGES)),
            Route("POST", endpoint + "/retry", self.retry_dead, SCOPES, unbounded=True, query=()),
            Route("GET", delivery, self.get, SCOPES, unbounded=True, query=()),
            Route("POST", delivery + "/retry", self.retry, SCOPES, unbounded=True, query=()),
        ]

    @property
    def _webhooks(self) -> Webhooks:
        return self._parts.webhooks

    async def list(self, request: web.Request) -> web.Response:
        """Deliveries of an endpoint, newest first, of one state or of all. A page of large ones ends early."""
        state, limit, cursor = reading.once(request, "state"), reading.limit(request), reading.once(request, "cursor")
        if state is not None and state not in STATES:
            raise problems.invalid({"state": f"must be one of {', '.join(STATES)}"}, where="parameter")
        name, following = request.match_info["name"], cursor
        items: list[bytes] = []
        size = 0
        while True:
            wanted = min(_CHUNK, limit - len(items))
            try:
                views, following = await self._webhooks.deliveries(name, state, limit=wanted, cursor=following)
            except ValueError as error:
                raise problems.invalid({"cursor": "is not the next of an earlier answer"}, where="parameter") from error
            chunk = [msgspec.json.encode(shown(view)) for view in views]
            items += chunk
            size += sum(map(len, chunk))
            if following is None or len(items) == limit or size > PAGE_BYTES:
                return reading.listed(items, following)

    async def get(self, request: web.Request) -> web.Response:
        """One delivery."""
        return reading.encoded(shown(await self._webhooks.delivery(request.match_info["id"])))

    async def retry(self, request: web.Request) -> web.Response:
        """Tries a delivery again, whatever came of it: 202 with what it is now."""
        await body.read(request, ())
        view = await self._webhooks.retry(request.match_info["id"], reading.grant_of(request).holder)
        return reading.encoded(shown(view), 202)

    async def retry_dead(self, request: web.Request) -> web.Response:
        """Tries every dead letter of an endpoint again: 202 with how many there are."""
        await body.read(request, ())
        name = request.match_info["name"]
        count = await self._webhooks.retry_dead(name, reading.grant_of(request).holder)
        return reading.encoded({"endpoint": name, "retried": count}, 202)


def shown(view: DeliveryView) -> dict[str, Any]:
    """A delivery as it is answered (contract, section 5), and what it is about."""
    return {
        "id": view.id,
        "event_id": view.event_id,
        "endpoint": view.endpoint,
        "state": view.state,
        "attempts": view.attempts,
        "next_attempt_at": view.next_attempt_at,
        "sequence": f"{view.sequence:020d}",
        "type": view.event_type,
        "task": view.task,
    }
