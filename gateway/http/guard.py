"""Who may use a route, and what they may ask it: token, scope, names of parameters, time limit, in front of every handler.

Owns the answer 403 to a token without the scope, or with bounds that a route cannot keep, and the answer 400 to parameters
that a route does not know: a filter whose name is misspelt would otherwise be answered with everything. Must not know what
tokens look like, nor what handlers do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from aiohttp import web

from gateway.access import Grant
from gateway.http import problems
from gateway.http.parts import Authenticator
from gateway.http.route import GRANT, Handler, Route
from gateway.stream import query


class Guard:
    """Stands in front of handlers."""

    def __init__(
        self, authenticator: Authenticator, token_of: Callable[[web.Request], str | None], time_limit: float
    ) -> None:
        self._authenticator = authenticator
        self._token_of = token_of
        self._time_limit = time_limit

    def protect(self, route: Route) -> Handler:
        """The handler of a route, reached only by those who may use it, and for no longer than the limit in seconds."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if route.scopes is not None:
                grant = await self._authenticator.authenticate(self._token_of(request))
                require(grant, route.scopes)
                if route.unbounded:
                    require_unbounded(grant)
                request[GRANT] = grant
            if route.query is not None:
                require_known(request.query, (*route.query, "token"))
            return await route.handler(request)

        async def handle_in_time(request: web.Request) -> web.StreamResponse:
            async with asyncio.timeout(self._time_limit):
                return await handle(request)

        return handle_in_time if route.limited else handle


def require(grant: Grant, scopes: tuple[str, ...]) -> None:
    """Returns where the grant includes one of the scopes, or none is asked for.

    Raises:
        problems.Rejection: it does not.
    """
    if not scopes or any(grant.allows(scope) for scope in scopes):
        return
    challenge = f'{problems.CHALLENGE}, error="insufficient_scope", scope="{" ".join(scopes)}"'
    message = f"This needs a token with the scope {' or '.join(scopes)}."
    if "events:read" in scopes and grant.allows("events:read:progress"):
        message += " One with events:read:progress alone may read single tasks only."
    raise problems.Rejection(403, "insufficient_scope", message, headers={"WWW-Authenticate": challenge})


def require_unbounded(grant: Grant) -> None:
    """Returns where the holder may see every source, task and kind.

    Raises:
        problems.Rejection: something bounds the grant.
    """
    if not grant.bounds.is_empty:
        message = "This needs a token that is not bound to sources, tasks or kinds."
        raise problems.Rejection(403, "bounded_token", message)


def require_known(names: Iterable[str], known: tuple[str, ...]) -> None:
    """Returns where a query has no parameters but known ones.

    Raises:
        problems.Rejection: it has others; the first few are named, values never.
    """
    if names := query.unknown(names, known):
        errors = dict.fromkeys(names, f"is not known; known: {', '.join(known)}")
        raise problems.Rejection(400, "unknown_parameter", query.complaint(names, known), errors=errors)
