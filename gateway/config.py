"""The configuration file: what it may say, what that defaults to, and what is wrong with it.

Owns the sections of contract section 6 and the wording of every problem. A source is validated by its adapter's own model,
a webhook by the model of its room. Must not open, connect or start anything.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from adapters import registry
from adapters.api import SourceConfig
from gateway import document
from gateway.access import SCOPES
from gateway.document import Document, Key, Problem
from gateway.errors import ConfigError
from gateway.store.api import Bounds
from gateway.validation import reject, suggest, translate
from gateway.webhooks import doubts
from gateway.webhooks.config import EndpointConfig
from schemas.duration import Seconds
from schemas.filter import Filter
from schemas.name import RULE, Name

Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]

#: Default of `auth.algorithms` for a key set: what it may hold is not known beforehand, but never a shared secret.
ASYMMETRIC: Final[tuple[Algorithm, ...]] = ("RS256", "ES256", "EdDSA")

#: RFC 7518 section 3.2: a key of the same size as the hash output or larger must be used. Shorter ones are warned of at the
#: start: refusing them would lock out issuers that have one already.
MIN_SECRET_BYTES: Final = 32

Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of the file. Unknown keys are errors, and no error shows a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True)


# --- sections --------------------------------------------------------------------------------------------------------


class Server(Section):
    """Where consumers connect, and how many may."""

    host: Annotated[str, Field(min_length=1, description="address to listen at")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="0 takes a free one")] = 8080
    allowed_origins: Annotated[
        tuple[str, ...],
        Field(description="origins of browser pages that may connect, instead of the server's own"),
    ] = ()
    ui: Annotated[bool, Field(description="serves the dashboard at /ui/")] = True
    stream_buffer: Annotated[int, Field(ge=4096, le=1 << 30, description="bytes waiting per connection")] = 1 << 20
    compression: Annotated[
        Literal["off", "shared"], Field(description="permessage-deflate, each event compressed once for everybody")
    ] = "off"
    drain_timeout: Annotated[
        Seconds, Field(le=3600, description="how long a shutdown waits for the log, deliveries and streams")
    ] = 10.0
    max_connections: Annotated[Count, Field(description="streams in all")] = 50_000
    max_connections_per_token: Annotated[Count, Field(description="streams of one holder of a token")] = 10_000
    max_connections_per_address: Annotated[
        Count | None, Field(description="streams of one client address; off by default: a proxy is one address")
    ] = None

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong: list[tuple[Key, str]] = []
        for index, origin in enumerate(value):
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or not parts.hostname
                or parts[2:] not in (("", "", ""), ("/", "", ""))
            ):
                wrong.append(((index,), "must be an origin without a path, such as https://app.example.com"))
        reject(cls.__name__, wrong)
        return tuple(origin.rstrip("/").lower() for origin in value)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return _is_loopback(self.host)


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class StaticToken(Section):
    """A token that is written in the configuration."""

    token: Annotated[SecretStr, Field(min_length=1, description="what the holder presents")]
    scope: Annotated[str, Field(description="space-separated")]
    name: Annotated[Name | None, Field(description=f"shown in logs instead of the token; {RULE}")] = None
    sources: Annotated[tuple[str, ...], Field(description="the holder sees nothing outside of these")] = ()
    tasks: Annotated[tuple[str, ...], Field(description="task keys, <source name>/<task id>")] = ()
    kinds: Annotated[tuple[str, ...], Field(description="task kinds")] = ()

    @field_validator("scope")
    @classmethod
    def _known(cls, value: str) -> str:
        words = value.split()
        if not words:
            raise ValueError(f"must name at least one of {', '.join(SCOPES)}")
        for word in words:
            if word not in SCOPES:
                raise ValueError(f"has an unknown scope{suggest(word, SCOPES)}")
        return " ".join(dict.fromkeys(words))

    @property
    def scopes(self) -> frozenset[str]:
        """The words of `scope`."""
        return frozenset(self.scope.split())

    @property
    def bounds(self) -> Filter:
        """Outside of this the holder sees nothing."""
        return Filter(source=self.sources, task=self.tasks, kind=self.kinds)


def _default_algorithms(data: dict[str, Any]) -> tuple[Algorithm, ...]:
    if data.get("public_key"):
        return (_algorithm_of(data["public_key"]),)
    if data.get("jwks_url"):
        return ASYMMETRIC
    return ("HS256",) if data.get("secret") else ()


def _default_mode(data: dict[str, Any]) -> Literal["none", "jwt"]:
    return "jwt" if any(data.get(key) for key in ("secret", "public_key", "jwks_url", "tokens")) else "none"


class Auth(Section):
    """Who may connect. Exactly one kind of key verifies JSON Web Tokens; static tokens may be added, or stand alone."""

    secret: Annotated[SecretStr | None, Field(description="shared secret of HS256, 32 bytes or more")] = None
    public_key: Annotated[str | None, Field(description="PEM: RSA, EC P-256 or Ed25519")] = None
    jwks_url: Annotated[str | None, Field(description="where the issuer publishes its keys")] = None
    algorithms: tuple[Algorithm, ...] = Field(
        default_factory=_default_algorithms, description="accepted ones; never taken from a token"
    )
    audience: Annotated[str | None, Field(min_length=1, description="required `aud`")] = None
    issuer: Annotated[str | None, Field(min_length=1, description="required `iss`")] = None
    tokens: Annotated[
        tuple[StaticToken, ...], Field(description="tokens without an issuer, besides or instead of a key")
    ] = ()
    allow_insecure: Annotated[bool, Field(description="allows mode none beyond this machine")] = False
    mode: Literal["none", "jwt"] = Field(default_factory=_default_mode, description="jwt where a key or token is given")

    @field_validator("secret")
    @classmethod
    def _no_pem(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            secret = value.get_secret_value()
            if secret.lstrip().startswith("-----BEGIN"):
                raise ValueError("is a PEM key; a public key belongs in public_key")
            if not secret:
                raise ValueError("must not be empty")
        return value

    @field_validator("public_key")
    @classmethod
    def _usable(cls, value: str | None) -> str | None:
        if value is not None:
            _algorithm_of(value)
        return value

    @field_validator("jwks_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
                raise ValueError("must be an https:// URL without user name")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Auth:
        wrong: list[tuple[Key, str]] = []
        keys = [key for key in ("secret", "public_key", "jwks_url") if getattr(self, key) is not None]
        for key in keys[1:]:
            wrong.append(((key,), f"only one of secret, public_key, jwks_url; {keys[0]} is given as well"))
        if self.mode == "none" and (keys or self.tokens):
            given = keys[0] if keys else "tokens"
            wrong.append((("mode",), f"is none although {given} is given; must be jwt"))
        if self.mode == "jwt" and not keys and not self.tokens:
            wrong.append((("mode",), "is jwt, which needs one of secret, public_key, jwks_url or tokens"))
        if len(keys) == 1:
            wrong += [(("algorithms", index), text) for index, text in self._mismatched(keys[0])]
        if keys and not self.algorithms:
            wrong.append((("algorithms",), "must not be empty"))
        if self.jwks_url is not None and not self.allow_insecure:
            parts = urlsplit(self.jwks_url)
            if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
                wrong.append((("jwks_url",), "must be https:// (or set auth.allow_insecure to true)"))
        seen: dict[str, int] = {}
        for index, item in enumerate(self.tokens):
            first = seen.setdefault(item.token.get_secret_value(), index)
            if first != index:
                wrong.append((("tokens", index, "token"), f"is the same as tokens[{first}].token"))
        reject("Auth", wrong)
        return self

    def _mismatched(self, key: str) -> Iterator[tuple[int, str]]:
        """An algorithm that does not belong to the key is how a public key gets used as a shared secret (RFC 8725, 2.1)."""
        fits: tuple[str, ...] = ASYMMETRIC
        if key == "secret":
            fits = ("HS256",)
        elif self.public_key is not None:
            fits = (_algorithm_of(self.public_key),)
        for index, algorithm in enumerate(self.algorithms):
            if algorithm not in fits:
                yield index, f"{algorithm} does not fit {key}, which takes {' or '.join(fits)}"


def _algorithm_of(pem: str) -> Algorithm:
    """The one algorithm that a PEM public key is for.

    Raises:
        ValueError: it is none, or is too weak.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if "PRIVATE KEY" in pem:
        raise ValueError("is a private key; only the public one belongs here")
    try:
        key = load_pem_public_key(pem.strip().encode() + b"\n")
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is not a PEM public key (-----BEGIN PUBLIC KEY-----)") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            raise ValueError("is an RSA key of less than 2048 bits (RFC 7518, section 3.3)")
        return "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA"
    raise ValueError("must be an RSA, EC P-256 or Ed25519 key")


class Store(Section):
    """Where the log is, how long it reaches back, and what it outlives."""

    url: Annotated[str, Field(description="sqlite:///relative or sqlite:////absolute")] = "sqlite:///mainstem.db"
    retain: Annotated[Seconds, Field(description="age at which events and finished tasks are removed")] = 7 * 86400.0
    durability: Annotated[
        Literal["power", "process"],
        Field(description="what a committed event survives: a power cut, or a dead process"),
    ] = "power"

    max_bytes: Annotated[
        int | None, Field(ge=1 << 20, description="what the log may take on the disk; older events go before their age")
    ] = None
    delivery_rows: Annotated[Count, Field(description="settled deliveries of webhooks that are kept")] = 1_000_000
    delivery_bytes: Annotated[
        int, Field(ge=1 << 20, description="bytes that the attempts of settled deliveries may take")
    ] = 1 << 30

    @field_validator("url")
    @classmethod
    def _absolute(cls, value: str, info: ValidationInfo) -> str:
        name = value.removeprefix("sqlite:///")
        if name == value or not name or name.endswith("/") or name == ":memory:":
            raise ValueError("must be sqlite:///<path>, with a fourth slash for an absolute path")
        directory: Path = (info.context or {}).get("directory", Path())
        return f"sqlite:///{(directory / name).absolute()}"

    @property
    def bounds(self) -> Bounds:
        """How much retention leaves."""
        return Bounds(self.delivery_rows, self.delivery_bytes, self.max_bytes)

    @property
    def path(self) -> Path:
        """The database file."""
        return Path(self.url.removeprefix("sqlite:///"))


class Log(Section):
    """What the gateway says about itself."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="the least that is logged; debug shows payloads"),
    ] = "info"
    format: Annotated[Literal["json", "console"], Field(description="one JSON object a line, or lines for people")] = (
        "json"
    )

    @field_validator("level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value


def _source(value: Any) -> Any:
    """A source as its own adapter understands it."""
    if isinstance(value, SourceConfig):
        return value
    if not isinstance(value, Mapping):
        raise PydanticCustomError("model_type", "must be a mapping")
    name = value.get("adapter")
    try:
        if isinstance(name, str):
            return registry.load(name).Config.model_validate(value)
        problem = f"is required: one of {', '.join(registry.available())}"
    except registry.AdapterUnavailable as error:
        problem = str(error)
    reject("SourceConfig", [(("adapter",), problem)])
    return value


def _model_of(key: Key, item: Any) -> type[BaseModel] | None:
    """The model of one source; every other list has items of one kind."""
    return registry.load(item["adapter"]).Config if key[:-1] == ("sources",) else None


class Entrance(Section):
    """What one needs to know of a gateway to come in: where it is, and whom it lets in. `repr` shows no secret."""

    auth: Auth = Field(default_factory=Auth, description="who may connect")
    server: Server = Field(default_factory=Server, description="where consumers connect")

    @field_validator("server")
    @classmethod
    def _guarded(cls, value: Server, info: ValidationInfo) -> Server:
        auth = info.data.get("auth")
        if auth is not None and auth.mode == "none" and not auth.allow_insecure and not value.is_loopback:
            text = "is not a loopback address, as auth.mode none requires: use auth.mode jwt (or auth.allow_insecure)"
            reject(cls.__name__, [(("host",), text)])
        return value


class Settings(Entrance):
    """A valid configuration. `repr` shows no secret."""

    store: Store = Field(default_factory=Store, description="where the log is")
    sources: Annotated[
        tuple[Annotated[SerializeAsAny[SourceConfig], BeforeValidator(_source)], ...],
        Field(description="the upstreams"),
    ] = ()
    webhooks: Annotated[tuple[EndpointConfig, ...], Field(description="where events are posted to")] = ()
    log: Log = Field(default_factory=Log, description="what the gateway says about itself")

    def doubts(self) -> list[str]:
        """What is valid and yet not what anybody can mean, one text each: filters of webhooks that match nothing."""
        names = [source.name for source in self.sources]
        return [
            f"webhooks[{index}].{field}: {text}"
            for index, endpoint in enumerate(self.webhooks)
            for field, text in doubts.of(endpoint.where, names)
        ]

    def secrets(self) -> list[str]:
        """Every secret text in it, for the scrubber of the logs."""
        found = list(_secrets(self))
        for source in self.sources:
            found += registry.load(source.adapter)(source).secrets()
        return sorted({secret for secret in found if secret})


def _secrets(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        yield secret
        if secret.startswith("whsec_"):
            yield secret.removeprefix("whsec_")
    elif isinstance(value, BaseModel):
        for _, item in value:
            yield from _secrets(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secrets(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets(item)
    elif isinstance(value, str) and "://" in value and "@" in value:
        password = urlsplit(value).password
        if password:
            yield password


# --- loading ---------------------------------------------------------------------------------------------------------


_Part = TypeVar("_Part", bound=Entrance)


def load(path: str | Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Reads and validates a configuration file.

    Raises:
        ConfigError: it cannot be read or is not valid; one problem a line, `config.yaml:12: sources[1].watch: <what>`.
    """
    return _load(Settings, path, environ)


def load_entrance(path: str | Path, environ: Mapping[str, str] | None = None) -> Entrance:
    """Reads and validates two sections of a configuration file. The others may be wrong, and their variables not set.

    Raises:
        ConfigError: as `load`, about these two and the file as such.
    """
    return _load(Entrance, path, environ, sections=Entrance.model_fields)


def _load(
    model: type[_Part], path: str | Path, environ: Mapping[str, str] | None, sections: Container[str] | None = None
) -> _Part:
    path = Path(path)
    try:
        text = document.read_text(path)
    except document.Unreadable as error:
        raise ConfigError(f"{path}: {error}") from None
    directory = path.absolute().parent
    parsed = document.parse(text, os.environ if environ is None else environ, directory, sections)
    settings, problems = _validate(model, parsed, directory)
    if settings is None or problems:
        problems.sort(key=lambda problem: problem.line)
        lines = (document.conceal(problem.render(str(path)), parsed.filled) for problem in problems)
        raise ConfigError("\n".join(dict.fromkeys(lines)))
    return settings


def _validate(model: type[_Part], parsed: Document, directory: Path) -> tuple[_Part | None, list[Problem]]:
    problems = list(parsed.problems)
    data = {} if parsed.data is None else parsed.data
    if not isinstance(data, dict):
        if not problems:
            problems.append(
                Problem(1, (), "must be a mapping of sections: server, auth, store, sources, webhooks, log")
            )
        return None, problems
    # A section whose entries are all commented out is null; one that is absent gets its defaults here, with the directory.
    data = {name: value for name, value in data.items() if value is not None}
    data = {name: {} for name in ("server", "auth", "store", "log") if name in model.model_fields} | data
    broken = {problem.key for problem in problems}
    problems += _repeated(parsed, data)
    settings = None
    try:
        settings = model.model_validate(data, context={"directory": directory})
    except ValidationError as error:
        found = translate(error.errors(include_url=False), data, model, _model_of)
        for key, reason in found.items():
            if not any(key[: len(other)] == other for other in broken):
                problems.append(Problem(parsed.line(key), key, reason))
    return settings, problems


def _repeated(parsed: Document, data: Mapping[str, Any]) -> Iterator[Problem]:
    """Names that are given twice: looked for in the plain data, so that another problem cannot hide them."""
    for section in ("sources", "webhooks"):
        seen: dict[str, Key] = {}
        items = data.get(section)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            name = item.get("name") if isinstance(item, dict) else None
            if not isinstance(name, str) or not name:
                continue
            key: Key = (section, index, "name")
            first = seen.setdefault(name, key)
            if first != key:
                place = f"{document.dotted(first)} on line {parsed.line(first)}"
                yield Problem(parsed.line(key), key, f"duplicate name, already used by {place}")
