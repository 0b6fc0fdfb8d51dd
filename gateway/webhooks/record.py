"""What the store keeps of an endpoint beside its deliveries, and how settings of the file and of the API become one. Pure.

Owns the form of the record and the rule which settings hold: those of an endpoint made by the API are in its record. Those
of one in the configuration file are the file's, with what the API changed laid over them for as long as the file says what
it said when the change was made. The secret and the rest are judged apart: a rotation, perhaps after a leak, must not be
undone because somebody edits a timeout. Secrets are in a record as they are, for they have to sign: the store's file is
private to its user. Must not know how an endpoint works or who asks for a change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import SecretStr, ValidationError

from gateway import document
from gateway.errors import Invalid
from gateway.validation import translate
from gateway.webhooks.config import EndpointConfig


class Former(msgspec.Struct, frozen=True):
    """A secret that was replaced and signs until a time, seconds since 1970, UTC."""

    secret: str
    until: float


class Replay(msgspec.Struct, frozen=True):
    """Events up to `upto` are delivered again, those aside that were settled at or after `at` (seconds since 1970, UTC)."""

    upto: int
    at: float


class Revival(msgspec.Struct, frozen=True):
    """Dead letters after a position that were touched before `at` (seconds since 1970, UTC) become pending again."""

    after: int
    at: float


class Notice(msgspec.Struct, frozen=True):
    """An event about the endpoint that may not be in the log yet; the log takes its id once only."""

    id: str
    type: str
    at: float
    data: dict[str, Any]


class Record(msgspec.Struct, omit_defaults=True):
    """What is kept of an endpoint.

    Attributes:
        settings: of an endpoint made by the API; None: the file has them.
        patch: what the API changed of an endpoint of the file, null where it went back to a default.
        fingerprint: of the file's definition without its secret when the API changed it.
        secret_fingerprint: of the file's secret then.
        former: secrets that were replaced and sign on for a while, newest first.
        disabled: why nothing is delivered, beside what the settings say.
        failing_since: of the first failed attempt since the last success, seconds since 1970, UTC.
        held_until: the receiver asked that nothing comes before, seconds since 1970, UTC; 0: it did not.
        replay, revival: what is under way.
        notices: events about it that are to be in the log, oldest first.
        removed: nothing is left to do but to say so and to forget it.
        doomed_upto: what the log has up to there and was not settled when the endpoint was disabled is to become a dead
            letter; what came later is nothing to it. None: it was not disabled.
        paused: the breaker is open.
    """

    settings: dict[str, Any] | None = None
    patch: dict[str, Any] | None = None
    fingerprint: str | None = None
    secret_fingerprint: str | None = None
    former: list[Former] = []
    disabled: str | None = None
    failing_since: float | None = None
    held_until: float = 0.0
    replay: Replay | None = None
    revival: Revival | None = None
    notices: list[Notice] = []
    removed: bool = False
    doomed_upto: int | None = None
    paused: bool = False


_decode = msgspec.json.Decoder(Record).decode


def encode(record: Record) -> bytes:
    """A record as the store keeps it."""
    return msgspec.json.encode(record)


def decode(stored: bytes) -> Record:
    """A stored record.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decode(stored)


def settings_of(config: EndpointConfig) -> dict[str, Any]:
    """The settings that differ from their defaults, secrets in clear, as JSON has them."""
    plain: dict[str, Any] = _revealed(config.model_dump(exclude_defaults=True))
    return plain


def _revealed(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Mapping):
        return {key: _revealed(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_revealed(item) for item in value]
    return value


def secrets_of(settings: Mapping[str, Any]) -> list[str]:
    """What of settings must never be seen: the secret, and the values of headers."""
    headers = settings.get("headers")
    found = [settings.get("secret"), *(headers.values() if isinstance(headers, Mapping) else ())]
    texts = [text for text in found if isinstance(text, str)]
    return [*texts, *(text.partition("_")[2] for text in texts if text.startswith(("whsec_", "whsk_")))]


def fingerprint(config: EndpointConfig) -> str:
    """A name for what the file says of an endpoint, its secret aside, from which that cannot be read."""
    settings = settings_of(config)
    del settings["secret"]
    return hashlib.sha256(msgspec.json.encode(settings, order="sorted")).hexdigest()


def secret_fingerprint(config: EndpointConfig) -> str:
    """A name for the secret that the file gives an endpoint. It is long enough that it cannot be guessed from it."""
    return hashlib.sha256(config.secret.get_secret_value().encode()).hexdigest()


def merge(target: Mapping[str, Any], patch: Mapping[str, Any], *, keep: bool = False) -> dict[str, Any]:
    """A JSON Merge Patch (RFC 7396) applied; with `keep`, its nulls stay, so that the result is a patch as well."""
    result = dict(target)
    for name, value in patch.items():
        if isinstance(value, Mapping):
            inner = result.get(name)
            result[name] = merge(inner if isinstance(inner, Mapping) else {}, value, keep=keep)
        elif value is None and not keep:
            result.pop(name, None)
        else:
            result[name] = value
    return result


def respelled(patch: Mapping[str, Any], *known: Mapping[str, Any]) -> dict[str, Any]:
    """A patch whose headers are spelled as they are in settings that there are: their names have no case (RFC 9110, 5.1).

    Raises:
        Invalid: it names a header twice.
    """
    headers = patch.get("headers")
    if not isinstance(headers, Mapping):
        return dict(patch)
    there = [settings.get("headers") for settings in known]
    spelling: dict[str, str] = {name.lower(): name for names in there if isinstance(names, Mapping) for name in names}
    found: dict[str, Any] = {}
    for name, value in headers.items():
        spelled = spelling.setdefault(name.lower(), name)
        if spelled in found:
            raise Invalid({document.dotted(("headers", name)): "is given twice"})
        found[spelled] = value
    return {**patch, "headers": found}


def validated(settings: Mapping[str, Any]) -> EndpointConfig:
    """Settings as a configuration. They come from JSON, where a number is a number: nothing is made of another type.

    Raises:
        Invalid: they are not valid. Repeats no value.
    """
    try:
        return EndpointConfig.model_validate_json(json.dumps(settings), strict=True)
    except ValidationError as error:
        found = translate(error.errors(include_url=False), settings, EndpointConfig, lambda key, item: None)
        raise Invalid({document.dotted(key): text for key, text in found.items()}) from None


def is_overruled(file: EndpointConfig, record: Record) -> bool:
    """Whether something that the API said of an endpoint gives way to the file: edited since, or it took the name over."""
    return record.settings is not None or _layer(file, record) != (record.patch or {})


def overrule(file: EndpointConfig, record: Record, now: float) -> list[str]:
    """Drops what the API said of an endpoint and the file now says otherwise. Returns the names of these settings.

    Where the secret gives way, those that were replaced keep their time, and it signs with them until the last one ends: the
    new secret can be written into the file without cutting an overlap short.

    Args:
        now: seconds since 1970, UTC.
    """
    said, layer = record.settings or record.patch or {}, _layer(file, record)
    replaced = said.get("secret")
    if "secret" not in layer and replaced is not None:
        former = [one for one in record.former if one.until > now]
        until = max((one.until for one in former), default=now)
        former = [Former(replaced, until), *former] if until > now else []
        current = file.secret.get_secret_value()
        record.former = [one for one in former if one.secret != current]
    record.settings, record.patch = None, layer or None
    record.fingerprint = fingerprint(file) if layer else None
    record.secret_fingerprint = secret_fingerprint(file) if layer else None
    return sorted(said.keys() - layer.keys() - {"name"})


def _layer(file: EndpointConfig, record: Record) -> dict[str, Any]:
    """What of a patch holds over the file as it is."""
    if record.patch is None:
        return {}
    same, same_secret = record.fingerprint == fingerprint(file), record.secret_fingerprint == secret_fingerprint(file)
    return {name: value for name, value in record.patch.items() if (same_secret if name == "secret" else same)}


def effective(file: EndpointConfig | None, record: Record) -> EndpointConfig:
    """The configuration that holds.

    Raises:
        Invalid: what is stored is not valid any more.
        ValueError: nobody defines the endpoint.
    """
    if file is None:
        if record.settings is None:
            raise ValueError("an endpoint without a definition")
        return validated(record.settings)
    layer = _layer(file, record)
    return validated(merge(settings_of(file), layer)) if layer else file
