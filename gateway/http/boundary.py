"""What holds for every request and every answer: host and origin checks, CORS, headers that browsers heed.

Must not know tokens, scopes or any route.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.http import problems
from gateway.http.route import Handler

_PORTS = {"http": 80, "https": 443}
#: Request headers that the API and the stream read; browsers ask before they send them.
_REQUEST_HEADERS = "Authorization, Content-Type, Last-Event-ID"
#: Response headers that a page may read beside the safelisted ones.
_EXPOSED_HEADERS = "Allow, Retry-After, WWW-Authenticate"
#: Characters of a refused origin that are said back; host names have no more.
_LONGEST_SHOWN = 256
#: Seconds that a browser may remember the answer to a preflight.
_PREFLIGHT_AGE = "600"

#: The request's `Origin`, once it was found to be allowed.
ORIGIN = web.RequestKey("origin", str)


class Boundary:
    """The middleware and the signal handler that stand at the edge of the application."""

    def __init__(self, allowed_origins: Sequence[str], hosts: frozenset[str] | None) -> None:
        self._allowed = frozenset(origin.rstrip("/").lower() for origin in allowed_origins)
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    def permits(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may call. Without configured origins, only one from the requested host may.

        A proxy in front may end TLS, so the own host's scheme is not compared; its port is.
        """
        if self._allowed:
            return origin.lower() in self._allowed
        try:
            theirs, ours = urlsplit(origin), urlsplit(f"//{host}")
            port = _PORTS.get(theirs.scheme)
            return (
                port is not None
                and theirs.hostname is not None
                and theirs.hostname == ours.hostname
                and (theirs.port or port) == (ours.port or port)
            )
        except ValueError:  # a port that is not a number, brackets that do not close
            return False

    def _refusal(self, origin: str) -> str:
        """Why a page is refused, for whoever runs the gateway and looks for the setting."""
        rule = (
            "server.allowed_origins does not include it"
            if self._allowed
            else "without server.allowed_origins only those of the host that the request was sent to may"
        )
        return f"Pages of the Origin {origin[:_LONGEST_SHOWN]!r} may not call the gateway: {rule}."

    def answers_to(self, host: str) -> bool:
        """Whether the server is to answer under this name."""
        if self._hosts is None:
            return True
        try:
            return urlsplit(f"//{host}").hostname in self._hosts
        except ValueError:
            return False

    def middleware(self) -> Middleware:
        """Refuses wrong hosts and origins, and answers OPTIONS for every resource there is."""

        @web.middleware
        async def boundary(request: web.Request, handler: Handler) -> web.StreamResponse:
            host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
            if not self.answers_to(host):
                raise problems.Rejection(421, "wrong_host", "The server does not answer to this Host.")
            if origin is not None:
                if not self.permits(origin, host):
                    raise problems.Rejection(403, "origin_refused", self._refusal(origin))
                request[ORIGIN] = origin
            refusal = request.match_info.http_exception
            if request.method == "OPTIONS" and isinstance(refusal, web.HTTPMethodNotAllowed):
                return _options(request, problems.allowed(refusal))
            return await handler(request)

        return boundary

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Adds the headers that every answer has; runs right before its head is sent."""
        request[problems.STARTED] = True
        headers = response.headers
        headers["Server"] = "mainstem"
        headers["X-Content-Type-Options"] = "nosniff"
        headers.setdefault("Cache-Control", "no-store")
        headers.setdefault("Referrer-Policy", "no-referrer")  # a token may be in the URL
        headers.add("Vary", "Origin")
        if (origin := request.get(ORIGIN)) is not None:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS


def _options(request: web.Request, methods: Sequence[str]) -> web.Response:
    headers = {"Allow": ", ".join(methods)}
    if request.get(ORIGIN) is not None and "Access-Control-Request-Method" in request.headers:
        headers["Access-Control-Allow-Methods"] = ", ".join(methods)
        headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
        headers["Access-Control-Max-Age"] = _PREFLIGHT_AGE
    return web.Response(status=204, headers=headers)
