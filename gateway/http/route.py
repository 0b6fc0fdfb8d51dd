"""A resource of the API, who may use it and which parameters it takes, as data.

Must not know what a handler does, nor how a grant is found.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from gateway.access import Grant

#: The grant of the request's holder, on every route that is not open.
GRANT = web.RequestKey("grant", Grant)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Parameters of the filter on states, and of a list that has pages.
STATES: tuple[str, ...] = ("source", "task", "kind", "status")
PAGES: tuple[str, ...] = ("limit", "cursor")

#: Scopes of a route that anybody may use, without a token.
OPEN = None
#: Scopes of a route that any valid token may use.
ANY_TOKEN: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one resource. A GET answers HEAD, too.

    Attributes:
        scopes: one of them is needed (see `ANY_TOKEN`); `OPEN`: no token is looked at.
        limited: whether the time limit of requests holds.
        unbounded: only tokens without bounds may use it.
        query: names of the parameters that its query may have beside `token`; None: any, it is not looked at here.
    """

    method: str
    path: str
    handler: Handler
    scopes: tuple[str, ...] | None
    limited: bool = True
    unbounded: bool = False
    query: tuple[str, ...] | None = None
