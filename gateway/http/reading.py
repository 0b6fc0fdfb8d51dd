"""What every resource that reads has in common: parameters of the query, bounds of a grant, JSON answers.

Values are checked strictly, and a refusal names the parameter. Must not know any particular resource, nor which parameters it
takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from aiohttp import web
from pydantic import ValidationError

from gateway.access import Grant
from gateway.http import problems
from gateway.http.route import GRANT
from gateway.store.api import TaskRow
from schemas.filter import Filter

LIMIT = 1000
DEFAULT_LIMIT = 100
#: Content types that a JSON body may have: its own, and those that clients give to bytes and text of which they know nothing
#: (the first of these is also what aiohttp makes of a missing header, the last is what `curl -d` says). None of them lets a
#: foreign page in: browsers name its origin.
_JSON = ("application/json", "application/octet-stream", "text/plain", "application/x-www-form-urlencoded")
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


def once(request: web.Request, name: str) -> str | None:
    """The value of a parameter, None where it is absent or empty.

    Raises:
        problems.Rejection: it is given more than once.
    """
    values: list[str] = request.query.getall(name, [])
    if len(values) > 1:
        raise problems.invalid({name: "is given more than once"}, where="parameter")
    return values[0] or None if values else None


def limit(request: web.Request) -> int:
    """The `limit` of a list, 1 to 1000, 100 where it is absent.

    Raises:
        problems.Rejection: it is not such a number.
    """
    if "limit" not in request.query:
        return DEFAULT_LIMIT
    text = once(request, "limit") or ""
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= LIMIT:
        raise problems.invalid({"limit": f"must be a number from 1 to {LIMIT}"}, where="parameter")
    return int(text)


def filters(request: web.Request) -> Filter:
    """The filter of the query, the same as on the stream.

    Raises:
        problems.Rejection: it cannot be read.
    """
    try:
        return Filter.from_query(request.query.items())
    except ValidationError as error:
        texts = {str(item["loc"][0]): item["msg"].removeprefix("Value error, ") for item in error.errors()}
        raise problems.invalid(texts, where="parameter") from error


def grant_of(request: web.Request) -> Grant:
    """What the holder of the request's token may do."""
    return request[GRANT]


def seen_by(grant: Grant) -> Callable[[TaskRow], bool]:
    """Whether a task is within the bounds of a grant."""
    return grant.bounds.without_type().compile()


def sees_source(grant: Grant, name: str) -> bool:
    """Whether a source is within the bounds of a grant. One that is bound to tasks sees the sources of these alone."""
    bounds = grant.bounds
    named = not bounds.source or name in bounds.source
    return named and (not bounds.task or any(task.startswith(f"{name}/") for task in bounds.task))


def unseen(source: str, task_id: str, kind: str | None = None) -> TaskRow:
    """A row for a task that is not in the log, to hold against bounds."""
    return TaskRow(source, task_id, kind, "unknown", False, None, None, 0.0, b"{}")


async def body(request: web.Request) -> bytes:
    """The body of a request that takes JSON. Bytes or text that are not said to be anything else are taken for JSON.

    Raises:
        problems.Rejection: 415, it is said to be something else.
    """
    kind = request.content_type
    if kind not in _JSON and not kind.endswith("+json"):
        message = "Send application/json."
        raise problems.Rejection(415, "unsupported_media_type", message, headers={"Accept": "application/json"})
    return await request.read()


def json(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer whose body is JSON already."""
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def encoded(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer with a value as JSON."""
    return json(msgspec.json.encode(value), status, headers)


def listed(items: Iterable[bytes], following: str | None, **more: str) -> web.Response:
    """A list of items that are JSON already; `following` is the cursor of the next page."""
    tail = msgspec.json.encode({"next": following, **more})
    return json(b'{"items":[' + b",".join(items) + b"]," + tail[1:])


def paged(request: web.Request, items: Iterable[tuple[str, bytes]]) -> web.Response:
    """A list that is short enough to be answered whole, in the order of keys; a page of it where the query has a `limit`.

    Args:
        items: each with its key, which is the cursor behind it.

    Raises:
        problems.Rejection: a parameter cannot be read.
    """
    after = once(request, "cursor") or ""
    rest = sorted(item for item in items if item[0] > after)
    page = rest[: limit(request)] if "limit" in request.query else rest
    return listed((body for _, body in page), page[-1][0] if len(page) < len(rest) else None)


def with_sequence(data: bytes, sequence: int) -> bytes:
    """A JSON object with one more member, `sequence`, without decoding it."""
    head = data.rstrip().removesuffix(b"}").rstrip()
    comma = b"" if head.endswith(b"{") else b","
    return b'%b%b"sequence":"%020d"}' % (head, comma, sequence)
