"""The configuration described: the schema agrees with what the gateway accepts, the page has every key; secrets from files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from ruamel.yaml import YAML

from adapters import registry
from adapters.api import Reconnect, SourceConfig
from gateway import config, reference
from gateway.errors import ConfigError

ROOT = Path(__file__).parent.parent
EXAMPLE = (ROOT / "config.example.yaml").read_text()
SCHEMA = Draft202012Validator(reference.schema())
PAGE = reference.page()


def loads(text: str, directory: Path, environ: Mapping[str, str]) -> str | None:
    """What the gateway says about a file; None: it takes it."""
    path = directory / "config.yaml"
    path.write_text(text)
    try:
        config.load(path, environ)
    except ConfigError as error:
        return str(error).replace(f"{path}:", "")
    return None


def test_the_schema_is_one() -> None:
    """JSON Schema 2020-12."""
    Draft202012Validator.check_schema(SCHEMA.schema)


def test_the_example_is_valid() -> None:
    """With and without what is commented out; editors find the schema from its first line."""
    data = YAML(typ="safe", pure=True).load(EXAMPLE)
    assert [error.message for error in SCHEMA.iter_errors(data)] == []
    first = EXAMPLE.splitlines()[0]
    assert (ROOT / first.removeprefix("# yaml-language-server: $schema=")).is_file()


HOOK = (
    "webhooks: [{name: a, url: 'https://h.example/', secret: whsec_cmVwbGFjZS1tZS1yZXBsYWNlLW1lLXJlcGxhY2UtbWU=, %s}]"
)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "server:",
        "server: {port: '${PORT}', drain_timeout: 90s}",
        "server: {max_connections_per_address: '${PORT:-5}'}",
        "auth: {allow_insecure: '${YES}'}",
        "log: {level: '${LEVEL:-info}', format: console}",
        "store: {retain: 12h, durability: process}",
        "sources: [{name: '${NAME}', adapter: emit, url: 'ws://h', token: '${NAME}', jobs: ['${NAME}']}]",
        "sources: [{name: a, adapter: triverse, url: 'ws://h', token: t, watch: ['1']}]",
        "sources: [{name: a, adapter: triverse, url: 'ws://h', token: t, reconnect: {max: 5}}]",
        HOOK % "type: task.*",
        HOOK % "type: [task.*], headers: {X-A: '${NAME}'}, rate_limit: 2.5, retry_schedule: [1, 2]",
        HOOK % "concurrency: '${PORT}'",
    ],
)
def test_what_the_gateway_takes_the_schema_takes(text: str, tmp_path: Path) -> None:
    """References included, wherever they may stand."""
    environ = {"PORT": "81", "YES": "true", "NAME": "n1"}
    assert loads(text, tmp_path, environ) is None
    assert [error.message for error in SCHEMA.iter_errors(YAML(typ="safe", pure=True).load(text))] == []


@pytest.mark.parametrize(
    "text",
    [
        "sevrer: {}",
        "server: {prot: 1}",
        "server: {port: 70000}",
        "server: {port: http}",
        "log: {level: loud}",
        "store: {retain: 1w}",
        "auth: {tokens: [{token: t}]}",
        "sources: [{name: a, adapter: emit, url: 'ws://h', token: t, jobz: []}]",
        "sources: [{name: a, adapter: emit, url: 'ws://h'}]",
        "sources: [{name: a b, adapter: emit, url: 'ws://h', token: t}]",
        "sources: [{name: a, url: 'ws://h'}]",
        HOOK % "progress: some",
        HOOK % "retry_schedule: [-1]",
    ],
)
def test_what_the_schema_refuses_the_gateway_refuses(text: str, tmp_path: Path) -> None:
    """An editor that underlines it is right."""
    assert not SCHEMA.is_valid(YAML(typ="safe", pure=True).load(text))
    assert loads(text, tmp_path, {}) is not None


def test_a_source_of_an_adapter_that_is_not_built_in() -> None:
    """Its own keys are its own business."""
    source = {"name": "a", "adapter": "pulse", "url": "wss://h", "beat": 7}
    assert SCHEMA.is_valid({"sources": [source]})
    assert not SCHEMA.is_valid({"sources": [{**source, "name": 5}]})


def models() -> Iterator[tuple[str, Any]]:
    """Every key of every section, and its field."""
    sections: list[type[BaseModel]] = [
        config.Server, config.Auth, config.StaticToken, config.Store, config.Log, config.EndpointConfig, SourceConfig, Reconnect,
        *(registry.load(name).Config for name in registry.BUILT_IN),
    ]  # fmt: skip
    for section in sections:
        yield from ((f"{section.__name__}.{name}", field) for name, field in section.model_fields.items())


@pytest.mark.parametrize(("where", "field"), list(models()))
def test_every_key_is_told(where: str, field: Any) -> None:
    """With its meaning, on the page; one in the example, too."""
    assert field.description
    name = where.rpartition(".")[2]
    assert f"| `{name}` |" in PAGE
    assert name in EXAMPLE


@pytest.mark.parametrize(
    "row",
    [
        "| `retain` | length of time | `7d` | age at which events and finished tasks are removed |",
        "| `token` | secret text | required | API key |",
        "| `compression` | `off` or `shared` | `off` | permessage-deflate, each event compressed once for everybody |",
        '| `task` | list of text | - | task keys, "&lt;source name>/&lt;task id>" |',
        "| `catch_up` | length of time | - | how far back the very first connect asks |",
    ],
)
def test_rows_of_the_page(row: str) -> None:
    """Type, default with its unit, meaning."""
    assert row in PAGE.splitlines()


@pytest.mark.parametrize(
    ("seconds", "text"), [(604800.0, "7d"), (90.0, "90s"), (7200, "2h"), (0.5, "0.5s"), (60, "1m")]
)
def test_lengths_of_time_are_written_short(seconds: float, text: str) -> None:
    """In the greatest unit that fits."""
    assert reference._length(seconds) == text


# --- VAR_FILE --------------------------------------------------------------------------------------------------------

SECTION = "auth: {secret: '${JWT}'}"


def test_a_variable_may_be_a_file(tmp_path: Path) -> None:
    """As container platforms hand over secrets: `JWT_FILE` instead of `JWT`; relative paths start at the configuration."""
    (tmp_path / "jwt").write_text("0123456789abcdef0123456789abcdef\n")
    path = tmp_path / "config.yaml"
    for name in ("jwt", str(tmp_path / "jwt")):
        path.write_text(SECTION)
        secret = config.load(path, {"JWT_FILE": name}).auth.secret
        assert secret is not None
        assert secret.get_secret_value() == "0123456789abcdef0123456789abcdef"
    path.write_text("auth: {secret: '${JWT:-default-default-default-default!}'}")
    secret = config.load(path, {"JWT_FILE": "jwt"}).auth.secret
    assert secret is not None
    assert secret.get_secret_value().startswith("0123")


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"JWT": "a", "JWT_FILE": "jwt"}, "environment variables JWT and JWT_FILE are both set"),
        ({"JWT_FILE": "canary"}, "file that JWT_FILE names cannot be read: No such file or directory"),
        ({"JWT_FILE": "empty"}, "file that JWT_FILE names is empty"),
        ({"JWT_FILE": ""}, "environment variable JWT is not set"),
        ({}, "environment variable JWT is not set"),
    ],
)
def test_a_variable_that_cannot_be_had_from_a_file(environ: dict[str, str], problem: str, tmp_path: Path) -> None:
    """The message names the variable and never its value, which may be a secret by mistake."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "jwt").write_text("x")
    found = loads(SECTION, tmp_path, environ)
    assert found is not None
    assert found.splitlines()[0] == f"1: auth.secret: {problem}"
    assert "canary" not in found
