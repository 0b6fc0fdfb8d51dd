"""The aiohttp application: which resources there are, and what stands in front of all of them.

From the outside in: `problems` (every error is a problem details object), `Boundary` (host, origin, OPTIONS), `Guard`
(token, scope, time limit), the handler. Must not name a concrete store, source or stream.
"""

from __future__ import annotations

from aiohttp import web

from gateway.http.assets import Assets
from gateway.http.boundary import Boundary
from gateway.http.deliveries import Deliveries
from gateway.http.events import Events
from gateway.http.guard import Guard
from gateway.http.health import Health
from gateway.http.parts import Parts
from gateway.http.problems import problems
from gateway.http.route import OPEN, Route
from gateway.http.schemas import Schemas
from gateway.http.sources import SourceList
from gateway.http.tasks import Tasks
from gateway.http.watches import Watches
from gateway.http.webhooks import Endpoints

#: Bytes that the body of a request may have.
BODY_LIMIT = 1024 * 1024


def create_app(parts: Parts) -> web.Application:
    """The application. It starts nothing and owns nothing of `parts`."""
    boundary = Boundary(parts.allowed_origins, parts.hosts)
    app = web.Application(middlewares=[problems, boundary.middleware()], client_max_size=BODY_LIMIT)
    app.on_response_prepare.append(boundary.on_prepare)
    guard = Guard(parts.authenticator, parts.token_of, parts.time_limit)
    for route in [*routes(parts), *Assets(ui=parts.ui).routes()]:
        # A stream has no end, so there is no answer to a HEAD of it.
        methods = ("GET", "HEAD") if route.method == "GET" and route.limited else (route.method,)
        for method in methods:
            app.router.add_route(method, route.path, guard.protect(route), expect_handler=_expect)
    return app


def routes(parts: Parts) -> list[Route]:
    """Every route of the API. The stream is open here because it looks at tokens itself, and it has no time limit."""
    return [
        *Tasks(parts).routes(),
        *Events(parts).routes(),
        *SourceList(parts).routes(),
        *Watches(parts).routes(),
        *Endpoints(parts).routes(),
        *Deliveries(parts).routes(),
        *Schemas().routes(),
        *Health(parts).routes(),
        Route("GET", "/v1/stream", parts.stream.handle, OPEN, limited=False),
        *parts.routes,
    ]


async def _expect(request: web.Request) -> None:
    """Asks for the body where the client waits for that; other expectations may be ignored (RFC 9110, section 10.1.1)."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # an interim answer is no beginning of the final one
