"""Index: which connections want an event, at the cost of those that do.

Connections that asked for the same (filter, bounds of the token, form) make one group, so a thousand pages with the same
filter cost one comparison. A group is found by the narrowest field it names: tasks, then sources, then exact types. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from typing import Generic, TypeVar

from gateway.stream.framing import Form
from schemas.filter import Filter, Subject

MemberT = TypeVar("MemberT", bound=Hashable)


@lru_cache(maxsize=1024)  # shared by the connections that ask for the same
def predicate(wanted: Filter, bounds: Filter, *, redacts: bool) -> Callable[[Subject], bool]:
    """Whether a holder with these bounds, who asked for this, sees an event; the progress view shows events of tasks only."""
    conditions = [item.compile() for item in (wanted, bounds) if not item.is_empty]
    if redacts:
        conditions.append(_is_of_task)
    if not conditions:
        return _always
    if len(conditions) == 1:
        return conditions[0]
    return lambda event: all(condition(event) for condition in conditions)


def _always(event: Subject) -> bool:
    return True


def _is_of_task(event: Subject) -> bool:
    return event.task is not None


class Group(Generic[MemberT]):
    """Members that see the same bytes of the same events. `members` counts how often each has joined."""

    __slots__ = ("bounds", "form", "matches", "members", "wanted")

    def __init__(self, wanted: Filter, bounds: Filter, form: Form) -> None:
        self.wanted = wanted
        self.bounds = bounds
        self.form = form
        self.matches = predicate(wanted, bounds, redacts=form.redacts)
        self.members: dict[MemberT, int] = {}

    def keys(self) -> list[tuple[str, str]]:
        """Under what the group is found: field and value, one of them for every event that can match."""
        for name in ("task", "source"):
            for values in (getattr(self.wanted, name), getattr(self.bounds, name)):
                if values:
                    return [(name, value) for value in dict.fromkeys(values)]
        if self.wanted.type and not any(value.endswith("*") for value in self.wanted.type):
            return [("type", value) for value in dict.fromkeys(self.wanted.type)]
        return [("", "")]


class Index(Generic[MemberT]):
    """All groups that have members."""

    def __init__(self) -> None:
        self._groups: dict[tuple[Filter, Filter, Form], Group[MemberT]] = {}
        self._found: dict[tuple[str, str], list[Group[MemberT]]] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def join(self, member: MemberT, wanted: Filter, bounds: Filter, form: Form) -> Group[MemberT]:
        """Adds a member to the group of those who want the same."""
        identity = (wanted, bounds, form)
        group = self._groups.get(identity)
        if group is None:
            group = self._groups[identity] = Group(wanted, bounds, form)
            for key in group.keys():  # noqa: SIM118 - not a mapping
                self._found.setdefault(key, []).append(group)
        group.members[member] = group.members.get(member, 0) + 1
        return group

    def leave(self, member: MemberT, group: Group[MemberT]) -> None:
        """Takes a member out of a group once."""
        group.members[member] -= 1
        if not group.members[member]:
            del group.members[member]
        if group.members:
            return
        del self._groups[(group.wanted, group.bounds, group.form)]
        for key in group.keys():  # noqa: SIM118 - not a mapping
            groups = self._found[key]
            groups.remove(group)
            if not groups:
                del self._found[key]

    def matching(self, event: Subject) -> Iterator[Group[MemberT]]:
        """The groups that see an event."""
        keys = (("task", event.task or ""), ("source", event.source or ""), ("type", event.type), ("", ""))
        for key in keys:
            for group in self._found.get(key, ()):
                if group.matches(event):
                    yield group
