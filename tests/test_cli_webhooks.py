"""`mainstem webhooks` against the HTTP application on a real socket, around fakes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from gateway import cli
from gateway.commands import remote, table, webhooks
from gateway.http.app import create_app
from tests.http.fakes import World, bounded, task_event
from tests.http.hooks import AT, GENERATED, SECRET, attempt, delivery

TOKEN = "canary-token"
JWT_SECRET = "canary-jwt-secret-of-32-bytes-or-more"
VARIABLES = ("MAINSTEM_URL", "MAINSTEM_TOKEN", "MAINSTEM_CONFIG")


class Served:
    """An application on a thread of its own."""

    def __init__(self, app: web.Application) -> None:
        self._loop = asyncio.new_event_loop()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        self._loop.run_until_complete(self._start())
        self._thread = threading.Thread(target=self._loop.run_forever, name="served")
        self._thread.start()

    async def _start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()


@pytest.fixture
def serve() -> Iterator[Callable[[web.Application], Served]]:
    """Starts applications; they end with the test."""
    served: list[Served] = []

    def serve(app: web.Application) -> Served:
        served.append(Served(app))
        return served[-1]

    yield serve
    for item in served:
        item.stop()


@pytest.fixture
def world() -> World:
    """An endpoint of the API, one of the file, a log of three events; the token of whoever manages endpoints."""
    world = World()
    world.webhooks.add("billing", headers={"X-Key": "canary-header"}, type=["task.succeeded"])
    world.webhooks.add("archive", origin="file")
    world.log(*(task_event(number, "studio/t1") for number in (1, 2, 3)))
    world.authenticator.grants[TOKEN] = world.authenticator.grants["hooks"]
    return world


@pytest.fixture
def gateway(world: World, serve: Callable[[web.Application], Served]) -> Served:
    """Serves the world."""
    return serve(create_app(world.parts))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Runs a command in an empty directory, in an environment of its own; what nobody handles fails the test."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, input: str | None = None, **environment: str) -> Result:
        return CliRunner().invoke(
            cli.main, ["webhooks", *arguments], input=input, env=environment, catch_exceptions=False
        )

    return run


@pytest.fixture
def hooks(gateway: Served, run: Callable[..., Result]) -> Iterator[Callable[..., Result]]:
    """Runs a command against the world, with a good token. None of the secrets may be in what it says."""
    said: list[str] = []

    def hooks(*arguments: str, input: str | None = None) -> Result:
        result = run(*arguments, input=input, MAINSTEM_URL=gateway.url, MAINSTEM_TOKEN=TOKEN)
        said.append(result.output)
        return result

    yield hooks
    assert "canary" not in "".join(said)


def outcome(result: Result) -> tuple[int, str, str]:
    return result.exit_code, result.stdout, result.stderr


def usage(result: Result) -> str:
    """The sentence of a usage error."""
    assert (result.exit_code, result.stdout) == (2, "")
    return " ".join(result.stderr.rpartition("Error: ")[2].split())


class TestEndpoints:
    def test_list(self, hooks, world: World) -> None:
        """A line each; of the URL the host alone, the rest may hold a key."""
        world.webhooks.set(
            "billing", state="failing", pending=12, dead=3, last_error="HTTP 500 \x1b[2J", last_delivered_at=0.0
        )
        result = hooks("list")
        assert result.stdout.splitlines() == [
            "NAME     HOST         STATE       PENDING  DEAD  LAST DELIVERED        LAST ERROR",
            "archive  example.com  delivering        0     0  -                     -",
            "billing  example.com  failing          12     3  1970-01-01 00:00:00Z  HTTP 500 \ufffd[2J",
        ]
        assert (result.exit_code, result.stderr) == (0, "")

    def test_list_of_none(self, hooks, world: World) -> None:
        """Says so; for programs it is an empty list."""
        world.webhooks.views.clear()
        assert outcome(hooks("list")) == (0, "There are no endpoints.\n", "")
        assert outcome(hooks("list", "--json")) == (0, table.as_json({"items": [], "next": None}) + "\n", "")

    def test_list_for_programs(self, hooks) -> None:
        """The items of the API."""
        assert [item["name"] for item in json.loads(hooks("list", "--json").stdout)["items"]] == ["archive", "billing"]

    def test_show(self, hooks) -> None:
        """Settings and health, a line each; for programs what the API says."""
        lines = dict(line.split(None, 1) for line in hooks("show", "billing").stdout.splitlines() if line)
        assert (lines["name"], lines["type"], lines["state"]) == ("billing", "task.succeeded", "delivering")
        assert json.loads(hooks("show", "billing", "--json").stdout)["health"]["state"] == "delivering"

    def test_create(self, hooks, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Values are JSON where they can be; the secret is shown this once."""
        monkeypatch.setattr("tests.http.hooks.GENERATED", GENERATED.replace("Y2FuYXJ5", "Z2VuZXJh"))
        result = hooks(
            "create", "fresh", "https://example.com/h", "type=task.succeeded, task.failed", 'kind=["a,b"]', "timeout=2.5",
            "progress=latest", "enabled=false", "source=7",
        )  # fmt: skip
        assert result.exit_code == 0
        assert result.stdout.startswith(
            "fresh is there.\nIts secret, for the receiver, is shown this once:\nwhsec_Z2Vu"
        )
        config = world.webhooks.get("fresh").config
        assert (config.type, config.kind, config.source) == (("task.succeeded", "task.failed"), ("a,b",), ("7",))
        assert (config.timeout, config.progress, config.enabled) == (2.5, "latest", False)

    def test_create_with_a_file_of_secrets(self, hooks, world: World, tmp_path: Path) -> None:
        """Nothing secret has to be an argument; arguments win over the file."""
        (tmp_path / "s.json").write_text(json.dumps({"secret": SECRET, "headers": {"A": "canary"}, "timeout": 9}))
        result = hooks("create", "fresh", "https://example.com/h", "timeout=8", "--settings-file", "s.json")
        assert outcome(result) == (0, "fresh is there.\n", "")
        config = world.webhooks.get("fresh").config
        assert (config.secret.get_secret_value(), config.timeout) == (SECRET, 8)
        result = hooks(
            "create",
            "other",
            "https://example.com/h",
            "--settings-file",
            "-",
            "--json",
            input=f'{{"secret": "{SECRET}"}}',
        )
        assert json.loads(result.stdout)["name"] == "other"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["timeout"], "settings are given as SETTING=VALUE"),
            (["=3"], "settings are given as SETTING=VALUE"),
            (["secret=whsec_x"], "secret: arguments can be seen by others on the machine: use --settings-file"),
            (['headers={"A":"b"}'], "headers: arguments can be seen by others on the machine: use --settings-file"),
            (["--settings-file", "nope.json"], "'nope.json': No such file or directory"),
            (["--settings-file", "list.json"], "list.json: must hold a JSON object"),
            (["--settings-file", "bad.json"], "bad.json: must hold a JSON object"),
            (["--settings-file", "twice.json"], "twice.json: must hold a JSON object, with no name twice"),
            (["timeout=5", "timeout=6"], "timeout: is given twice"),
        ],
    )
    def test_settings_that_cannot_be_read(self, hooks, tmp_path: Path, arguments: list[str], message: str) -> None:
        """Usage, exit code 2."""
        (tmp_path / "list.json").write_text("[1]")
        (tmp_path / "bad.json").write_text("{")
        (tmp_path / "twice.json").write_text('{"timeout": 5, "timeout": 6}')
        assert message in usage(hooks("create", "fresh", "https://example.com/h", *arguments))
        assert message in usage(hooks("change", "billing", *arguments))

    def test_settings_that_are_wrong(self, hooks, world: World) -> None:
        """Each field that no gateway takes, exit code 2, before one is asked; no value is repeated. What only the gateway can
        tell, it tells: exit code 1."""
        said = usage(hooks("create", "a b", "ftp://canary", "timeout=0", "tpye=x", "retry_schedule=1,b"))
        for name in (
            "name: must begin with a letter or digit, then letters, ",
            "url: ",
            "timeout: ",
            "tpye: unknown key; did you mean 'type'?",
            "retry_schedule[1]: ",
        ):
            assert name in said
        assert "canary" not in said
        said = usage(hooks("create", "fresh", "https://example.com/h", "status=suceeded", "type=tsk.*", "task=t1"))
        assert said == (
            "status: no task has the status 'suceeded'; did you mean 'succeeded'?; "
            "type: no event has a type that begins with 'tsk.'; "
            "task: 't1' is no task key: these are <source name>/<task id>"
        )
        assert "no task has the status 'bogus'; known: pending, queued, " in usage(
            hooks("change", "billing", "status=bogus")
        )
        said = usage(hooks("change", "billing", f"retry_schedule={','.join('1' * 33)}"))
        assert said == "retry_schedule: must be a list of at most 32 numbers"
        assert world.webhooks.calls == []
        code, out, error = outcome(hooks("change", "billing", "url=http://127.0.0.1/canary"))
        assert (code, out) == (1, "")
        assert "url: the host is refused" in error

    @pytest.mark.parametrize(("given", "delays"), [("0.2,0.5", (0.2, 0.5)), ("7", (7,)), ("[1, 2]", (1, 2))])
    def test_schedule(self, hooks, world: World, given: str, delays: tuple[float, ...]) -> None:
        """A list of numbers like the lists of words."""
        hooks("create", "fresh", "https://example.com/h", f"retry_schedule={given}")
        assert world.webhooks.get("fresh").config.retry_schedule == delays

    def test_change(self, hooks, world: World) -> None:
        """Answers with what it is now."""
        assert "concurrency" in hooks("change", "billing", "concurrency=4", "type=null").stdout
        assert world.webhooks.calls == [("change", "billing", {"concurrency": 4, "type": None}, "hooks")]
        assert json.loads(hooks("change", "billing", "timeout=4", "--json").stdout)["timeout"] == 4
        assert usage(hooks("change", "billing")) == "say what to change: SETTING=VALUE"

    def test_a_name_stays_and_is_said_once(self, hooks, world: World) -> None:
        """Exit code 2, before a gateway is asked; as a setting, a name or a URL beside the arguments would be lost."""
        assert usage(hooks("change", "billing", "name=other")) == "name: cannot be changed"
        for setting in ("name=other", "url=https://elsewhere.example.com/"):
            said = usage(hooks("create", "fresh", "https://example.com/h", setting))
            assert said == f"{setting.partition('=')[0]}: is given twice"
        assert world.webhooks.calls == []

    def test_enable_and_disable(self, hooks, world: World) -> None:
        """One sentence each."""
        assert outcome(hooks("disable", "billing")) == (0, "billing is disabled.\n", "")
        assert outcome(hooks("enable", "billing")) == (0, "billing is enabled.\n", "")
        assert world.webhooks.calls == [
            ("change", "billing", {"enabled": False}, "hooks"), ("enable", "billing", "hooks"),
        ]  # fmt: skip

    def test_rotate_secret(self, hooks, world: World, tmp_path: Path) -> None:
        """The secret alone on stdout, so that it can go on to where it is needed."""
        given = SECRET.replace("Y2FuYXJ5", "Z2VuZXJh")
        (tmp_path / "secret").write_text(given + "\n")
        assert outcome(hooks("rotate-secret", "billing", "--overlap", "2h", "--secret-file", "secret")) == (
            0,
            given + "\n",
            "",
        )
        assert world.webhooks.calls == [("rotate", "billing", 7200.0, "hooks")]
        result = hooks("rotate-secret", "billing", "--overlap", "0", "--json")
        assert json.loads(result.stdout) == {"secret": GENERATED}

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--overlap", "soon"], "'--overlap': is not a length of time: "),
            (["--overlap", "8d"], "'--overlap': must be at most 7d"),
            (["--secret-file", "secret"], "--secret-file: a secret starts with whsec_ or whsk_"),
        ],
    )
    def test_rotations_that_no_gateway_makes(
        self, hooks, world: World, tmp_path: Path, arguments: list[str], said: str
    ) -> None:
        """Exit code 2, before one is asked, and the secret is not repeated."""
        (tmp_path / "secret").write_text("canary")
        assert said in usage(hooks("rotate-secret", "billing", *arguments))
        assert world.webhooks.calls == []


class TestQuestions:
    LARGE = (
        (["delete", "billing"], ("remove", "billing", "hooks"), "billing is gone.\n"),
        (["retry", "--all", "billing"], ("retry_dead", "billing", "hooks"), "billing: 1 dead letter to be tried again.\n"),
        (
            ["replay", "billing", "--after", "2"], ("replay", "billing", 2, None, "hooks"),
            "billing gets everything after 00000000000000000002 again.\n",
        ),
    )  # fmt: skip

    @pytest.fixture(autouse=True)
    def one_dead(self, world: World) -> None:
        world.webhooks.deliver(delivery(5, "dead", attempt()))

    @pytest.mark.parametrize(("arguments", "call", "said"), LARGE)
    def test_with_yes(self, hooks, world: World, arguments: list[str], call: Any, said: str) -> None:
        """Nothing is asked."""
        assert outcome(hooks(*arguments, "--yes")) == (0, said, "")
        assert world.webhooks.calls == [call]

    @pytest.mark.parametrize(("arguments", "call", "said"), LARGE)
    def test_where_nobody_can_be_asked(self, hooks, world: World, arguments: list[str], call: Any, said: str) -> None:
        """A script has to say that it means it: exit code 2, and nothing happened."""
        assert usage(hooks(*arguments)) == "nobody is there to be asked: add --yes"
        assert world.webhooks.calls == []

    @pytest.mark.parametrize(("arguments", "call", "said"), LARGE)
    def test_at_a_terminal(
        self, hooks, world: World, monkeypatch: pytest.MonkeyPatch, arguments: list[str], call: Any, said: str
    ) -> None:
        """No is exit code 1 and nothing happened; yes is yes."""
        monkeypatch.setattr(webhooks, "_is_interactive", lambda: True)
        assert hooks(*arguments, input="n\n").exit_code == 1
        assert world.webhooks.calls == []
        result = hooks(*arguments, input="y\n")
        assert (result.exit_code, result.stdout) == (0, said)
        assert world.webhooks.calls == [call]

    def test_no_terminal_is_no_terminal(self) -> None:
        """Here there is none, or the tests would wait for an answer."""
        assert webhooks._is_interactive() is False


class TestTest:
    """The test event: waits for the outcome."""

    def test_delivered(self, hooks, world: World) -> None:
        """Exit code 0, after as many looks as it takes."""
        world.webhooks.outcomes = [
            delivery(7, "pending"), delivery(7, "pending"), delivery(7, "delivered", attempt(204, None)),
        ]  # fmt: skip
        assert outcome(hooks("test", "billing")) == (0, "billing.7: delivered: HTTP 204, 12 ms\n", "")

    def test_failed(self, hooks, world: World) -> None:
        """Exit code 1 at the first failure, with why and when it is tried again."""
        world.webhooks.outcomes = [delivery(7, "pending", attempt(None, "connection refused\x1b[1m"))]
        said = "mainstem: billing.7: failed: connection refused\ufffd[1m, 12 ms; next attempt at 2026-01-31 12:00:00Z\n"
        assert outcome(hooks("test", "billing")) == (1, "", said)
        world.webhooks.outcomes = [delivery(7, "dead", attempt(410, "it answered 410"))]
        assert outcome(hooks("test", "billing")) == (1, "", "mainstem: billing.7: dead: it answered 410, 12 ms\n")

    def test_for_programs(self, hooks, world: World) -> None:
        """The delivery on stdout, whatever came of it."""
        world.webhooks.outcomes = [delivery(7, "pending", attempt())]
        result = hooks("test", "billing", "--json")
        assert (result.exit_code, json.loads(result.stdout)["attempts"][0]["status"]) == (1, 500)
        world.webhooks.outcomes = [delivery(7, "delivered", attempt(200, None))]
        result = hooks("test", "billing", "--json")
        assert (result.exit_code, json.loads(result.stdout)["state"]) == (0, "delivered")

    def test_no_outcome_in_time(self, hooks, world: World) -> None:
        """It waits no longer than it was told to, and does not claim that nothing was sent: a receiver may hold the request."""
        said = (
            "mainstem: billing.7 has no outcome after 0.05 s: it waits for the receiver's answer, or for its turn; "
            "see mainstem webhooks show billing\n"
        )
        assert outcome(hooks("test", "billing", "--wait", "0.05")) == (1, "", said)


class TestDeliveries:
    def test_table(self, hooks, world: World) -> None:
        """Newest first; what a receiver or an upstream sent cannot reach the terminal."""
        world.webhooks.deliver(
            delivery(5, "dead", attempt(), attempt(None, "timeout")), delivery(8, "pending"), delivery(6, "delivered", attempt(204, None))
        )  # fmt: skip
        result = hooks("deliveries", "billing")
        assert result.stdout.splitlines() == [
            "DELIVERY   STATE      TRIES  EVENT           TASK       NEXT ATTEMPT          LAST OUTCOME",
            "billing.8  pending        0  task.succeeded  studio/t1  2026-01-31 12:00:00Z  -",
            "billing.6  delivered      1  task.succeeded  studio/t1  -                     HTTP 204, 12 ms",
            "billing.5  dead           2  task.succeeded  studio/t1  -                     timeout, 12 ms",
        ]

    def test_an_end_that_no_attempt_brought_about_is_no_try(self, hooks, world: World) -> None:
        """Dead because the endpoint was disabled: why is shown, and that nothing was sent."""
        ended = attempt(None, "the endpoint is disabled") | {"duration_ms": None}
        world.webhooks.deliver(delivery(5, "dead", ended), delivery(4, "dead", attempt(), ended))
        assert hooks("deliveries", "billing").stdout.splitlines()[1:] == [
            "billing.5  dead       0  task.succeeded  studio/t1  -             the endpoint is disabled",
            "billing.4  dead       1  task.succeeded  studio/t1  -             the endpoint is disabled",
        ]

    def test_as_many_as_asked_for(self, hooks, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Page by page, and no more."""
        monkeypatch.setattr(webhooks, "_PAGE", 2)
        world.webhooks.deliver(*(delivery(number, "delivered") for number in range(1, 9)))
        for limit, count in ((1, 1), (2, 2), (5, 5), (50, 8)):
            answer = json.loads(hooks("deliveries", "billing", "--limit", str(limit), "--json").stdout)
            wanted = [f"billing.{number}" for number in range(8, 8 - count, -1)]
            assert ([item["id"] for item in answer["items"]], answer["next"] is None) == (wanted, count == 8)

    def test_by_state(self, hooks, world: World) -> None:
        """Only those, and a word where there are none."""
        world.webhooks.deliver(delivery(5, "dead", attempt()))
        assert "billing.5" in hooks("deliveries", "billing", "--state", "dead").stdout
        assert outcome(hooks("deliveries", "billing", "--state", "pending")) == (0, "There are none.\n", "")
        assert "is not one of" in usage(hooks("deliveries", "billing", "--state", "lost"))

    def test_retry(self, hooks, world: World) -> None:
        """One delivery needs no question."""
        world.webhooks.deliver(delivery(5, "dead", attempt()))
        assert outcome(hooks("retry", "billing.5")) == (0, "billing.5 is tried again.\n", "")
        assert json.loads(hooks("retry", "billing.5", "--json").stdout)["state"] == "pending"
        assert world.webhooks.calls == [("retry", "billing.5", "hooks")] * 2

    def test_replay_of_what_is_gone(self, hooks, world: World) -> None:
        """The rest is sent, and stderr says that it is not all."""
        world.store.floor = world.webhooks.floor = 2
        code, out, error = outcome(hooks("replay", "billing", "--since", "24h", "--yes"))
        assert (code, out) == (0, "billing gets everything after 00000000000000000002 again.\n")
        assert error == "The log begins there: what is older is gone.\n"

    @pytest.mark.parametrize("arguments", [[], ["--after", "1", "--since", "1h"]])
    def test_replay_needs_one_beginning(self, hooks, arguments: list[str]) -> None:
        """Exit code 2."""
        assert usage(hooks("replay", "billing", *arguments)) == "exactly one of --after and --since is needed"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--since", "yesterday"], "'--since': how long ago, as in 24h, or a time, as in 2026-01-31T12:00:00Z"),
            (["--since", "2026-02-30T12:00:00Z"], "'--since': how long ago, as in 24h, or a time, as in "),
            (["--after", "x"], "'--after': not a position: expected <sequence> or <epoch>:<sequence>"),
        ],
    )
    def test_beginnings_that_are_none(self, hooks, world: World, arguments: list[str], said: str) -> None:
        """Exit code 2, before anybody is asked anything."""
        assert said in usage(hooks("replay", "billing", *arguments))
        assert world.webhooks.calls == []

    @pytest.mark.parametrize("since", ["2026-01-31T12:00:00Z", "24h"])
    def test_replay_since(self, hooks, world: World, since: str) -> None:
        """A time, or how long ago."""
        assert hooks("replay", "billing", "--since", since, "--yes").exit_code == 0
        assert [call[0] for call in world.webhooks.calls] == ["replay"]


class TestFailures:
    """One clear sentence on stderr, exit code 1, and never the token."""

    def test_nobody_listens(self, run) -> None:
        """With the address, and without the path or the query."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            where = f"http://127.0.0.1:{taken.getsockname()[1]}"
            result = run("list", "--url", f"{where}/below/a/proxy", MAINSTEM_TOKEN=TOKEN)
        said = f"mainstem: cannot connect to {where}: Connection refused; is the gateway running there?\n"
        assert outcome(result) == (1, "", said)

    def test_no_such_host(self, run) -> None:
        """Says so."""
        code, _, error = outcome(run("list", "--url", "http://nowhere.invalid"))
        assert (code, error) == (
            1, "mainstem: cannot connect to http://nowhere.invalid: there is no such host; is the gateway running there?\n",
        )  # fmt: skip

    def test_no_token(self, run, gateway: Served) -> None:
        """Says where to put one."""
        said = f"mainstem: {gateway.url} asks for a token: set MAINSTEM_TOKEN, or name its configuration with -c\n"
        assert outcome(run("list", "--url", gateway.url)) == (1, "", said)
        assert outcome(run("list", MAINSTEM_URL=gateway.url, MAINSTEM_TOKEN="", MAINSTEM_CONFIG="")) == (1, "", said)

    def test_bad_token(self, run, gateway: Served) -> None:
        """Is not repeated, but where it came from is said: more than one place may have one."""
        Path("config.yaml").write_text(json.dumps({"auth": {"tokens": [{"token": "canary-other", "scope": "admin"}]}}))
        token = ("--token", "canary-guess")
        for arguments, environment, origin in (
            (token, {"MAINSTEM_TOKEN": TOKEN}, "--token"),
            ((), {"MAINSTEM_TOKEN": "canary-guess"}, "MAINSTEM_TOKEN"),
            (("-c", "config.yaml"), {"MAINSTEM_TOKEN": "canary-guess"}, "MAINSTEM_TOKEN (not from config.yaml)"),
            (("-c", "config.yaml"), {}, "auth.tokens[0] of config.yaml"),
        ):
            said = f"mainstem: {gateway.url} refuses the token from {origin}: The token is not valid.\n"
            assert outcome(run("list", "--url", gateway.url, *arguments, **environment)) == (1, "", said)
        self.secret("canary-jwt-secret-of-some-other-gateway")
        said = f"mainstem: {gateway.url} refuses the token from auth.secret of config.yaml: The token is not valid.\n"
        assert outcome(run("list", "--url", gateway.url, "-c", "config.yaml")) == (1, "", said)

    @staticmethod
    def secret(secret: str) -> None:
        Path("config.yaml").write_text(json.dumps({"auth": {"secret": secret}}))

    def test_wrong_scope_and_bounds(self, run, gateway: Served, world: World) -> None:
        """What the gateway says, and of which token."""
        world.authenticator.grants["bounded"] = bounded("admin", source=("studio",))
        for token, words in (("reader", "with the scope webhooks:write"), ("bounded", "not bound to sources")):
            code, _, error = outcome(run("list", MAINSTEM_URL=gateway.url, MAINSTEM_TOKEN=token))
            assert (code, error.count("\n")) == (1, 1)
            assert words in error
            assert error.startswith(f"mainstem: {gateway.url} refuses the token from MAINSTEM_TOKEN: ")

    @pytest.mark.parametrize(
        "arguments",
        [["show", "nobody"], ["test", "nobody"], ["delete", "nobody", "--yes"], ["deliveries", "../../tasks"], ["show", "a/b?c"]],
    )  # fmt: skip
    def test_no_such_endpoint(self, hooks, arguments: list[str]) -> None:
        """A name is a name, whatever is in it."""
        assert outcome(hooks(*arguments)) == (1, "", "mainstem: There is no such endpoint.\n")

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (502, "<html>canary\x1b[2J</html>"),
            (200, "<html>"),
            (500, ""),
            (404, "[]"),
            (200, "["),
            (302, ""),
            (404, '{"detail": 5}'),
        ],
    )
    def test_something_else_answers(self, run, serve, status: int, body: str) -> None:
        """A proxy's page is not printed, and a redirect is not followed: the token is for this gateway alone."""
        followed: list[str | None] = []

        async def answer(request: web.Request) -> web.Response:
            return web.Response(status=status, text=body, headers={"Location": "/elsewhere"} if status == 302 else {})

        async def elsewhere(request: web.Request) -> web.Response:
            followed.append(request.headers.get("Authorization"))
            return web.json_response({"items": []})

        app = web.Application()
        app.router.add_get("/v1/webhooks", answer)
        app.router.add_get("/elsewhere", elsewhere)
        url = serve(app).url
        said = f"mainstem: {url} answered HTTP {status}, but not as Mainstem does\n"
        assert outcome(run("list", MAINSTEM_URL=url, MAINSTEM_TOKEN=TOKEN)) == (1, "", said)
        assert followed == []

    @pytest.mark.parametrize(
        "body",
        ["", "null", "[]", "5", "{}", '{"items": 5}', '{"items": [5]}', '{"items": [{"name": "x"}]}', "[" * 5000],
    )
    @pytest.mark.parametrize(
        "arguments",
        [
            ["list"], ["list", "--json"], ["show", "a"], ["create", "a", "https://example.com/"], ["change", "a", "timeout=5"],
            ["enable", "a"], ["disable", "a"], ["test", "a"], ["deliveries", "a"], ["deliveries", "a", "--json"],
            ["retry", "a.1"], ["retry", "--all", "a", "--yes"], ["replay", "a", "--after", "1", "--yes"],
            ["rotate-secret", "a"],
        ],
        ids=" ".join,
    )  # fmt: skip
    def test_json_of_something_else(self, run, other: Callable[[str], str], arguments: list[str], body: str) -> None:
        """A server that answers 200 with JSON, and is no gateway: one line, and nothing is claimed to have been done."""
        url = other(body)
        said = f"mainstem: {url} answered HTTP 200, but not as Mainstem does\n"
        assert outcome(run(*arguments, MAINSTEM_URL=url)) == (1, "", said)

    @pytest.mark.parametrize("body", ["[]", "{}", "gone"])
    def test_nothing_of_something_else(self, run, other: Callable[[str], str], body: str) -> None:
        """A gateway answers the removal of an endpoint with nothing at all."""
        url = other(body)
        said = f"mainstem: {url} answered HTTP 200, but not as Mainstem does\n"
        assert outcome(run("delete", "a", "--yes", MAINSTEM_URL=url)) == (1, "", said)

    @pytest.fixture
    def other(self, serve: Callable[[web.Application], Served]) -> Callable[[str], str]:
        """Serves one body wherever it is asked; its URL."""

        def other(body: str) -> str:
            async def answer(request: web.Request) -> web.Response:
                return web.Response(text=body, content_type="application/json")

            app = web.Application()
            app.router.add_route("*", "/{path:.*}", answer)
            return serve(app).url

        return other

    @pytest.mark.parametrize(
        "body",
        [
            "[]", '{"items": 5}', '{"items": [5]}', '{"items": [{"sequence": "x", "time": "x", "data": {}}]}',
            '{"items": [{"sequence": "1", "time": "2026-02-30T00:00:00Z", "data": {}}]}',
        ],
    )  # fmt: skip
    def test_a_log_of_something_else(self, run, other: Callable[[str], str], body: str) -> None:
        """`tail --since` asks for the log before it opens the stream."""
        url = other(body)
        result = CliRunner().invoke(cli.main, ["tail", "--since", "1h", "--url", url], catch_exceptions=False)
        assert outcome(result) == (1, "", f"mainstem: {url} answered HTTP 200, but not as Mainstem does\n")

    def test_health_of_something_else(self, run, other: Callable[[str], str]) -> None:
        """One line as well."""
        for body in ("[]", "null", '{"status": "ok", "checks": 5}', "[" * 5000):
            url = other(body)
            result = CliRunner().invoke(cli.main, ["health", "--url", url], catch_exceptions=False)
            assert outcome(result) == (1, "", f"mainstem: what answers at {url}/readyz is no gateway: HTTP 200\n")

    def test_what_a_gateway_says_is_made_harmless(self, run, serve) -> None:
        """Escape sequences do not reach the terminal."""

        async def answer(request: web.Request) -> web.Response:
            return web.json_response({"detail": "no\x1b[2J\nmainstem: all is well"}, status=409)

        app = web.Application()
        app.router.add_get("/v1/webhooks", answer)
        said = "mainstem: no\ufffd[2J mainstem: all is well\n"
        assert outcome(run("list", MAINSTEM_URL=serve(app).url)) == (1, "", said)

    def test_no_answer(self, run, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a while it gives up, and does not claim that nothing happened."""
        monkeypatch.setattr(remote, "TIMEOUT", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            code, _, error = outcome(run("list", MAINSTEM_URL=url))
        assert (code, error) == (1, f"mainstem: {url} gave no answer in 0 s; it may have done what was asked\n")

    def test_hung_up(self, run) -> None:
        """A server that closes the connection instead of answering."""

        def hang_up() -> None:
            with contextlib.suppress(OSError):  # the end of listening
                while True:
                    server.accept()[0].close()

        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            thread = threading.Thread(target=hang_up)
            thread.start()
            code, out, error = outcome(run("list", MAINSTEM_URL=url))
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
        assert (code, out) == (1, "")
        assert error.startswith(f"mainstem: {url} did not answer as HTTP asks for: ")

    def test_no_tls(self, run, gateway: Served) -> None:
        """A TLS client at a plain port."""
        url = gateway.url.replace("http:", "https:")
        said = f"mainstem: no trusted TLS connection to {url} can be made\n"
        assert outcome(run("list", MAINSTEM_URL=url, MAINSTEM_TOKEN=TOKEN)) == (1, "", said)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--url", "127.0.0.1:8080"), ("--url", "ftp://h"), ("--url", "http://"), ("--url", "http://h:x"), ("--url", "http://[::1"),
            ("--url", "http://user:canary@h"), ("--url", "http://h/?token=canary"), ("--url", "http://h/#canary"), ("--url", "http://h:0"),
            ("--url", "ftp://h/v1/stream"), ("--token", "canary token"), ("--token", "canary\r\nX-Evil: 1"), ("--token", "canary-é"),
        ],
    )  # fmt: skip
    def test_options_that_cannot_be_meant(self, run, option: str, value: str) -> None:
        """Usage; a value that may hold a secret is not repeated."""
        message = usage(run("list", option, value))
        assert option in message
        assert "canary" not in message


class TestConfiguration:
    """`-c`: the address and a token from the gateway's own file."""

    @staticmethod
    def write(port: int, **auth: Any) -> None:
        server = {"port": port, "host": "0.0.0.0" if auth else "127.0.0.1"}
        Path("config.yaml").write_text(json.dumps({"server": server, "auth": auth}))

    def test_a_token_is_made_with_the_secret(self, run, serve) -> None:
        """Short-lived, with the one scope that is needed, for whom the configuration asks it to be."""
        seen: list[tuple[str, dict[str, Any]]] = []

        async def answer(request: web.Request) -> web.Response:
            token = request.headers["Authorization"].removeprefix("Bearer ")
            claims = jwt.decode(token, JWT_SECRET, algorithms=["HS256"], audience="mainstem", issuer="us")
            seen.append((request.headers["Host"], claims))
            return web.json_response({"items": []})

        app = web.Application()
        app.router.add_get("/v1/webhooks", answer)
        port = serve(app).port
        self.write(port, secret=JWT_SECRET, audience="mainstem", issuer="us")
        assert outcome(run("list", "-c", "config.yaml")) == (0, "There are no endpoints.\n", "")
        ((host, claims),) = seen
        assert host == f"127.0.0.1:{port}"
        assert claims.pop("exp") - claims.pop("iat") == 300
        assert claims == {"scope": "webhooks:write", "sub": "mainstem-cli", "aud": "mainstem", "iss": "us"}

    def test_a_static_token_that_may(self, run, gateway: Served) -> None:
        """The first without bounds that has the scope."""
        tokens = [
            {"token": "reader", "scope": "events:read"}, {"token": "x", "scope": "admin", "kinds": ["k"]},
            {"token": TOKEN, "scope": "events:read webhooks:write"},
        ]  # fmt: skip
        self.write(gateway.port, tokens=tokens)
        assert run("list", MAINSTEM_CONFIG="config.yaml").stdout.startswith("NAME")

    def test_without_any(self, run, gateway: Served) -> None:
        """A configuration whose tokens come from elsewhere; exit code 2, because that is what it is about."""
        self.write(gateway.port, tokens=[{"token": "reader", "scope": "events:read"}])
        code, out, error = outcome(run("list", "-c", "config.yaml"))
        assert (code, out) == (2, "")
        assert error == (
            "config.yaml: auth: has no secret to make a token with, and no token with webhooks:write: set MAINSTEM_TOKEN\n"
        )
        assert run("list", "-c", "config.yaml", MAINSTEM_TOKEN=TOKEN).exit_code == 0

    def test_a_gateway_without_tokens(self, run, gateway: Served, world: World) -> None:
        """Mode none."""
        world.authenticator.open_to_all = True
        self.write(gateway.port)
        assert run("list", "-c", "config.yaml").stdout.startswith("NAME")

    def test_a_port_that_only_the_gateway_knows(self, run, gateway: Served) -> None:
        """Needs `--url`, which wins over the file in any case."""
        self.write(0, secret=JWT_SECRET)
        error = "config.yaml: server.port: is 0, so --url has to say where the gateway is\n"
        assert outcome(run("list", "-c", "config.yaml", MAINSTEM_TOKEN=TOKEN)) == (2, "", error)
        assert run("list", "-c", "config.yaml", "--url", gateway.url, MAINSTEM_TOKEN=TOKEN).exit_code == 0

    def test_only_what_is_used_must_be_right(self, run, gateway: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        """Other sections may be wrong and their variables not set, as on another machine than the gateway's."""
        monkeypatch.delenv("UNSET", raising=False)
        entrance = f"server: {{port: {gateway.port}}}\nauth: {{tokens: [{{token: '${{HOOKS}}', scope: admin}}]}}\n"
        Path("config.yaml").write_text(
            f"{entrance}sources: [{{adapter: nope, url: '${{UNSET}}'}}]\nwebhooks: '${{UNSET}}'\nlgo: 1\n"
        )
        assert run("list", "-c", "config.yaml", HOOKS=TOKEN).stdout.startswith("NAME")
        message = "config.yaml:2: auth.tokens[0].token: environment variable HOOKS is not set\n"
        assert outcome(run("list", "-c", "config.yaml")) == (2, "", message)

    def test_a_file_that_is_wrong(self, run) -> None:
        """As `check` says it."""
        Path("config.yaml").write_text("server: {hots: h}")
        message = "config.yaml:1: server.hots: unknown key; did you mean 'host'?\n"
        assert outcome(run("list", "-c", "config.yaml")) == (2, "", message)

    @pytest.mark.parametrize(
        ("host", "url"), [("::", "http://[::1]:9"), ("::1", "http://[::1]:9"), ("h.example", "http://h.example:9")]
    )
    def test_addresses(self, host: str, url: str) -> None:
        """An address that listens everywhere is reached on this machine."""
        from gateway.config import Entrance

        entrance = Entrance.model_validate({"server": {"host": host, "port": 9}, "auth": {"secret": JWT_SECRET}})
        assert remote._address(entrance, Path("c")) == url


class TestTable:
    def test_cell(self) -> None:
        """Nothing that moves a cursor, changes a colour or the direction of writing; letters of any script stay."""
        assert table.cell("a\x1b[31m\r\n\t\x07\x9b\u202e\ud800é漢") == "a\ufffd[31m   \ufffd\ufffd\ufffd\ufffdé漢"
        assert [table.cell(value) for value in (None, "", 0, False, [], {}, {"a": 1}, [5.0, 0.5, "a"], AT)] == [
            "-", "-", "0", "false", "-", "-", '{"a": 1}', "5, 0.5, a", AT,
        ]  # fmt: skip

    def test_json_is_ascii(self) -> None:
        """The same value, whatever is in it, and nothing for a terminal to obey."""
        value = {"a": ["\x1b[2J", "\x9b2J", "\u202e", "é"]}
        assert table.as_json(value).isascii()
        assert table.as_json(value).replace("\n", "").isprintable()
        assert json.loads(table.as_json(value)) == value

    def test_wide_characters_are_two_columns(self) -> None:
        """As a terminal has them; what follows stays in its column."""
        assert table.columns(("A", "B"), [("漢字", "x"), ("abc", "y")]).splitlines() == [
            "A     B",
            "漢字  x",
            "abc   y",
        ]

    def test_a_value_is_as_long_as_any_setting(self) -> None:
        """Whatever is longer ends with a sign that it does."""
        assert table.cell("a" * 2048) == "a" * 2048
        assert table.cell("a" * 9000).endswith("a…")

    def test_columns_without_rows(self) -> None:
        """The head alone."""
        assert table.columns(("A", "B"), []) == "A  B"
