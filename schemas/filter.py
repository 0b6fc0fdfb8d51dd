"""What a consumer wants to see: the same filter for the stream, the read API, webhooks and tokens.

Values of one field are OR-ed, fields are AND-ed. A filter on a field that an event does not have does not match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from schemas.event import Status

STATUSES = tuple(status.value for status in Status)
FIELDS = ("source", "task", "kind", "status", "type")


class Subject(Protocol):
    """What a filter looks at: an event of the log, or a task's current state."""

    @property
    def type(self) -> str: ...
    @property
    def source(self) -> str | None:
        """Name of the source."""

    @property
    def task(self) -> str | None:
        """Task key, `<source name>/<task id>`."""

    @property
    def kind(self) -> str | None: ...
    @property
    def status(self) -> str | None: ...


class Filter(BaseModel):
    """Each field a list of accepted values, an empty one accepts everything; `type` also takes prefixes ending in `*`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: tuple[str, ...] = Field(default=(), description="names of sources")
    task: tuple[str, ...] = Field(default=(), description='task keys, "<source name>/<task id>"')
    kind: tuple[str, ...] = Field(default=(), description="task kinds")
    status: tuple[str, ...] = Field(
        default=(),
        description="canonical statuses",
        json_schema_extra={"items": {"type": "string", "enum": [*STATUSES]}},
    )
    type: tuple[str, ...] = Field(default=(), description='event types, exact or a prefix ending in "*"')

    @field_validator(*FIELDS, mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator(*FIELDS)
    @classmethod
    def _plain(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not item for item in value):
            raise ValueError("an empty value matches nothing")
        return value

    @field_validator("type")
    @classmethod
    def _prefix(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if "*" in item[:-1]:
                raise ValueError(f"{item!r}: only a final * is a wildcard")
        return value

    @classmethod
    def from_query(cls, query: Iterable[tuple[str, str]]) -> Filter:
        """The filter in a URL's query: parameters repeatable or comma-separated, others ignored.

        Raises:
            pydantic.ValidationError: a value is empty, has a `*` in the middle, or is a status that there is not.
        """
        values: dict[str, list[str]] = {}
        for name, value in query:
            if name in FIELDS:
                values.setdefault(name, []).extend(split(value))
        return asked(cls.model_validate({name: tuple(items) for name, items in values.items()}))

    @property
    def is_empty(self) -> bool:
        """Whether everything matches."""
        return not (self.source or self.task or self.kind or self.status or self.type)

    def without_type(self) -> Filter:
        """The same filter for things that have no type, such as current states."""
        return self.model_copy(update={"type": ()})

    def compile(self) -> Callable[[Subject], bool]:
        """A predicate, made once per subscription and called once per event."""
        sets = {name: frozenset(getattr(self, name)) for name in FIELDS[:-1] if getattr(self, name)}
        exact = frozenset(item for item in self.type if not item.endswith("*"))
        prefixes = tuple(item[:-1] for item in self.type if item.endswith("*"))
        by_type = bool(self.type)

        def matches(subject: Subject) -> bool:
            for name, accepted in sets.items():
                if getattr(subject, name) not in accepted:
                    return False
            return not by_type or subject.type in exact or (bool(prefixes) and subject.type.startswith(prefixes))

        return matches


def split(text: str) -> list[str]:
    """The values of one field in a text, separated by commas. Blanks around a value do not count."""
    return [value.strip() for value in text.split(",")]


def asked(wanted: Filter) -> Filter:
    """The filter, where somebody who waits for the answer may ask with it: a status that there is not matches nothing, ever.

    Types are free: prefixes and those of newer gateways are asked for as well. Filters that are configured or stored are not
    judged here; theirs outlive the gateway that took them.

    Raises:
        pydantic.ValidationError: of `status`, with the first one that there is not. Inside of a validator, pydantic merges it.
    """
    for status in wanted.status:
        if status not in STATUSES:
            text = f"there is no status {status[:32]!r}; known: {', '.join(STATUSES)}"
            error = PydanticCustomError("unknown_status", "{text}", {"text": text})
            raise ValidationError.from_exception_data(
                "Filter", [{"type": error, "loc": ("status",), "input": None}], hide_input=True
            )
    return wanted
