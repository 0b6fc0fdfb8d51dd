"""An endpoint as the configuration file and the API describe it (contract, section 4).

Owns what may be configured and within which bounds. Must not know how deliveries are made. No error message here repeats a
value, for URLs and headers carry credentials; patterns of filters aside, which carry none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address
from typing import Annotated, Any, Literal

import yarl
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from gateway.document import Key
from gateway.validation import not_text, reject
from gateway.webhooks import guard, schedule, signing
from schemas.duration import SecondsOrZero
from schemas.filter import FIELDS, Filter, split
from schemas.name import ENDPOINT_RULE, EndpointName

#: Headers that a delivery sets itself, that belong to one connection (RFC 9110, 7.6.1), or that would change how the
#: request is read. User headers with these names are refused, as are the prefixes below. Svix's own libraries read `svix-`
#: before `webhook-`, and verify what they find there.
RESERVED_HEADERS = frozenset({
    "accept", "accept-encoding", "connection", "cookie2", "date", "expect", "host", "keep-alive", "te", "traceparent",
    "tracestate", "trailer", "transfer-encoding", "upgrade", "user-agent", "via",
})  # fmt: skip
RESERVED_HEADER_PREFIXES = ("webhook-", "svix-", "ce-", "content-", "proxy-", "sec-")
#: Behind CGI and what took after it (RFC 3875, 4.1.18), `-` and `_` are the same in a name; to some servers so is any other
#: character that is no letter or digit.
_LIKE_A_DASH = re.compile(r"[^a-z0-9]", re.ASCII)
#: User headers of an endpoint.
MOST_HEADERS = 32

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?|", re.ASCII)
#: Fields of a filter whose values cannot have a comma in them.
_WITHOUT_COMMAS = ("source", "status", "type")
#: Scheme, authority, what a request asks for, and a fragment (RFC 3986, appendix B); host and port of an authority.
_URL = re.compile(r"(https?)://([^/?#]+)([^#]*)(#.*)?", re.ASCII | re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[.*]|[^:]*)(?::(.*))?", re.ASCII | re.DOTALL)
#: What a URL is made of (RFC 3986, section 2). `[` and `]` belong to hosts alone, but queries with them are everywhere.
_URL_TEXT = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+", re.ASCII)
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_PORT = re.compile(r"\d{0,8}", re.ASCII)

#: Delays that a schedule may have.
MOST_DELAYS = 32

Delay = Annotated[float, Field(ge=0, le=604800, allow_inf_nan=False)]


class EndpointConfig(BaseModel):
    """Where deliveries go, which, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[EndpointName, Field(description=f"unique; label of metrics; {ENDPOINT_RULE}")]
    # before the URL, which is judged by them
    allow_private: bool = Field(default=False, description="may connect to addresses that are not public")
    allow_http: bool = Field(default=False, description="may use plain http:// to public addresses")
    url: Annotated[
        str, Field(min_length=1, max_length=2048, repr=False, description="http or https, no user information")
    ]
    secret: SecretStr = Field(
        description="whsec_ and 24 to 64 bytes in base64; or whsk_ and an Ed25519 private key (signatures v1a)"
    )
    source: tuple[str, ...] = Field(default=(), description="names of sources")
    task: tuple[str, ...] = Field(default=(), description='task keys, "<source name>/<task id>"')
    kind: tuple[str, ...] = Field(default=(), description="task kinds")
    status: tuple[str, ...] = Field(default=(), description="canonical statuses")
    type: tuple[str, ...] = Field(default=(), description='event types, exact or a prefix ending in "*"')
    headers: dict[str, SecretStr] = Field(default={}, max_length=MOST_HEADERS, description="sent with every delivery")
    retry_schedule: tuple[Delay, ...] = Field(
        default=schedule.DEFAULT_DELAYS,
        max_length=MOST_DELAYS,
        description=f"seconds after each failed attempt, at most {MOST_DELAYS} of them; then it is dead",
    )
    timeout: float = Field(
        default=15.0, gt=0, le=120, description="seconds for one attempt, the answer's body included"
    )
    concurrency: int = Field(
        default=16, ge=1, le=256, description="deliveries in flight at once; one is until its result is stored"
    )
    rate_limit: float | None = Field(default=None, gt=0, le=100_000, description="requests a second; none: no limit")
    progress: Literal["every", "latest", "none"] = Field(
        default="every", description="every progress event, only the newest of those that wait, or none"
    )
    disable_after: SecondsOrZero = Field(
        default=5 * 86400.0,
        le=366 * 86400.0,
        description="how long everything may fail before the endpoint is disabled; 0: for ever",
    )
    enabled: bool = Field(default=True, description="false: nothing is queued for it")

    @field_validator(*FIELDS, mode="before")
    @classmethod
    def _as_in_filter(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        if isinstance(value, str):
            value = split(value)  # as in the query of the stream
        elif not isinstance(value, list | tuple) or any(not isinstance(item, str) for item in value):
            raise ValueError("must be text, or a list of texts")
        elif name in _WITHOUT_COMMAS and any("," in item for item in value):
            raise ValueError("a value has a comma, which none can have: make two items of it")
        try:
            return getattr(Filter.model_validate({name: value}), name)
        except ValidationError as error:
            raise ValueError(error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")) from None

    @field_validator("retry_schedule", mode="before")
    @classmethod
    def _delays(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) > MOST_DELAYS:
            raise ValueError(f"must be a list of at most {MOST_DELAYS} numbers")
        return tuple(value)

    @field_validator("secret")
    @classmethod
    def _decodable(cls, value: SecretStr) -> SecretStr:
        signing.decode_secret(value.get_secret_value())
        return value

    @field_validator("headers", mode="before")
    @classmethod
    def _harmless(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            wrong: list[tuple[Key, str]] = list(_header_objections(value))
            if len(value) > MOST_HEADERS:
                wrong.append(((), f"must have at most {MOST_HEADERS} items"))
            reject(cls.__name__, wrong)
        return value

    @field_validator("url")
    @classmethod
    def _reachable(cls, value: str, info: ValidationInfo) -> str:
        why = _url_objection(
            value,
            allow_private=info.data.get("allow_private", False),
            allow_http=info.data.get("allow_http", False),
        )
        if why is not None:
            raise ValueError(why)
        return value

    @property
    def where(self) -> Filter:
        """The filter that an event has to match."""
        return Filter(**{name: getattr(self, name) for name in FIELDS})

    @property
    def target(self) -> yarl.URL:
        """The URL as requests are made to it."""
        return _as_written(self.url)

    @property
    def private_only(self) -> bool:
        """The URL is `http://` and that is allowed for addresses that are not public alone."""
        return self.url[:5].lower() == "http:" and not self.allow_http

    @property
    def keys(self) -> tuple[signing.Key, ...]:
        """The signing keys, the current one first."""
        return (signing.decode_secret(self.secret.get_secret_value()),)


def _header_objections(headers: Mapping[Any, Any]) -> Iterator[tuple[Key, str]]:
    """Each header that cannot be sent, by its name, and why."""
    seen = set()
    for name, value in headers.items():
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        lower = str(name).lower()
        alike = _LIKE_A_DASH.sub("-", lower)
        if not _TOKEN.fullmatch(str(name)):
            yield (name,), "is no header name: these are 1 to 128 letters, digits and !#$%&'*+-.^_`|~"
        elif alike in RESERVED_HEADERS or alike.startswith(RESERVED_HEADER_PREFIXES):
            yield (name,), "is reserved"
        elif lower in seen:
            yield (name,), "is given twice"
        elif not isinstance(text, str):
            yield (name,), not_text(text)
        elif len(text) > 4096 or not _VALUE.fullmatch(text):
            yield (name,), "must be at most 4096 printable ASCII characters on one line, without blanks around them"
        seen.add(lower)


def _url_objection(url: str, *, allow_private: bool, allow_http: bool) -> str | None:
    """Why deliveries cannot go to a URL, in words that repeat nothing of it."""
    parts = _URL.fullmatch(url)
    if parts is None:
        return "must start with https:// (or http://) and a host"
    scheme, authority, _, fragment = parts.groups()
    if "@" in authority:
        return "user information does not belong in it; use headers"
    if authority.startswith("[") and "%" in authority:
        return "an IPv6 address with a zone cannot be sent to; use a name for it"
    if not _URL_TEXT.fullmatch(url):
        return (
            "all but letters, digits and -._~:/?#[]@!$&'()*+,;= has to be percent-encoded: a blank is %20, a % is %25"
        )
    if fragment is not None:
        return "a fragment is never sent"
    if why := _authority_objection(authority):
        return why
    host = _as_written(url).raw_host
    assert host is not None
    plain = scheme.lower() == "http" and not allow_http
    refused = guard.host_objection(host, allow_private=allow_private, plain=plain)
    return None if refused is None else f"the host is refused: {refused}"


def _authority_objection(authority: str) -> str | None:
    """Why an authority names no host and port. Stricter than its reader, who takes more and turns it into something else."""
    parts = _AUTHORITY.fullmatch(authority)
    assert parts is not None  # everything does
    host, port = parts.groups()
    if host.startswith("["):
        try:
            IPv6Address(host[1:-1])
        except ValueError:
            return "what is in brackets is not an IPv6 address"
    elif not _HOST_NAME.fullmatch(host):
        return "the host is not a host name"
    if port and not (_PORT.fullmatch(port) and 1 <= int(port) <= 65535):
        return "the port is not a number from 1 to 65535"
    return None


def _as_written(url: str) -> yarl.URL:
    """A valid URL as a request is made to it: the host in its usual form, what is asked for to the byte.

    Receivers sign their URLs and compare them as texts, so nothing may be quoted anew. The query is a part of the path here,
    because yarl does not tell an empty one from none.
    """
    parts = _URL.fullmatch(url)
    assert parts is not None
    scheme, authority, target, _ = parts.groups()
    origin = yarl.URL(f"{scheme}://{authority}")
    path = target if target.startswith("/") else f"/{target}"
    return yarl.URL.build(scheme=origin.scheme, authority=origin.raw_authority, path=path, encoded=True)
