"""Problem details: what every error answer of the HTTP API looks like (RFC 9457).

Owns the shape only. Must not know which errors there are or how they come about.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: Content type of every error answer (RFC 9457, section 3).
MEDIA_TYPE = "application/problem+json"

#: `type` is this and the code: a name to tell problems apart by, not an address to fetch.
TYPE_PREFIX = "urn:mainstem:problem:"


class FieldProblem(BaseModel):
    """What is wrong with one query parameter, or one field of a body."""

    model_config = ConfigDict(extra="allow", frozen=True)

    field: str = Field(description="name of the query parameter, or dotted path of the field")
    detail: str = Field(description="what is wrong with it, for a person")


class Problem(BaseModel):
    """A problem details object. Extension members may stand beside the fields; unknown ones are to be ignored."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Annotated[str, Field(pattern=r"^urn:mainstem:problem:[a-z_]+$", description="URI that names the problem")]
    title: str = Field(description="the HTTP status in words; the same for every occurrence")
    status: Annotated[int, Field(ge=400, le=599, description="HTTP status")]
    detail: str = Field(description="what is wrong with this request, for a person")
    instance: str = Field(description="path of the request, never its query: that may hold a token")
    code: Annotated[
        str, Field(pattern=r"^[a-z_]+$", description="short constant for programs; the last part of `type`")
    ]
    errors: list[FieldProblem] | None = Field(default=None, description="each parameter or field that is not valid")
