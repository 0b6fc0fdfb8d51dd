"""Static files of the package, for browsers: the JavaScript client, and the dashboard.

Every file below `gateway/static` has the path it has there; an `index.html` is also its directory. They are read once, so no
path of a request ever reaches the file system. Open to all: a file must not hold a secret, and pages ask for a token
themselves. Nothing here knows the path under which a proxy may have put the gateway: files refer to each other relatively.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable

from aiohttp import ETag, hdrs, web

from gateway.http.route import OPEN, Handler, Route

#: What a page of ours may do, should a script be smuggled into it: nothing but speak to the gateway it came from.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: Types whose text is sent in UTF-8; JavaScript's is of RFC 9239, whatever the machine's own list says.
_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
_INDEX = "index.html"
#: Where the dashboard is. A browser that asks for the gateway itself is led there.
UI = "/ui/"
#: A directory of files of others, whose names hold their versions: what is there under a name never changes.
_VENDOR = "/vendor/"
#: What is of the gateway's own version may be kept, and is asked about; what never changes is not asked about for a year.
_FRESH, _FOREVER = "no-cache", "public, max-age=31536000, immutable"


class Assets:
    """The resources of static files."""

    def __init__(self, folder: Traversable | None = None, *, ui: bool = True) -> None:
        """Reads the files of a folder; those of the package by default.

        Args:
            ui: whether the dashboard is among them.
        """
        files = _files(folder or resources.files("gateway") / "static", "/")
        self._files = {path: body for path, body in files if ui or not path.startswith(UI)}

    def routes(self) -> list[Route]:
        """All of them."""
        found: list[Route] = []
        for path, body in self._files.items():
            serve = _serving(path, body)
            found.append(Route("GET", path, serve, OPEN))
            directory, _, name = path.rpartition("/")
            if name == _INDEX and directory:
                found.append(Route("GET", f"{directory}/", serve, OPEN))
                found.append(Route("GET", directory, _redirecting(directory), OPEN))
        if UI + _INDEX in self._files:
            found.append(Route("GET", "/", _welcome, OPEN))
        return found


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _files(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry.read_bytes()


async def _welcome(request: web.Request) -> web.StreamResponse:
    """A person with a browser is led to the dashboard; for programs, nothing is here."""
    if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
        raise web.HTTPNotFound
    return web.Response(status=307, headers={hdrs.LOCATION: UI.removeprefix("/"), hdrs.VARY: hdrs.ACCEPT})


def _redirecting(directory: str) -> Handler:
    """From a directory without its slash to the one with it, so that relative links work; relative for a base path."""

    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=308, headers={hdrs.LOCATION: directory.rpartition("/")[2] + "/"})

    return redirect


def _serving(path: str, body: bytes) -> Handler:
    """The handler of one file: both forms, plain and compressed, are made in advance, each with a tag of its own."""
    suffix = path[path.rfind(".") :]
    kind = _TYPES.get(suffix)
    headers = {
        hdrs.CONTENT_TYPE: f"{kind}; charset=utf-8"
        if kind
        else mimetypes.guess_type(path)[0] or "application/octet-stream",
        hdrs.CACHE_CONTROL: _FOREVER if _VENDOR in path and suffix != ".json" else _FRESH,
        "Content-Security-Policy": POLICY,
    }
    digest = hashlib.blake2b(body, digest_size=12).hexdigest()
    packed = gzip.compress(body, 9, mtime=0) if kind else body
    smaller = len(packed) < len(body)

    async def serve(request: web.Request) -> web.StreamResponse:
        compressed = smaller and _takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        tag = f"{digest}-gzip" if compressed else digest
        known = any(wanted.value in (tag, "*") for wanted in request.if_none_match or ())
        response = web.Response(status=304) if known else web.Response(body=packed if compressed else body)
        response.headers.update(headers)
        response.etag = ETag(tag)
        if smaller:
            response.headers.add(hdrs.VARY, hdrs.ACCEPT_ENCODING)
        if compressed and not known:
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        return response

    return serve


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding includes gzip (RFC 9110, section 12.5.3); a weight of nought means that it does not."""
    for item in accepted.lower().split(","):
        coding, _, weight = item.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "").rstrip("0") not in ("q=", "q=0.")
    return False
