"""`/v1/webhooks`: the endpoints that events are delivered to, and what can be done with each.

An endpoint is answered with its settings as they were given, its secret never, and of its headers the names alone. A secret
is in two answers: of the creation that made it, and of a rotation. Whoever manages endpoints can have any event sent
anywhere, so a token that is bound to sources, tasks or kinds may not. A filter that can match nothing is taken, as in the
configuration file, and told of as there, to whoever sends it. Must not know how deliveries are made or endpoints kept.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final
from urllib.parse import quote

import msgspec
from aiohttp import web
from pydantic import SecretStr

from gateway.errors import Invalid
from gateway.http import body, deliveries, events, reading
from gateway.http.deliveries import SCOPES
from gateway.http.parts import Parts, Webhooks
from gateway.http.route import PAGES, Route
from gateway.store.api import Store
from gateway.stream import resume
from gateway.webhooks import doubts, signing
from gateway.webhooks.manager import EndpointView
from gateway.webhooks.status import EndpointStatus
from schemas import duration, rfc3339

#: What stands where a header's value is: it must not come back as one.
MASK: Final = str(SecretStr("a header"))
#: Seconds for which the old secret signs as well, where a rotation does not say.
OVERLAP: Final = 86400.0
_TIMES = ("failing_since", "last_error_at", "last_delivered_at", "paused_until")
_POSITIONS = ("position", "replay_upto")


class Endpoints:
    """The resources of endpoints."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """All of them."""
        all_, one = "/v1/webhooks", "/v1/webhooks/{name}"
        return [
            Route("GET", all_, self.list, SCOPES, unbounded=True, query=PAGES),
            Route("POST", all_, self.create, SCOPES, unbounded=True, query=()),
            Route("GET", one, self.get, SCOPES, unbounded=True, query=()),
            Route("PATCH", one, self.change, SCOPES, unbounded=True, query=()),
            Route("DELETE", one, self.remove, SCOPES, unbounded=True, query=()),
            Route("POST", one + "/test", self.test, SCOPES, unbounded=True, query=()),
            Route("POST", one + "/enable", self.enable, SCOPES, unbounded=True, query=()),
            Route("POST", one + "/rotate-secret", self.rotate_secret, SCOPES, unbounded=True, query=()),
            Route("POST", one + "/replay", self.replay, SCOPES, unbounded=True, query=()),
        ]

    @property
    def _webhooks(self) -> Webhooks:
        return self._parts.webhooks

    async def list(self, request: web.Request) -> web.Response:
        """All endpoints, ordered by name."""
        return reading.paged(
            request, ((view.config.name, msgspec.json.encode(shown(view))) for view in self._webhooks.list())
        )

    async def get(self, request: web.Request) -> web.Response:
        """One endpoint."""
        return reading.encoded(shown(self._webhooks.get(_name(request))))

    async def create(self, request: web.Request) -> web.Response:
        """Makes an endpoint: 201 with it, and with its secret where that was generated."""
        settings = await _settings(request)
        view, secret = await self._webhooks.create(settings, _holder(request))
        answer = self._told(view) if secret is None else self._told(view) | {"secret": secret}
        location = f"/v1/webhooks/{quote(view.config.name, safe='')}"
        return reading.encoded(answer, 201, {"Location": location, "Cache-Control": "no-store"})

    async def change(self, request: web.Request) -> web.Response:
        """Changes settings by a JSON Merge Patch (RFC 7396): what is null goes back to its default."""
        patch = await _settings(request)
        return reading.encoded(self._told(await self._webhooks.change(_name(request), patch, _holder(request))))

    def _told(self, view: EndpointView) -> dict[str, Any]:
        """An endpoint as it is answered to whoever has just set it: with what of its filter can match nothing."""
        sources = [str(status["name"]) for status in self._parts.sources.status()]
        found = [{"field": field, "detail": text} for field, text in doubts.of(view.config.where, sources)]
        return shown(view) | {"doubts": found}

    async def remove(self, request: web.Request) -> web.Response:
        """Forgets an endpoint and its deliveries."""
        await self._webhooks.remove(_name(request), _holder(request))
        return web.Response(status=204)

    async def test(self, request: web.Request) -> web.Response:
        """Sends an event of type `webhook.test` to the endpoint alone: 202 with its delivery."""
        await body.read(request, ())
        view = await self._webhooks.test(_name(request), _holder(request))
        return reading.encoded(deliveries.shown(view), 202, {"Location": f"/v1/deliveries/{quote(view.id, safe='')}"})

    async def enable(self, request: web.Request) -> web.Response:
        """Delivers again from the next event on, whyever the endpoint was disabled."""
        await body.read(request, ())
        return reading.encoded(shown(await self._webhooks.enable(_name(request), _holder(request))))

    async def rotate_secret(self, request: web.Request) -> web.Response:
        """Signs with a new secret, given or generated, and for `overlap` seconds with the old one as well."""
        wanted = await body.read(request, ("secret", "overlap"))
        errors: dict[str, str] = {}
        secret, overlap = wanted.get("secret"), wanted.get("overlap")
        if secret is not None and not isinstance(secret, str):
            errors["secret"] = "must be text"
        if overlap is not None and (isinstance(overlap, bool) or not isinstance(overlap, int | float)):
            errors["overlap"] = "must be a number of seconds"
        if errors:
            raise Invalid(errors)
        seconds = OVERLAP if overlap is None else overlap
        new = await self._webhooks.rotate_secret(_name(request), secret, seconds, _holder(request))
        return reading.encoded({"secret": new}, headers={"Cache-Control": "no-store"})

    async def replay(self, request: web.Request) -> web.Response:
        """Sends events of the log again, beginning after a position or at a time.

        202 with the position that it begins `after`. `complete` is false where the log does not reach back far enough: then
        it begins with the oldest event that is retained.
        """
        wanted = await body.read(request, ("after", "since"))
        name, store = _name(request), self._parts.store
        if len({key for key, value in wanted.items() if value is not None}) != 1:
            raise Invalid({"after": "exactly one of after and since is needed"})
        after = since = None
        if wanted.get("after") is not None:
            after = _position(wanted["after"], store)
        else:
            since = _moment(wanted["since"], self._parts.clock.now())
        floor = store.floor
        begins = await self._webhooks.replay(name, after=after, since=since, by=_holder(request))
        complete = begins > floor or floor == 0 or (after is not None and after >= floor)
        return reading.encoded({"endpoint": name, "after": f"{begins:020d}", "complete": complete}, 202)


def shown(view: EndpointView) -> dict[str, Any]:
    """An endpoint as it is answered: its settings, where it comes from, how it is doing. Holds no secret."""
    settings: dict[str, Any] = view.config.model_dump(mode="json", exclude={"secret"})
    settings["enabled"] = view.status.disabled is None  # what holds: it may have been disabled by itself
    secrets = {
        "active": view.secrets,
        "overlap_until": _time(view.overlap_until),
        "public_key": signing.public_key(view.config.keys[0]),
    }
    first = {"name": view.config.name, "url": view.config.url}
    return first | settings | {"origin": view.origin, "secrets": secrets, "health": health(view.status)}


def health(status: EndpointStatus) -> dict[str, Any]:
    """How an endpoint is doing."""
    fields = asdict(status)
    del fields["name"]
    times = {name: _time(fields[name]) for name in _TIMES}
    positions = {name: None if fields[name] is None else f"{fields[name]:020d}" for name in _POSITIONS}
    return fields | times | positions


def _time(moment: float | None) -> str | None:
    return None if moment is None else rfc3339.render(moment)


async def _settings(request: web.Request) -> dict[str, Any]:
    """Settings as they were sent. What a GET shows in place of a header's value is none."""
    settings = await body.read(request)
    headers = settings.get("headers")
    if isinstance(headers, dict):
        masked = [f"headers.{name}" for name, value in headers.items() if value == MASK]
        if masked:
            raise Invalid(dict.fromkeys(masked, "is masked in answers: leave it out to keep its value"))
    return settings


def _position(value: object, store: Store) -> int:
    """A position of this log. One that retention has passed is for the replay to tell."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Invalid({"after": "must be text: <sequence> or <epoch>:<sequence>"})
    try:
        position = resume.parse(str(value))
    except ValueError as error:
        raise Invalid({"after": str(error)}) from error
    if position.epoch not in (None, store.epoch):
        raise events.gone(store, "The position is of another log.")
    if position.sequence > store.head:
        raise Invalid({"after": "is beyond the end of the log"})
    return position.sequence


def _moment(value: object, now: float) -> float:
    """Seconds since 1970 of a time, or of a length of time ago."""
    if not isinstance(value, str):
        raise Invalid({"since": "must be text: a time such as 2026-01-31T12:00:00Z, or a length of time such as 24h"})
    try:
        moment = rfc3339.parse(value) if rfc3339.normalize(value) else now - float(duration.seconds(value))
    except ValueError as error:
        text = "is neither a time such as 2026-01-31T12:00:00Z nor a length of time such as 24h"
        raise Invalid({"since": text}) from error
    return max(0.0, moment)


def _name(request: web.Request) -> str:
    return request.match_info["name"]


def _holder(request: web.Request) -> str:
    return reading.grant_of(request).holder
