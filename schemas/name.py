"""Names that people choose: of sources and tokens, and of endpoints, which may have dots, too.

They are parts of task keys, paths and labels of metrics, so each has a rule; what breaks it is told of in words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field

#: The rules in words.
RULE = "begins with a letter or digit, then letters, digits, _ -; at most 63 characters"
ENDPOINT_RULE = "begins with a letter or digit, then letters, digits, _ . -; at most 64 characters"

_PATTERN, _ENDPOINT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


def _kept(pattern: str, rule: str) -> Callable[[str], str]:
    fits = re.compile(pattern.removeprefix("^").removesuffix("$"), re.ASCII).fullmatch

    def checked(name: str) -> str:
        if fits(name) is None:
            raise ValueError(rule.replace("begins", "must begin"))
        return name

    return checked


Name = Annotated[str, AfterValidator(_kept(_PATTERN, RULE)), Field(json_schema_extra={"pattern": _PATTERN})]
EndpointName = Annotated[
    str,
    AfterValidator(_kept(_ENDPOINT_PATTERN, ENDPOINT_RULE)),
    Field(json_schema_extra={"pattern": _ENDPOINT_PATTERN}),
]
