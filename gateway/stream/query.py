"""Query: what the URL of a stream request (and `Last-Event-ID`) asks for. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from pydantic import ValidationError

from gateway.stream import resume
from schemas.filter import Filter

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Unreadable(ValueError):
    """A parameter cannot be understood. The message names it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The subscription that a URL asks for. `implicit` is False where it asks for none."""

    wanted: Filter
    after: resume.Position | None
    snapshot: bool
    implicit: bool


def parse(query: Iterable[tuple[str, str]], last_event_id: str | None = None) -> Ask:
    """Reads the parameters; ones that the stream does not know are ignored.

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
    return Ask(_shared(wanted), after, snapshot, implicit=subscribe is None)


@lru_cache(maxsize=1024)
def _shared(wanted: Filter) -> Filter:
    """The same object for equal filters: thousands of connections hold them."""
    return wanted


def _single(pairs: list[tuple[str, str]], name: str) -> str | None:
    values = {value for key, value in pairs if key == name}
    if len(values) > 1:
        raise Unreadable(f"{name}: given more than once")
    return values.pop() if values else None
