"""The command line: what it prints where, and its exit codes, in this process and in a real one."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import jwt
import pytest
import structlog
from click.testing import CliRunner, Result

import gateway
from gateway import cli, config
from gateway.errors import ConfigError, StoreLocked

SECRET = "canary-secret-of-at-least-32-bytes"
BAD = "server:\n  hots: h\nsources:\n  - {name: a, adapter: emit, url: 'wss://h', token: canary-token, jobz: []}\n"
PROBLEMS = [
    "config.yaml:2: server.hots: unknown key; did you mean 'host'?",
    "config.yaml:4: sources[0].jobz: unknown key; did you mean 'jobs'?",
]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leaves logging as it was found."""
    root, access, show = logging.getLogger(), logging.getLogger("aiohttp.access"), warnings.showwarning
    before = (list(root.handlers), root.level, access.disabled, access.propagate)
    yield
    root.handlers[:], access.disabled, access.propagate = before[0], before[2], before[3]
    root.setLevel(before[1])
    logging.captureWarnings(False)
    warnings.showwarning = show
    structlog.reset_defaults()


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in an empty directory; what nobody handles fails the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAINSTEM_CONFIG", raising=False)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli.main, arguments, catch_exceptions=False)

    return invoke


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    """Puts something in the place of `gateway.app` or `gateway.demo`."""

    def program(name: str, run: Any) -> None:
        module = ModuleType(f"gateway.{name}")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(gateway, name, module, raising=False)

    return program


def write(text: str) -> None:
    Path("config.yaml").write_text(text)


class TestVersion:
    def test_prints_it(self, invoke) -> None:
        """As a command and as an option."""
        assert invoke("version").output == f"mainstem {gateway.__version__}\n"
        assert invoke("--version").output == f"mainstem {gateway.__version__}\n"

    def test_loads_nothing_heavy(self) -> None:
        """A command that only prints does not pay for the gateway."""
        code = (
            "import sys; from gateway.cli import main\n"
            "main(['version'], standalone_mode=False)\n"
            "heavy = {'aiohttp', 'pydantic', 'structlog', 'ruamel', 'rich', 'uvloop', 'jwt', 'sqlite3', 'msgspec'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        env = {
            name: value for name, value in os.environ.items() if not name.startswith("COV")
        }  # it loads things itself
        command = [sys.executable, "-c", code]
        result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=True)
        assert result.stdout.splitlines()[-1] == "[]"


class TestCheck:
    def test_says_what_it_found(self, invoke) -> None:
        """One line on stdout."""
        write("sources: [{name: a, adapter: triverse, url: 'ws://h', token: t}]")
        result = invoke("check", "-c", "config.yaml")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "config.yaml: ok: 1 source, 0 webhooks\n", "")

    def test_says_what_is_doubtful(self, invoke) -> None:
        """A filter that matches nothing is no error, but hardly what is meant."""
        hook = "{name: h, url: 'https://example.com/', secret: whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=, source: b}"
        write(f"sources: [{{name: a, adapter: triverse, url: 'ws://h', token: t}}]\nwebhooks: [{hook}]")
        result = invoke("check", "-c", "config.yaml")
        assert (result.exit_code, result.stdout) == (0, "config.yaml: ok: 1 source, 1 webhook\n")
        assert result.stderr == "config.yaml: warning: webhooks[0].source: there is no source 'b'; known: a\n"

    def test_says_what_is_wrong(self, invoke) -> None:
        """One problem a line on stderr, exit code 2, no traceback, no secret."""
        write(BAD)
        result = invoke("check", "-c", "config.yaml")
        assert (result.exit_code, result.stdout, result.stderr.splitlines()) == (2, "", PROBLEMS)

    def test_file_that_is_not_there(self, invoke) -> None:
        """It is a problem of the configuration."""
        result = invoke("check", "-c", "nope.yaml")
        assert (result.exit_code, result.stderr) == (2, "nope.yaml: cannot be read: No such file or directory\n")

    def test_which_file(self, invoke, monkeypatch: pytest.MonkeyPatch) -> None:
        """`config.yaml` unless told, by environment or option."""
        write("")
        Path("other.yaml").write_text("")
        assert invoke("check").stdout.startswith("config.yaml: ok")
        monkeypatch.setenv("MAINSTEM_CONFIG", "other.yaml")
        assert invoke("check").stdout.startswith("other.yaml: ok")
        assert invoke("check", "--config", "config.yaml").stdout.startswith("config.yaml: ok")

    @pytest.mark.parametrize("arguments", [["chekc"], ["check", "--nope"], ["simulate", "kafka"], ["check", "extra"]])
    def test_usage(self, invoke, arguments: list[str]) -> None:
        """Exit code 2, on stderr."""
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert "Usage: " in result.stderr


class TestRun:
    @pytest.mark.parametrize("code", [0, 1])
    def test_runs_the_gateway(self, invoke, program, code: int) -> None:
        """With the settings of the file; its exit code is ours; logs are on before it starts."""
        seen = []

        async def run(settings: config.Settings, load: Any) -> int:
            seen.append(settings)
            structlog.get_logger("test").info("started", text="canary-token")
            return code

        program("app", run)
        write("auth: {tokens: [{token: canary-token, scope: admin}]}\nserver: {port: 0}")
        result = invoke("run", "-c", "config.yaml")
        assert result.exit_code == code
        assert seen[0].server.port == 0
        line = json.loads(result.stdout)
        assert (line["event"], line["text"]) == ("started", "***")

    def test_the_file_is_read_again(self, invoke, program) -> None:
        """As it is then; a pipe has nothing any more, which would be a valid configuration."""
        levels, told = [], []

        async def run(settings: config.Settings, load: Any) -> int:
            for text in ("log: {level: debug}", ""):
                write(text)
                levels.append(load().log.level)
            path = Path("config.yaml")
            path.unlink()
            for replace in (lambda: None, lambda: os.mkfifo(path)):
                replace()
                with pytest.raises(ConfigError) as caught:
                    load()
                told.append(str(caught.value))
            return 0

        program("app", run)
        write("log: {level: error}")
        assert invoke("run").exit_code == 0
        assert levels == ["debug", "info"]
        assert told == [
            "config.yaml: cannot be read: No such file or directory",
            "config.yaml: is not a regular file, so it cannot be read again",
        ]

    def test_bad_file(self, invoke, program) -> None:
        """The message and the code of `check`, before anything is started."""
        started = []
        program("app", started.append)
        write(BAD)
        result = invoke("run", "-c", "config.yaml")
        assert (result.exit_code, result.stdout, result.stderr.splitlines()) == (2, "", PROBLEMS)
        assert started == []

    @pytest.mark.parametrize(
        ("error", "code", "message"),
        [
            (StoreLocked("mainstem.db is in use by process 7"), 1, "mainstem: mainstem.db is in use by process 7"),
            (
                OSError(errno.EADDRINUSE, "address ('127.0.0.1', 8080) already in use"),
                1,
                f"mainstem: [Errno {errno.EADDRINUSE}] address ('127.0.0.1', 8080) already in use",
            ),
            (ConfigError("config.yaml:1: x: y"), 2, "config.yaml:1: x: y"),
            (
                ExceptionGroup("tasks", [ExceptionGroup("inner", [StoreLocked("locked")])]),
                1,
                "mainstem: locked",
            ),
        ],
    )
    def test_failure_is_one_line(self, invoke, program, error: Exception, code: int, message: str) -> None:
        """What the operator can do something about comes without a traceback, from inside task groups, too."""

        async def run(settings: config.Settings, load: Any) -> int:
            raise error

        program("app", run)
        write("")
        result = invoke("run")
        assert (result.exit_code, result.stdout, result.stderr) == (code, "", message + "\n")

    def test_crash_is_logged_without_secrets(self, invoke, program) -> None:
        """A mistake of ours has its traceback in the log, scrubbed, and exit code 1."""

        async def run(settings: config.Settings, load: Any) -> int:
            raise RuntimeError("wss://h/?token=canary-token")

        program("app", run)
        write("auth: {tokens: [{token: canary-token, scope: admin}]}")
        result = invoke("run")
        line = json.loads(result.stdout)
        assert (result.exit_code, line["event"], line["level"]) == (1, "crashed", "critical")
        assert line["exception"].startswith("Traceback")
        assert "canary" not in result.output

    def test_ctrl_c_is_no_failure(self, invoke, program) -> None:
        """Cancelled work cleans up after itself, and that is the end of it."""
        ended = []

        async def run(settings: config.Settings, load: Any) -> int:
            os.kill(os.getpid(), signal.SIGINT)
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)
            return 1

        program("app", run)
        write("")
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored
        try:
            assert invoke("run").exit_code == 0
        finally:
            signal.signal(signal.SIGINT, before)
        assert ended == [True]

    def test_fast_event_loop(self, invoke, program) -> None:
        """uvloop where it is installed."""
        loops = []

        async def run(settings: config.Settings, load: Any) -> int:
            loops.append(type(asyncio.get_running_loop()).__module__)
            return 0

        program("app", run)
        write("")
        invoke("run")
        assert loops == ["uvloop"]

    def test_ordinary_event_loop(self, invoke, program, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where uvloop is not installed."""
        loops = []

        async def run(settings: config.Settings, load: Any) -> int:
            loops.append(type(asyncio.get_running_loop()).__module__)
            return 0

        monkeypatch.setitem(sys.modules, "uvloop", None)
        program("app", run)
        write("")
        invoke("run")
        assert loops == ["asyncio.unix_events"]


class TestDemo:
    def test_options(self, invoke, program) -> None:
        """The demo gets what was asked for."""
        seen = []

        async def run(**options: Any) -> int:
            seen.append(options)
            return 0

        program("demo", run)
        assert invoke("demo", "--port", "0", "--rate", "5").exit_code == 0
        assert seen == [{"port": 0, "seed": 1, "rate": 5.0}]


class TestToken:
    def test_claims(self, invoke) -> None:
        """Everything asked for, and what the configuration demands of a token."""
        write(f"auth: {{secret: {SECRET}, audience: mainstem, issuer: me}}")
        before = int(time.time())
        result = invoke(
            "token", "--scope", "events:read watches:write", "--ttl", "2h", "--subject", "ada",
            "--sources", "studio,jobs", "--tasks", "studio/1", "--tasks", "studio/2", "--kinds", "k",
        )  # fmt: skip
        assert result.exit_code == 0
        assert result.stdout.count("\n") == 1
        claims = jwt.decode(result.stdout.strip(), SECRET, algorithms=["HS256"], audience="mainstem", issuer="me")
        assert before <= claims.pop("iat") <= time.time()
        assert before + 7200 <= claims.pop("exp") <= time.time() + 7200
        assert claims == {
            "scope": "events:read watches:write", "sub": "ada", "aud": "mainstem", "iss": "me",
            "sources": ["studio", "jobs"], "tasks": ["studio/1", "studio/2"], "kinds": ["k"],
        }  # fmt: skip

    def test_nothing_that_was_not_asked_for(self, invoke) -> None:
        """No bounds means none, not empty ones, which would mean nothing at all."""
        write(f"auth: {{secret: {SECRET}}}")
        result = invoke("token", "--scope", "admin")
        claims = jwt.decode(result.stdout.strip(), SECRET, algorithms=["HS256"])
        assert claims.keys() == {"iat", "exp", "scope"}
        assert claims["exp"] - claims["iat"] == 3600

    def test_needs_nothing_but_what_it_uses(self, invoke, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another section may be wrong, and its variables not set; in `auth` both are told."""
        monkeypatch.delenv("UNSET", raising=False)
        write(f"auth: {{secret: {SECRET}}}\nsources: [{{adapter: nope, url: '${{UNSET}}'}}]\nlgo: '${{UNSET}}'")
        assert invoke("token", "--scope", "admin").exit_code == 0
        write("auth: {secret: '${UNSET}', isuer: me}\nsources: '${UNSET}'")
        result = invoke("token", "--scope", "admin")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.splitlines() == [
            "config.yaml:1: auth.secret: environment variable UNSET is not set",
            "config.yaml:1: auth.isuer: unknown key; did you mean 'issuer'?",
        ]

    def test_without_a_secret(self, invoke) -> None:
        """Nothing to mint with."""
        write("")
        result = invoke("token", "--scope", "admin")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == (
            "config.yaml: auth.secret: is needed to mint tokens; with other keys, their issuer does that\n"
        )

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--scope", "event:read"], "no scope 'event:read'; there are events:read, "),
            (["--scope", " "], "must not be empty; there are events:read, "),
            (["--scope", "admin", "--ttl", "soon"], "is not a length of time"),
            (["--scope", "admin", "--ttl", "0"], "must be more than 0"),
            (["--scope", "admin", "--tasks", ""], "an empty value matches nothing"),
            (["--scope", "admin", "--tasks", "t1"], "'t1' is no task key: these are <source name>/<task id>"),
            ([], "Missing option '--scope'"),
        ],
    )
    def test_usage(self, invoke, arguments: list[str], message: str) -> None:
        """A token that would not work is not made."""
        write(f"auth: {{secret: {SECRET}}}")
        result = invoke("token", *arguments)
        assert result.exit_code == 2
        assert message in " ".join(result.stderr.split())


class TestSimulateUsage:
    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            ("lightning=1", "no fault 'lightning'; there are drop, stall, "),
            ("drop", "drop needs a probability from 0 to 1, as in drop=0.01"),
            ("drop=1.5", "drop needs a probability from 0 to 1, as in drop=0.01"),
            ("drop=nan", "drop needs a probability from 0 to 1, as in drop=0.01"),
        ],
    )
    def test_faults(self, invoke, fault: str, message: str) -> None:
        """Named, with what would have been right."""
        result = invoke("simulate", "emit", "--fault", fault)
        assert result.exit_code == 2
        assert message in " ".join(result.stderr.split())


class TestAddress:
    @pytest.mark.parametrize("command", [["run"], ["demo"], ["simulate", "emit"], ["listen"]])
    def test_port_that_is_taken(self, invoke, command: list[str]) -> None:
        """One line with the address and what chooses another, exit code 1."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            write(f"server: {{port: {port}}}")
            result = invoke(*command, *([] if command == ["run"] else ["--port", str(port)]))
        chooses = "server.port" if command == ["run"] else "--port"
        assert result.exit_code == 1
        assert result.stderr == (
            f"mainstem: cannot listen at 127.0.0.1:{port}: Address already in use; is another mainstem running there? "
            f"{chooses} chooses another port\n"
        )

    @pytest.mark.parametrize(
        ("host", "shown"), [("nowhere.invalid", "nowhere.invalid"), ("2001:db8::1", "[2001:db8::1]")]
    )
    def test_address_of_somebody_else(self, invoke, host: str, shown: str) -> None:
        """Named, with the reason; nothing about other ports."""
        result = invoke("listen", "--host", host, "--port", "1234")
        assert result.exit_code == 1
        assert re.fullmatch(rf"mainstem: cannot listen at {re.escape(shown)}:1234: [A-Z][\w ]+\n", result.stderr)


class TestProcess:
    """The same in a process of its own."""

    @staticmethod
    def mainstem(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )

    def test_exit_codes(self, tmp_path: Path) -> None:
        """0, 2 and 2, with the same message of `check` and `run`."""
        good, bad = tmp_path / "good.yaml", tmp_path / "config.yaml"
        good.write_text("")
        bad.write_text(BAD)
        assert self.mainstem("check", "-c", str(good)).returncode == 0
        checked = self.mainstem("check", "-c", "config.yaml", cwd=tmp_path)
        ran = self.mainstem("run", "-c", "config.yaml", cwd=tmp_path)
        assert (checked.returncode, checked.stderr.splitlines(), checked.stdout) == (2, PROBLEMS, "")
        assert (ran.returncode, ran.stderr, ran.stdout) == (2, checked.stderr, "")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "good.yaml"]

    def test_example(self) -> None:
        """The example that is shipped passes, whatever the environment has."""
        example = Path(__file__).parent.parent / "config.example.yaml"
        environ = {"PATH": os.environ["PATH"]}
        result = self.mainstem("check", "-c", str(example), env=environ)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.endswith("ok: 4 sources, 1 webhook\n")

    def test_script(self) -> None:
        """The installed command is the same."""
        script = Path(sys.executable).with_name("mainstem")
        result = subprocess.run([script, "version"], capture_output=True, text=True, timeout=60, check=True)
        assert result.stdout == f"mainstem {gateway.__version__}\n"

    @pytest.mark.parametrize(
        ("upstream", "number"),
        [("triverse", signal.SIGTERM), ("emit", signal.SIGINT), ("catalyst", signal.SIGTERM)],
    )
    async def test_simulator(self, tmp_path: Path, upstream: str, number: signal.Signals) -> None:
        """Prints a source that passes `check` and lets a client in; ends cleanly when told to."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "simulate", upstream, "--rate", "0", "--fault", "duplicate=0.5",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            async with asyncio.timeout(30):
                said = (await process.stdout.readuntil(b"Ctrl-C ends it.\n")).decode()
                snippet = tmp_path / "config.yaml"
                snippet.write_text("sources:" + said.partition("\nsources:")[2].removesuffix("Ctrl-C ends it.\n"))
                (source,) = config.load(snippet, {}).sources
                assert f"{upstream} simulator at {source.url} and http://" in said
                from adapters import registry
                from adapters.api import Resume

                adapter = registry.load(upstream)(source)
                stream = adapter.streams()[0]
                session = adapter.open(stream, Resume(first=True, now="2026-01-01T00:00:00Z"), None)
                async with aiohttp.ClientSession() as client, client.ws_connect(session.request().url) as socket:
                    assert not socket.closed
                process.send_signal(number)
                _, errors = await process.communicate()
            assert (process.returncode, errors) == (0, b"")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def test_gateway(self, tmp_path: Path) -> None:
        """SIGTERM is exit code 0; a second gateway on the same store gets one line and exit code 1."""
        (tmp_path / "config.yaml").write_text("server: {port: 0}\n")

        async def start() -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", "run",
                cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip

        first = await start()
        try:
            assert first.stdout is not None
            async with asyncio.timeout(60):
                while json.loads(await first.stdout.readline())["event"] != "gateway_started":
                    pass
                second = await start()
                _, errors = await second.communicate()
                assert second.returncode == 1
                assert re.fullmatch(r"mainstem: .*mainstem\.db.*\n", errors.decode())
                first.send_signal(signal.SIGTERM)
                _, errors = await first.communicate()
            assert (first.returncode, errors) == (0, b"")
        finally:
            if first.returncode is None:
                first.kill()
                await first.wait()
