"""The configuration file: what is accepted, what it becomes, and the exact words for what is wrong."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from adapters import registry
from adapters.api import SourceConfig
from adapters.catalyst import Catalyst
from adapters.emit import Emit
from adapters.triverse import Triverse, TriverseConfig
from gateway import config, document
from gateway.config import Settings
from gateway.errors import ConfigError
from gateway.webhooks.config import EndpointConfig
from schemas.filter import Filter

EXAMPLE = Path(__file__).parent.parent / "config.example.yaml"
SECRET = "0123456789abcdef0123456789abcdef"
WHSEC = "whsec_" + base64.b64encode(b"canary-signing-key-of-32-bytes!!").decode()

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a text as `config.yaml`, named in messages without its directory."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, **environ: str) -> Settings:
        Path("config.yaml").write_text(dedent(text).lstrip("\n"))
        return config.load("config.yaml", environ)

    return load


@pytest.fixture
def problems(load: Load) -> Callable[..., list[str]]:
    """The lines of the error that a text leads to."""

    def problems(text: str, **environ: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text, **environ)
        return str(caught.value).splitlines()

    return problems


def pem(key: Any) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


class TestAccepted:
    @pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "server:\nsources:\nwebhooks:\n", "{}"])
    def test_empty_file_is_valid(self, load: Load, text: str) -> None:
        """Nothing is required: everybody on this machine may connect, nobody else."""
        settings = load(text)
        assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)
        assert settings.server.stream_buffer == 1024 * 1024
        assert settings.auth.mode == "none"
        assert (settings.store.retain, settings.store.durability) == (7 * 86400, "power")
        assert (settings.sources, settings.webhooks) == ((), ())
        assert (settings.log.level, settings.log.format) == ("info", "json")

    def test_example_of_the_contract(self, load: Load) -> None:
        """The documented example, word by word, becomes what it says."""
        settings = load(
            """
            server:   {host: 127.0.0.1, port: 8080, allowed_origins: ["https://app.example.com"]}
            auth:     {mode: jwt, secret: "${MAINSTEM_JWT_SECRET}", tokens: [{token: "${ADMIN_TOKEN}", scope: "admin"}]}   # mode: none | jwt
            store:    {url: "sqlite:///mainstem.db", retain: 7d}
            sources:
              - {name: studio, adapter: triverse, url: "wss://api.triverse.ai", token: "${TRIVERSE_KEY}", watch: all}          # or watch: [uuid, ...] or []
              - {name: jobs, adapter: emit, url: "wss://emit.run", token: "${EMIT_KEY}", spaces: ["01JL..."], jobs: []}
              - {name: ops, adapter: catalyst, url: "wss://catalyst.example.com", uuid: "${CATALYST_UUID}"}                    # or auth_url + api_key: fresh uuid per connect
            webhooks:
              - {name: billing, url: "https://billing.example.com/hooks", secret: "${BILLING_WHSEC}", type: ["task.succeeded", "task.failed"], source: [studio]}
            log:      {level: info, format: json}     # json | console
            """,
            MAINSTEM_JWT_SECRET=SECRET,
            ADMIN_TOKEN="admin-token",
            TRIVERSE_KEY="tv",
            EMIT_KEY="em",
            CATALYST_UUID="cu",
            BILLING_WHSEC=WHSEC,
        )
        assert settings.server.allowed_origins == ("https://app.example.com",)
        assert settings.auth.mode == "jwt"
        assert settings.auth.algorithms == ("HS256",)
        assert [type(source) for source in settings.sources] == [Triverse.Config, Emit.Config, Catalyst.Config]
        studio = settings.sources[0]
        assert isinstance(studio, TriverseConfig)
        assert studio.token.get_secret_value() == "tv"
        assert isinstance(settings.webhooks[0], EndpointConfig)
        assert settings.webhooks[0].where == Filter(type=("task.succeeded", "task.failed"), source=("studio",))

    def test_per_source_options_of_the_contract(self, load: Load) -> None:
        """The options that every source has, and those of one adapter."""
        settings = load(
            """
            sources:
              - name: studio
                adapter: triverse
                url: ws://127.0.0.1:1
                token: k
                watch: [92483a80-236c-4889-9a95-4c90bb64dfd8]
                reconnect: {initial: 0.1, max: 5}
                ping_interval: 1
                idle_timeout: 300
                rest_url: http://127.0.0.1:2
                enabled: false
                catch_up: 1h
              - {name: ops, adapter: catalyst, url: ws://h, auth_url: http://h/ws-auth/, api_key: k, auth_headers: {X-A: b}}
            """
        )
        source: Any = settings.sources[0]
        assert (source.reconnect.initial, source.reconnect.max, source.idle_timeout) == (0.1, 5, 300)
        assert (source.catch_up, source.enabled, source.ping_interval) == (3600, False, 1)
        assert source.watch == ("92483a80-236c-4889-9a95-4c90bb64dfd8",)

    @pytest.mark.parametrize(
        ("text", "seconds"), [("7d", 604800), ("12h", 43200), ("90m", 5400), ("30s", 30), ("45", 45), ("1.5h", 5400)]
    )
    def test_lengths_of_time(self, load: Load, text: str, seconds: float) -> None:
        """With a unit, or in seconds."""
        assert load(f"store: {{retain: {text}}}").store.retain == seconds

    def test_adapter_of_an_installed_distribution(self, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        """A source is validated by whatever its adapter's own model is."""

        class ToyConfig(SourceConfig):
            colour: str

        class Toy:
            Config = ToyConfig

        monkeypatch.setattr(registry, "load", lambda name: Toy)
        (source,) = load("sources: [{name: a, adapter: toy, url: ws://h, colour: red}]").sources
        assert isinstance(source, ToyConfig)
        assert source.colour == "red"

    def test_settings_without_a_file(self) -> None:
        """The demo and tests build settings from plain data, or from sources that are validated already."""
        first = Settings.model_validate(
            {"sources": [{"name": "a", "adapter": "triverse", "url": "ws://h", "token": "t"}], "server": {"port": 0}}
        )
        assert Settings(sources=first.sources).sources == first.sources


class TestStore:
    def test_path_is_relative_to_the_file(self, load: Load, tmp_path: Path) -> None:
        """Where the gateway is started from does not matter, and the default is no exception."""
        directory = tmp_path / "etc"
        directory.mkdir()
        (directory / "config.yaml").write_text("store: {url: sqlite:///data/log.db}")
        assert config.load("etc/config.yaml", {}).store.path == directory / "data/log.db"
        (directory / "config.yaml").write_text("")
        assert config.load("etc/config.yaml", {}).store.path == directory / "mainstem.db"

    def test_absolute_path(self, load: Load) -> None:
        """Four slashes."""
        store = load("store: {url: sqlite:////var/lib/log.db, durability: process}").store
        assert (store.path, store.durability) == (Path("/var/lib/log.db"), "process")

    @pytest.mark.parametrize(
        "url",
        ["mainstem.db", "sqlite://mainstem.db", "postgres://h/d", "sqlite:///", "sqlite:///:memory:", "sqlite:///x/"],
    )
    def test_other_urls_are_refused(self, problems, url: str) -> None:
        """Nothing but a file can be durable."""
        assert problems(f"store:\n  url: '{url}'") == [
            "config.yaml:2: store.url: must be sqlite:///<path>, with a fourth slash for an absolute path"
        ]


class TestProblems:
    def test_all_at_once_with_key_and_line(self, problems) -> None:
        """Every problem of a file has its own line, in the order of the file."""
        assert problems(
            """
            server:
              hots: 127.0.0.1
              port: 70000
            store: {retain: a week}
            sources:
              - name: studio
                adapter: triverse
                url: https://api.triverse.ai
                token: t
                wacth: all
                reconnect: {initial: 0}
              - {name: studio, adapter: emitt, url: wss://emit.run}
              - {adapter: emit, url: wss://emit.run, token: t, spaces: 01JL}
              - {name: x}
              - just text
            webhooks:
              - {name: w, url: "https://h.example.com/", tpye: []}
              - {name: w, url: "https://h.example.com/", secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
            log:
              level: loud
            metrics: true
            """
        ) == [
            "config.yaml:2: server.hots: unknown key; did you mean 'host'?",
            "config.yaml:3: server.port: must be less than or equal to 65535",
            "config.yaml:4: store.retain: is not a length of time: write a number of seconds, or 500ms, 90s, 15m, 12h, 7d",
            "config.yaml:8: sources[0].url: must start with ws:// or wss://",
            "config.yaml:10: sources[0].wacth: unknown key; did you mean 'watch'?",
            "config.yaml:11: sources[0].reconnect.initial: must be greater than 0",
            "config.yaml:12: sources[1].name: duplicate name, already used by sources[0].name on line 6",
            "config.yaml:12: sources[1].adapter: there is no adapter 'emitt'; available: triverse, emit, catalyst",
            "config.yaml:13: sources[2].name: is required",
            "config.yaml:13: sources[2].spaces: must be a list",
            "config.yaml:14: sources[3].adapter: is required: one of triverse, emit, catalyst",
            "config.yaml:15: sources[4]: must be a mapping",
            "config.yaml:17: webhooks[0].secret: is required",
            "config.yaml:17: webhooks[0].tpye: unknown key; did you mean 'type'?",
            "config.yaml:18: webhooks[1].name: duplicate name, already used by webhooks[0].name on line 17",
            "config.yaml:20: log.level: must be 'debug', 'info', 'warning' or 'error'",
            "config.yaml:21: metrics: unknown key; known: auth, server, store, sources, webhooks, log",
        ]

    @pytest.mark.parametrize("name", ["_a", ".a", "-a", "a b", "a/b", "é", "a\\n", "a" * 65])
    def test_names(self, problems, name: str) -> None:
        """The rule of a name is said in words, not as a pattern; those of endpoints may have dots, and one letter more."""
        rule = "must begin with a letter or digit, then letters, digits, %s; at most %d characters"
        assert problems(
            f"""
            auth: {{mode: jwt, secret: "{SECRET}", tokens: [{{token: t, scope: admin, name: "{name}"}}]}}
            sources:
              - {{name: "{name}", adapter: emit, url: "wss://emit.run", token: t, spaces: ["x"]}}
            webhooks:
              - {{name: "{name}", url: "https://h.example.com/", secret: "{WHSEC}"}}
            """
        ) == [
            f"config.yaml:1: auth.tokens[0].name: {rule % ('_ -', 63)}",
            f"config.yaml:3: sources[0].name: {rule % ('_ -', 63)}",
            f"config.yaml:5: webhooks[0].name: {rule % ('_ . -', 64)}",
        ]

    def test_each_bad_header_has_its_line(self, problems) -> None:
        """Where twenty lines are headers, "something is wrong with headers" is no help. A name is told on one line."""
        assert problems(
            """
            webhooks:
              - name: w
                url: https://h.example.com/
                secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
                headers:
                  Fine: fine
                  Webhook-Id: x
                  Authorization: 7
                  X-Two: "Bearer t0ken\\nX-Three: 3"
                  fine: again
                  "no\\nname": x
              - name: v
                url: https://h.example.com/
                secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
                headers: {Host: x, X-A: 5}
            """
        ) == [
            "config.yaml:7: webhooks[0].headers.Webhook-Id: is reserved",
            "config.yaml:8: webhooks[0].headers.Authorization: must be text; put it in quotes",
            "config.yaml:9: webhooks[0].headers.X-Two: must be at most 4096 printable ASCII characters on one line, "
            "without blanks around them",
            "config.yaml:10: webhooks[0].headers.fine: is given twice",
            "config.yaml:11: webhooks[0].headers.no\\nname: is no header name: these are 1 to 128 letters, digits and "
            "!#$%&'*+-.^_`|~",
            "config.yaml:15: webhooks[1].headers.Host: is reserved",
            "config.yaml:15: webhooks[1].headers.X-A: must be text; put it in quotes",
        ]

    def test_message_names_the_file_as_given(self, tmp_path: Path) -> None:
        """As compilers do, so that editors find the place."""
        path = tmp_path / "m.yml"
        path.write_text("lgo: {}\n")
        with pytest.raises(ConfigError) as caught:
            config.load(path)
        assert str(caught.value) == f"{path}:1: lgo: unknown key; did you mean 'log'?"

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("[1]", "config.yaml:1: must be a mapping of sections: server, auth, store, sources, webhooks, log"),
            ("server: [1", "config.yaml:1: is not valid YAML: expected ',' or ']', but got '<stream end>'"),
            (
                "server:\n  port: 1\n   host: h",
                "config.yaml:3: is not valid YAML: mapping values are not allowed here",
            ),
            ("a: 1\n---\nb: 2", "config.yaml:2: is not valid YAML: but found another document"),
            ("server: 1", "config.yaml:1: server: must be a mapping"),
            ("sources: {}", "config.yaml:1: sources: must be a list"),
            ("server:\n  port: 1\n  port: 2", "config.yaml:3: server.port: duplicate key, already given on line 2"),
            ("log: {format: xml}", "config.yaml:1: log.format: must be 'json' or 'console'"),
            ("server: {port: http}", "config.yaml:1: server.port: must be a valid integer"),
            ("server: {port: 80.5}", "config.yaml:1: server.port: must be a valid integer, got a number with a fractional part"),
            ("server: {host: ''}", "config.yaml:1: server.host: must not be empty"),
            ("server: {host: 1}", "config.yaml:1: server.host: must be text; put it in quotes"),
            ("server: {host: [h]}", "config.yaml:1: server.host: must be text"),
            ("server: {stream_buffer: 1}", "config.yaml:1: server.stream_buffer: must be greater than or equal to 4096"),
            ("server: {[1]: 2}", "config.yaml:1: server: a key must be a plain word"),
            ("server: &a\n  host: *a", "config.yaml:2: server.host: an alias may not contain itself"),
            ("server: {port: !!int x}", "config.yaml:1: server.port: is not of the type that its tag says (int)"),
            (
                "server:\n  host: !canary x",
                "config.yaml:2: server.host: YAML tags are not supported; a value that starts with ! needs quotes",
            ),
            (
                "server:\n  host: *canary",
                "config.yaml:2: is not valid YAML: found undefined alias '...'; a value that starts with * needs quotes",
            ),
            (
                "server: {port: ${PORT}}",
                "config.yaml:1: is not valid YAML: expected ',' or '}', but got '{'; "
                "inside { } and [ ], put ${...} in quotes",
            ),
        ],
    )  # fmt: skip
    def test_one_problem(self, problems, text: str, expected: str) -> None:
        """The exact words."""
        assert problems(text) == [expected]

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (None, "cannot be read: No such file or directory"),
            (b"\xff\xfe", "is not UTF-8 text"),
            (b"#" * (document.MAX_BYTES + 1), "is larger than 1048576 bytes"),
        ],
    )
    def test_unreadable_file(self, tmp_path: Path, content: bytes | None, expected: str) -> None:
        """One line that names the file."""
        path = tmp_path / "c.yaml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            config.load(path)
        assert str(caught.value) == f"{path}: {expected}"

    def test_control_character(self, problems) -> None:
        """What YAML does not allow at all has no line in the parser; the file is named nevertheless."""
        assert problems("a: \x01") == ["config.yaml:1: is not valid YAML: has a character that YAML does not allow"]

    def test_aliases_cannot_exhaust_memory(self, problems) -> None:
        """Aliases of aliases are counted each time they are used."""
        rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
        assert any("more than 100000 values" in line for line in problems("\n".join(rows)))

    def test_alternatives_are_one_problem(self, problems) -> None:
        """A union of types is reported where the file is wrong, once."""
        source = "sources:\n  - {name: a, adapter: triverse, url: ws://h, token: t, watch: %s}"
        (line,) = problems(source % "some")
        assert line.startswith("config.yaml:2: sources[0].watch: must be 'all' or ")
        assert problems(source % "[1]") == ["config.yaml:2: sources[0].watch[0]: must be text; put it in quotes"]

    def test_adapter_rules_of_the_whole_source(self, problems) -> None:
        """What an adapter says about its fields together is reported at the source."""
        assert problems("sources:\n  - name: ops\n    adapter: catalyst\n    url: ws://h") == [
            "config.yaml:2: sources[0]: needs either uuid, or auth_url with api_key or auth_headers"
        ]


class TestExpansion:
    def test_variables(self, load: Load) -> None:
        """In any text, more than once, next to other text, and coerced where a number or a switch is meant."""
        settings = load(
            """
            server: {host: "${HOST:-localhost}", port: "${PORT}"}
            auth: {allow_insecure: "${INSECURE}"}
            store:
              url: sqlite:///${DIR}/${DIR}.db
            log:
              level: ${LEVEL:-debug}
            """,
            PORT="9000",
            INSECURE="true",
            DIR="d",
            LEVEL="",
        )
        assert (settings.server.host, settings.server.port) == ("localhost", 9000)
        assert settings.auth.allow_insecure is True
        assert str(settings.store.path).endswith("/d/d.db")
        assert settings.log.level == "debug"

    def test_missing_variable(self, problems) -> None:
        """Named with key, line and variable; what follows from it is not reported as well."""
        assert problems(
            """
            server:
              port: ${PORT}
            sources:
              - name: studio
                adapter: triverse
                url: ws://h
                token: ${TRIVERSE_KEY}
            auth: {tokens: [{token: "${EMPTY}", scope: admin}]}
            """,
            EMPTY="",
        ) == [
            "config.yaml:2: server.port: environment variable PORT is not set",
            "config.yaml:7: sources[0].token: environment variable TRIVERSE_KEY is not set",
            "config.yaml:8: auth.tokens[0].token: environment variable EMPTY is empty",
        ]

    def test_files(self, load: Load, tmp_path: Path) -> None:
        """Without the newline at the end; relative to the configuration file, or absolute."""
        (tmp_path / "key").write_text("from-file\r\n")
        settings = load(
            f"""
            sources:
              - {{name: a, adapter: triverse, url: ws://h, token: "${{file:key}}"}}
              - {{name: b, adapter: triverse, url: ws://h, token: "x${{file:{tmp_path}/key}}y"}}
            """
        )
        tokens = [source.token.get_secret_value() for source in settings.sources]  # type: ignore[attr-defined]
        assert tokens == ["from-file", "xfrom-filey"]

    @pytest.mark.parametrize(
        ("content", "expected"),
        [(None, "cannot be read: No such file or directory"), (b"\n", "is empty"), (b"\xff", "is not UTF-8 text")],
    )
    def test_bad_file(self, problems, tmp_path: Path, content: bytes | None, expected: str) -> None:
        """Named with key, line and file."""
        if content is not None:
            (tmp_path / "key").write_bytes(content)
        assert problems("auth:\n  secret: ${file:key}") == [f"config.yaml:2: auth.secret: file key {expected}"]

    def test_path_that_is_none(self, problems) -> None:
        """A NUL in a path is a problem of the file, not a crash."""
        assert problems('auth:\n  secret: "${file:a\\0b}"')[0].endswith("cannot be read: not a path")

    def test_a_value_cannot_become_yaml(self, load: Load) -> None:
        """A secret with YAML in it stays one text, and is not expanded again."""
        nasty = "x\nserver: {port: 1} # ${HOME} *a &b"
        settings = load("sources: [{name: a, adapter: triverse, url: ws://h, token: '${KEY}'}]", KEY=nasty)
        assert settings.sources[0].token.get_secret_value() == nasty  # type: ignore[attr-defined]
        assert settings.server.port == 8080

    def test_escape(self, load: Load) -> None:
        """`$${` is a literal `${`; a lone dollar is nothing special."""
        settings = load("sources: [{name: a, adapter: triverse, url: ws://h, token: '$${KEY} $5 $$ ${KEY}'}]", KEY="v")
        assert settings.sources[0].token.get_secret_value() == "${KEY} $5 $$ v"  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("${KEY", "${ without a closing }; write $${ for a literal ${"),
            ("${}", "${...} must hold VAR, VAR:-default or file:/path; write $${ for a literal ${"),
            ("${1}", "${...} must hold VAR, VAR:-default or file:/path; write $${ for a literal ${"),
            ("${A:-${B}}", "${...} cannot be nested"),
        ],
    )
    def test_malformed_reference(self, problems, text: str, expected: str) -> None:
        """Said without repeating the text, which may be a secret."""
        assert problems(f"auth:\n  secret: '{text}'") == [f"config.yaml:2: auth.secret: {expected}"]

    def test_keys_are_not_expanded(self, problems) -> None:
        """Only values are."""
        assert "${HOST}: unknown key" in problems("'${HOST}': 1", HOST="server")[0]


class TestAuth:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gateway.internal", "localhost.example.com"])
    def test_no_auth_beyond_loopback_is_refused(self, load: Load, problems, host: str) -> None:
        """Unless the operator says so in as many words, or there is a token."""
        text = f"server:\n  host: '{host}'\n"
        assert problems(text) == [
            "config.yaml:2: server.host: is not a loopback address, as auth.mode none requires: "
            "use auth.mode jwt (or auth.allow_insecure)"
        ]
        assert load(text + "auth: {allow_insecure: true}").server.host == host
        assert load(text + "auth: {tokens: [{token: t, scope: admin}]}").server.host == host

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
    def test_loopback_needs_none(self, load: Load, host: str) -> None:
        """This machine alone can connect."""
        assert load(f"server: {{host: '{host}'}}").server.is_loopback

    def test_mode_follows_from_keys(self, load: Load) -> None:
        """Nobody who writes a key or a token down means that everybody may come in."""
        assert load(f"auth: {{secret: {SECRET}}}").auth.mode == "jwt"
        assert load("auth: {tokens: [{token: t, scope: admin}]}").auth.mode == "jwt"

    @pytest.mark.parametrize(
        ("auth", "expected"),
        [
            ("{mode: jwt}", "auth.mode: is jwt, which needs one of secret, public_key, jwks_url or tokens"),
            (f"{{mode: none, secret: {SECRET}}}", "auth.mode: is none although secret is given; must be jwt"),
            (
                "{mode: none, tokens: [{token: t, scope: admin}]}",
                "auth.mode: is none although tokens is given; must be jwt",
            ),
            ('{secret: ""}', "auth.secret: must not be empty"),
            (
                "{secret: '-----BEGIN PUBLIC KEY-----'}",
                "auth.secret: is a PEM key; a public key belongs in public_key",
            ),
            (
                f"{{secret: {SECRET}, jwks_url: 'https://h/k'}}",
                "auth.jwks_url: only one of secret, public_key, jwks_url; secret is given as well",
            ),
            (
                f"{{secret: {SECRET}, algorithms: [RS256]}}",
                "auth.algorithms[0]: RS256 does not fit secret, which takes HS256",
            ),
            (f"{{secret: {SECRET}, algorithms: []}}", "auth.algorithms: must not be empty"),
            (
                f"{{secret: {SECRET}, algorithms: [none]}}",
                "auth.algorithms[0]: must be 'HS256', 'RS256', 'ES256' or 'EdDSA'",
            ),
            (
                "{jwks_url: 'https://h/k', algorithms: [RS256, HS256]}",
                "auth.algorithms[1]: HS256 does not fit jwks_url, which takes RS256 or ES256 or EdDSA",
            ),
            ("{jwks_url: 'ftp://h/k'}", "auth.jwks_url: must be an https:// URL without user name"),
            ("{jwks_url: 'https://u:p@h/k'}", "auth.jwks_url: must be an https:// URL without user name"),
            (
                "{jwks_url: 'http://h/k'}",
                "auth.jwks_url: must be https:// (or set auth.allow_insecure to true)",
            ),
            (
                "{public_key: canary}",
                "auth.public_key: is not a PEM public key (-----BEGIN PUBLIC KEY-----)",
            ),
            ("{tokens: [{token: '', scope: admin}]}", "auth.tokens[0].token: must not be empty"),
            (
                "{tokens: [{token: t, scope: admin}, {token: t, scope: admin}]}",
                "auth.tokens[1].token: is the same as tokens[0].token",
            ),
            (
                "{tokens: [{token: t, scope: 'events:read event:read'}]}",
                "auth.tokens[0].scope: has an unknown scope; did you mean 'events:read'?",
            ),
            (
                "{tokens: [{token: t, scope: ' '}]}",
                "auth.tokens[0].scope: must name at least one of "
                "events:read, events:read:progress, watches:write, webhooks:write, admin",
            ),
            ("{tokens: [{token: t, scope: admin, source: [a]}]}",
             "auth.tokens[0].source: unknown key; did you mean 'sources'?"),
        ],
    )  # fmt: skip
    def test_rules(self, problems, auth: str, expected: str) -> None:
        """Each with the key that has to change."""
        assert problems(f"auth: {auth}") == [f"config.yaml:1: {expected}"]

    @pytest.mark.parametrize(
        ("key", "algorithm"),
        [
            (rsa.generate_private_key(65537, 2048), "RS256"),
            (ec.generate_private_key(ec.SECP256R1()), "ES256"),
            (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        ],
    )
    def test_public_keys(self, load: Load, problems, tmp_path: Path, key: Any, algorithm: str) -> None:
        """The algorithm follows from the key; a shared-secret algorithm with a public key is refused."""
        (tmp_path / "key.pem").write_text(pem(key))
        assert load("auth: {public_key: '${file:key.pem}'}").auth.algorithms == (algorithm,)
        assert problems("auth: {public_key: '${file:key.pem}', algorithms: [HS256]}") == [
            f"config.yaml:1: auth.algorithms[0]: HS256 does not fit public_key, which takes {algorithm}"
        ]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                pem(rsa.generate_private_key(65537, 1024)),
                "is an RSA key of less than 2048 bits (RFC 7518, section 3.3)",
            ),
            (pem(ec.generate_private_key(ec.SECP384R1())), "must be an RSA, EC P-256 or Ed25519 key"),
            ("-----BEGIN PRIVATE KEY-----\ncanary\n", "is a private key; only the public one belongs here"),
        ],
    )
    def test_unusable_public_keys(self, problems, tmp_path: Path, text: str, expected: str) -> None:
        """A key that would not verify anything, or should not be here, is found before the start."""
        (tmp_path / "key.pem").write_text(text)
        assert problems("auth: {public_key: '${file:key.pem}'}") == [f"config.yaml:1: auth.public_key: {expected}"]

    def test_key_set(self, load: Load) -> None:
        """Only asymmetric algorithms by default; plain http on this machine alone."""
        assert load("auth: {jwks_url: 'https://h/k?p=1'}").auth.algorithms == ("RS256", "ES256", "EdDSA")
        assert load("auth: {jwks_url: 'http://127.0.0.1:1/k', algorithms: [ES256]}").auth.algorithms == ("ES256",)

    def test_static_token(self, load: Load) -> None:
        """Scope words and bounds in the form that grants have."""
        (token,) = load(
            "auth: {tokens: [{token: t, scope: 'events:read  watches:write events:read', sources: [a], tasks: [a/1], kinds: [k]}]}"
        ).auth.tokens
        assert token.scopes == {"events:read", "watches:write"}
        assert token.bounds == Filter(source=("a",), task=("a/1",), kind=("k",))

    @pytest.mark.parametrize("origin", ["app.example.com", "https://h/path", "null", "*", "ftp://h", "https://h?x=1"])
    def test_origins(self, load: Load, problems, origin: str) -> None:
        """An origin is scheme, host and port (RFC 6454, section 6.2); one slash at the end is forgiven."""
        assert problems(f"server: {{allowed_origins: ['{origin}']}}") == [
            "config.yaml:1: server.allowed_origins[0]: must be an origin without a path, such as https://app.example.com"
        ]
        settings = load("server: {allowed_origins: ['https://App.example.com/', 'http://localhost:3000']}")
        assert settings.server.allowed_origins == ("https://app.example.com", "http://localhost:3000")


class TestSecrets:
    TEXT = """
        auth: {secret: "${JWT}", tokens: [{token: "${TOKEN}", scope: admin}]}
        sources:
          - {name: studio, adapter: triverse, url: "wss://h", token: "${TRIVERSE}"}
          - {name: jobs, adapter: emit, url: "wss://h", token: "${EMIT}", api_key: "${EMIT_API}"}
          - {name: ops, adapter: catalyst, url: "wss://h", uuid: "${UUID}"}
          - {name: plant, adapter: catalyst, url: "wss://h", auth_url: "https://h/a", api_key: "${CAT}", auth_headers: {X-A: "${HEADER}"}}
        webhooks:
          - {name: billing, url: "https://h.example.com/", secret: "${WHSEC}", headers: {X-Key: "${HOOK_HEADER}"}}
        """
    VALUES: ClassVar = {
        "JWT": "canary-jwt-" + "x" * 32,
        "TOKEN": "canary-static",
        "TRIVERSE": "canary-triverse",
        "EMIT": "canary-emit",
        "EMIT_API": "canary-emit-api",
        "UUID": "canary-uuid",
        "CAT": "canary-catalyst",
        "HEADER": "canary-header",
        "WHSEC": WHSEC,
        "HOOK_HEADER": "canary-hook-header",
    }

    def test_no_repr_shows_one(self, load: Load) -> None:
        """Neither of the settings nor of any part of them."""
        settings = load(self.TEXT, **self.VALUES)
        shown = repr(settings) + str(settings) + str(settings.model_dump()) + settings.model_dump_json()
        assert "canary" not in shown
        assert WHSEC.removeprefix("whsec_") not in shown

    def test_all_are_known_to_the_scrubber(self, load: Load) -> None:
        """Every one, and a signing secret without its prefix, too."""
        known = load(self.TEXT, **self.VALUES).secrets()
        assert set(self.VALUES.values()) <= set(known)
        assert WHSEC.removeprefix("whsec_") in known
        assert "" not in known

    def test_password_in_a_url(self, load: Load) -> None:
        """A password has been put where none belongs: at least no log shows it."""
        settings = load("sources: [{name: a, adapter: triverse, url: 'ws://u:canary-pass@h', token: t}]")
        assert "canary-pass" in settings.secrets()

    def test_no_message_shows_one(self, problems, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever is wrong with a value, and even where some adapter repeats it in its error."""
        lines = problems(
            self.TEXT.replace("adapter: emit,", "adapter: emit, spaces: '${EMIT}',")
            .replace("scope: admin", "scope: '${TOKEN}'")
            .replace('"wss://h", uuid', '"${UUID}", uuid')
            .replace("watch", "${TRIVERSE}")
            .replace("https://h.example.com/", "${HOOK_HEADER}"),
            **{**self.VALUES, "JWT": "canary-short", "WHSEC": "whsec_canary!!"},
        )
        assert len(lines) >= 4
        assert "canary" not in "\n".join(lines)

        def leak(value: Any) -> Any:
            raise ValueError(f"{value['token']!r} is no good")

        model = SimpleNamespace(model_validate=leak)
        monkeypatch.setattr(registry, "load", lambda name: SimpleNamespace(Config=model))
        assert problems("sources: [{name: a, adapter: x, token: '${KEY}'}]", KEY="canary-leak") == [
            "config.yaml:1: sources[0]: '***' is no good"
        ]


class TestExample:
    def names(self, *models: Any) -> set[str]:
        return {name for model in models for name in model.model_fields}

    def test_passes_without_any_variable(self) -> None:
        """Whoever copies it starts from a file that works."""
        settings = config.load(EXAMPLE, {})
        assert {source.adapter for source in settings.sources} == set(registry.BUILT_IN)

    def test_names_every_field(self) -> None:
        """A field that the example does not show is not documented."""
        models = [Settings, config.Server, config.Auth, config.StaticToken, config.Store, config.Log, EndpointConfig]
        models += [registry.load(name).Config for name in registry.BUILT_IN]
        text = EXAMPLE.read_text()
        assert {name for name in self.names(*models) if not re.search(rf"[\s#{{-]{name}:", text)} == set()

    @pytest.mark.parametrize(
        ("key", "environ"),
        [
            ("secret", {"MAINSTEM_JWT_SECRET": SECRET}),
            ("public_key", {}),
            ("jwks_url", {}),
        ],
    )
    def test_alternatives_pass_as_well(self, tmp_path: Path, key: str, environ: dict[str, str]) -> None:
        """Every line that is commented out is valid, with the variables and files that it names."""
        (tmp_path / "jwt-public.pem").write_text(pem(ec.generate_private_key(ec.SECP256R1())))
        others = {"secret", "public_key", "jwks_url"} - {key}
        lines = []
        for line in EXAMPLE.read_text().replace("mode: none  ", "mode: jwt  ").splitlines():
            match = re.match(r"\s*#(\w+):", line)
            if match is None or match[1] not in others | ({"algorithms"} if key != "secret" else set()):
                line = re.sub(r"^(\s*)#(?=\S)", r"\1", line)
                line = re.sub(r"^(\s*)#  (- token|  (scope|name|sources|tasks|kinds):)", r"\1  \2", line)
            lines.append(line)
        (tmp_path / "config.yaml").write_text("\n".join(lines))
        environ |= {"ADMIN_TOKEN": "a", "VIEWER_TOKEN": "v", "EMIT_API_KEY": "e"}
        settings = config.load(tmp_path / "config.yaml", environ)
        assert settings.auth.mode == "jwt"
        assert getattr(settings.auth, key) is not None
        assert len(settings.auth.tokens) == 2
        assert settings.webhooks[0].rate_limit == 50
