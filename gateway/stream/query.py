"""Query: what the URL of a stream request (and `Last-Event-ID`) asks for. Pure.

Owns which names of parameters are said to be unknown, and how, for the read API as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from pydantic import ValidationError

from gateway.stream import resume
from schemas.filter import FIELDS, Filter

#: Every parameter of the stream's URL.
PARAMETERS = (*FIELDS, "after", "snapshot", "subscribe", "token")

#: Names that are said to be unknown, and characters of each: whoever made them up is told no more than helps.
_MOST, _LONGEST = 5, 32
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Unreadable(ValueError):
    """A parameter cannot be understood. The message names it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The subscription that a URL asks for. `implicit` is False where it asks for none; `unknown`: see there."""

    wanted: Filter
    after: resume.Position | None
    snapshot: bool
    implicit: bool
    unknown: tuple[str, ...] = ()


def parse(query: Iterable[tuple[str, str]], last_event_id: str | None = None) -> Ask:
    """Reads the parameters. Ones that the stream does not know change nothing: proxies and browsers' stand-ins add some.

    `last_event_id` wins over `after`, because a browser repeats the URL and adds the newer position. One that cannot be
    read is answered like one from another log (`reset`): a browser would give up for good at an HTTP error.

    Raises:
        Unreadable: a value cannot be understood, or contradicts another one.
    """
    pairs = list(query)
    try:
        wanted = Filter.from_query(pairs)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise Unreadable(f"{first['loc'][0]}: {first['msg']}") from None
    snapshot = _TRUTH.get(_single(pairs, "snapshot") or "false")
    if snapshot is None:
        raise Unreadable("snapshot: expected true or false")
    subscribe = _single(pairs, "subscribe")
    if subscribe not in (None, "none"):
        raise Unreadable('subscribe: only "none" is known')
    text = _single(pairs, "after")
    after = None
    if text is not None:
        try:
            after = resume.parse(text)
        except ValueError as error:
            raise Unreadable(f"after: {error}") from None
    if last_event_id:
        try:
            after = resume.parse(last_event_id)
        except ValueError:
            after = resume.UNKNOWN
    names = unknown((name for name, _ in pairs), PARAMETERS)
    return Ask(_shared(wanted), after, snapshot, implicit=subscribe is None, unknown=names)


def unknown(names: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """The first few names that are not known, each once, cut where it is long, as text that can be encoded."""
    found: dict[str, None] = {}
    for name in names:
        if name not in known:
            found[name[:_LONGEST].encode("utf-8", "replace").decode()] = None
            if len(found) == _MOST:
                break
    return tuple(found)


def complaint(names: Iterable[str], known: Iterable[str]) -> str:
    """What is said of names that are not known."""
    return f"unknown parameter: {', '.join(map(repr, names))}; known: {', '.join(known)}"


@lru_cache(maxsize=1024)
def _shared(wanted: Filter) -> Filter:
    """The same object for equal filters: thousands of connections hold them."""
    return wanted


def _single(pairs: list[tuple[str, str]], name: str) -> str | None:
    values = {value for key, value in pairs if key == name}
    if len(values) > 1:
        raise Unreadable(f"{name}: given more than once")
    return values.pop() if values else None
