"""Commands: from the text a client sent to a command, or to what is wrong with it. Pure; no input makes it raise."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from pydantic import ValidationError

from schemas.stream import COMMANDS, Command


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that is no command: constant code, explanation, the field that is meant, the subscription it named."""

    code: str
    message: str
    field: str | None = None
    id: str | None = None


def parse(text: str | bytes) -> Command | Malformed:
    """Reads one message of a client."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Malformed("not_json", "the message is not JSON")
    if not isinstance(value, dict):
        return Malformed("not_a_command", 'a command is a JSON object with "op"')
    named = value.get("id")
    id = named if isinstance(named, str) else None
    op = value.get("op")
    model = COMMANDS.get(op) if isinstance(op, str) else None
    if model is None:
        return Malformed("unknown_op", f'"op" must be one of {", ".join(COMMANDS)}', "op", id)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = _dotted(first["loc"])
        return Malformed("invalid_field", f"{field}: {first['msg']}", field, id)


def _dotted(location: tuple[str | int, ...]) -> str:
    """The field in a command; branches of a union, which pydantic names too, are no part of it."""
    return ".".join(str(part) for part in location if not str(part).startswith(("str", "constrained-int", "int")))


class Allowance:
    """A token bucket: so many commands a second, and so many at once."""

    __slots__ = ("_burst", "_left", "_rate", "_since")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._since = now

    def spend(self, now: float) -> bool:
        """Takes one; False where none was left."""
        self._left = min(self._burst, self._left + (now - self._since) * self._rate)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
