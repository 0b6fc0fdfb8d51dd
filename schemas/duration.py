"""Lengths of time in configuration: a number of seconds, or a number with a unit (`90s`, `15m`, `12h`, `7d`)."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", re.ASCII)


def seconds(value: Any) -> Any:
    """The seconds that a text such as `1h` means; what is no text is left as it is.

    Raises:
        ValueError: the text is not a length of time.
    """
    if not isinstance(value, str):
        return value
    match = _TEXT.fullmatch(value)
    if match is None:
        raise ValueError("is not a length of time: write a number of seconds, or 500ms, 90s, 15m, 12h, 7d")
    return float(match.group(1)) * _UNITS[match.group(2) or "s"]


def _written(number: dict[str, Any]) -> WithJsonSchema:
    """How a length of time is written, for editors of configuration files."""
    text = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d)?\s*$"}
    return WithJsonSchema({"title": "length of time", "anyOf": [{"type": "number", **number}, text]})


Seconds = Annotated[
    float, BeforeValidator(seconds), Field(gt=0, allow_inf_nan=False), _written({"exclusiveMinimum": 0})
]
SecondsOrZero = Annotated[float, BeforeValidator(seconds), Field(ge=0, allow_inf_nan=False), _written({"minimum": 0})]
