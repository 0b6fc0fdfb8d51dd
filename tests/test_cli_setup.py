"""`init`, `check --connect`, `health`, `completion`: what a new user does first."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from adapters import registry
from adapters.api import SourceConfig
from gateway import cli, config, simulators
from gateway.commands import init, reach
from gateway.config import Settings
from tests.clients.kit import serving
from tests.e2e.kit import SECRET, write
from tests.process import running


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli.main, arguments, catch_exceptions=False)

    return invoke


class TestInit:
    @pytest.mark.parametrize("adapters", [(), ("triverse",), ("emit", "catalyst"), ("triverse", "emit", "catalyst")])
    def test_passes_check_once_its_variables_are_set(self, invoke: Any, adapters: tuple[str, ...]) -> None:
        """It names every variable that is needed, and puts no secret into the file."""
        result = invoke("init", *(word for name in adapters for word in ("--adapter", name)))
        assert result.exit_code == 0
        exports = dict(re.findall(r"export (\w+)=(\S+)", result.stdout))
        assert len(exports["MAINSTEM_JWT_SECRET"]) >= config.MIN_SECRET_BYTES
        assert exports["MAINSTEM_JWT_SECRET"] not in Path("config.yaml").read_text()
        environ = {name: "ws://h" if name.endswith("URL") else value * 8 for name, value in exports.items()}
        settings = config.load("config.yaml", environ)
        assert [source.adapter for source in settings.sources] == list(adapters or ("triverse",))
        assert settings.auth.mode == "jwt"

    def test_every_commented_line_is_valid_too(self, invoke: Any) -> None:
        """Nobody wants to find out which example is wrong."""
        invoke("init", "--adapter", "triverse", "--adapter", "emit")
        path = Path("config.yaml")
        text = re.sub(r"^( *)#(?! \S)", r"\1", path.read_text(), flags=re.MULTILINE)
        path.write_text(text)
        secret = {"BACKEND_WHSEC": SECRET}
        names = re.findall(r"\$\{(\w+)\}", text)
        settings = config.load(path, dict.fromkeys(names, "v" * 40) | secret)
        assert [webhook.name for webhook in settings.webhooks] == ["backend"]
        assert [token.name for token in settings.auth.tokens] == ["operator"]

    def test_overwrites_nothing(self, invoke: Any) -> None:
        """Unless told to."""
        Path("config.yaml").write_text("mine")
        result = invoke("init")
        assert (result.exit_code, result.stderr) == (
            1,
            "mainstem: config.yaml is there already; --force overwrites it\n",
        )
        assert Path("config.yaml").read_text() == "mine"
        assert invoke("init", "--force").exit_code == 0
        assert "sources:" in Path("config.yaml").read_text()

    def test_knows_foreign_adapters_by_what_they_require(self, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        class Pulse(SourceConfig):
            key: str

        monkeypatch.setattr(registry, "load", lambda name: SimpleNamespace(Config=Pulse))
        assert invoke("init", "--adapter", "pulse").exit_code == 0
        assert '    key: "${PULSE_KEY}"' in Path("config.yaml").read_text()

    def test_refuses_what_is_no_adapter(self, invoke: Any) -> None:
        result = invoke("init", "--adapter", "nope")
        assert result.exit_code == 2
        assert "there is no adapter 'nope'; available: " in result.stderr
        assert not Path("config.yaml").exists()

    def test_the_sections_are_those_of_the_built_in_adapters(self) -> None:
        assert set(init._SOURCES) == set(registry.BUILT_IN)


class TestHealth:
    async def test_of_a_started_gateway(self, tmp_path: Path) -> None:
        """0 where it is ready, 1 where a source was refused, and 0 again for the process alone."""
        async with await simulators.start("triverse", rate=0) as upstream:
            source = {"name": "studio", "adapter": "triverse", "url": upstream.url, "token": "wrong"}
            async with running(write(tmp_path, sources=[source])) as url:
                await upstream.wait_refused()
                async with asyncio.timeout(20):
                    while (found := await run("health", "--url", url))[0] == 0:
                        await asyncio.sleep(0.02)
                assert found == (1, "", "unready; wrong: sources; studio is failed\n")
                assert await run("health", "--url", url, "--live") == (0, "ok\n", "")
                assert await run("health", "--url", url, "--quiet") == (1, "", "")

    async def test_of_something_else(self) -> None:
        """A page that is no gateway's, and nobody at all."""

        async def page(request: web.Request) -> web.Response:
            return web.Response(text="<html>")

        app = web.Application()
        app.router.add_get("/{path:.*}", page)
        async with serving(app) as url:
            code, _, errors = await run("health", "--url", url)
        assert (code, errors) == (1, f"mainstem: what answers at {url}/readyz is no gateway: HTTP 200\n")
        assert await run("health", "--url", "http://127.0.0.1:1") == (1, "", "unreachable: Connection refused\n")
        for url in ("file:///etc/passwd", "http://[", "http://h:x"):
            code, _, errors = await run("health", "--url", url)
            assert (code, "must be like http://127.0.0.1:8080" in errors) == (2, True)

    async def test_does_not_wait_for_ever(self) -> None:
        """A server that accepts and says nothing."""
        with socket.create_server(("127.0.0.1", 0)) as silent:  # connected by the kernel, accepted by nobody
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            code, _, errors = await run("health", "--url", url, "--timeout", "0.2")
        assert (code, errors) == (1, "unreachable: no answer in time\n")


async def run(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode(), errors.decode()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(invoke: Any, shell: str) -> None:
    """A script that asks this program."""
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert f"_MAINSTEM_COMPLETE={shell}_complete" in result.stdout


def test_completion_completes() -> None:
    """Commands, and options of a command."""
    for words, cword, expected in (("mainstem t", 1, {"tail", "token"}), ("mainstem tail --j", 2, {"--json"})):
        env = {**os.environ, "_MAINSTEM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(cword)}
        code = "import sys; sys.argv[0] = 'mainstem'; from gateway.cli import main; main(prog_name='mainstem')"
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=30, check=True
        )
        assert {line.partition(",")[2] for line in done.stdout.splitlines()} == expected


# --- check --connect -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def secure(tmp_path: Path) -> AsyncIterator[int]:
    """The port of a TLS server whose certificate nobody knows."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    await asyncio.to_thread(
        subprocess.run,
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"], capture_output=True, check=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def hook(name: str, url: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "url": url, "secret": SECRET, **options}


async def test_everything_is_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each stream, REST API and webhook: what is wrong, in words, without a secret; exit code 1."""
    requests = 0

    async def count(request: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", count)
    async with (
        await simulators.start("triverse", rate=0) as triverse,
        await simulators.start("emit", rate=0, edition="newer") as emit,
        await simulators.start("catalyst", rate=0, interval=None) as catalyst,
        serving(app) as hooks,
        secure(tmp_path) as port,
    ):
        token, spaces = triverse.credentials["token"], emit.credentials["spaces"]
        settings = Settings.model_validate({
            "sources": [
                {"name": "good", "adapter": "triverse", "url": triverse.url, "token": token},
                {"name": "badkey", "adapter": "triverse", "url": triverse.url, "token": "canary-key"},
                {"name": "gone", "adapter": "triverse", "url": "ws://127.0.0.1:1", "token": token},
                {"name": "jobs", "adapter": "emit", "url": emit.url, "token": emit.credentials["token"], "spaces": spaces},
                {"name": "ops", "adapter": "catalyst", "url": catalyst.url, "uuid": "canary-uuid"},
                {"name": "fresh", "adapter": "catalyst", "url": catalyst.url, "auth_url": f"{hooks}/a", "api_key": "canary-api"},
                {"name": "off", "adapter": "emit", "url": "ws://127.0.0.1:1", "token": "t", "enabled": False},
                {"name": "idle", "adapter": "triverse", "url": triverse.url, "token": token, "watch": []},
                {"name": "many", "adapter": "triverse", "url": "ws://127.0.0.1:1", "token": token, "watch": list("abcdefgh")},
            ],
            "webhooks": [
                hook("open", f"{hooks}/canary-path?k=canary-query", allow_private=True),
                hook("shut", "http://127.0.0.1:1/", allow_private=True),
                hook("unknown", f"https://localhost:{port}/", allow_private=True),
                hook("private", "https://rebound.test/"),
                hook("off", "https://h/", enabled=False),
            ],
        })  # fmt: skip
        loop = asyncio.get_running_loop()
        resolve = loop.getaddrinfo

        async def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
            return await resolve("127.0.0.1" if host == "rebound.test" else host, *arguments, **options)

        loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
        code = await reach.run(settings, 10.0)
    output = capsys.readouterr().out
    found = [tuple(re.split(r"  +", line)) for line in output.splitlines()]
    said = {(line[0], line[-2]): line[-1] for line in found}
    assert code == 1
    assert "canary" not in output
    assert requests == 1  # the request for a uuid; no webhook was sent anything
    assert said["source good", "ok"] == "answers"
    assert said["source badkey", "wrong"] == "handshake: answered with HTTP 401: url or credentials refused"
    assert said["source badkey", "warning"].startswith("refuses the credentials (HTTP 401)")
    assert said["source gone", "wrong"] == "connection failed: Connection refused"
    assert said["source jobs", "ok"] == "answers"
    assert said["source ops", "wrong"].startswith("ERR_INVALID_UUID")
    assert said["source fresh", "wrong"] == "the answer to the authorization request is not understood"
    assert said["source off", "skipped"] == "is disabled"
    assert said["source idle", "skipped"] == "watches nothing until it is asked to"
    assert said["source many", "skipped"] == "3 more streams are not tried"
    assert said["webhook open", "ok"] == "127.0.0.1: connected"
    assert said["webhook shut", "wrong"] == "127.0.0.1: no connection: Connection refused"
    assert said["webhook unknown", "wrong"].startswith("TLS: self-signed certificate")
    assert (
        said["webhook private", "wrong"]
        == "address refused: 127.0.0.1: it is a loopback address, which needs allow_private"
    )
    assert said["webhook off", "skipped"] == "is disabled"


async def test_all_is_well(tmp_path: Path) -> None:
    """Exit code 0, from the command; and a time limit for what never answers."""
    async with await simulators.start("triverse", rate=0) as upstream:
        source = {"name": "good", "adapter": "triverse", "url": upstream.url, "token": upstream.credentials["token"]}
        path = write(tmp_path, sources=[source])
        code, output, errors = await run("check", "-c", str(path), "--connect")
        assert (code, errors) == (0, "")
        assert [line.split()[-1] for line in output.splitlines()] == ["webhooks", "connected", "answers"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        path = write(tmp_path, sources=[{"name": "mute", "adapter": "triverse", "url": url, "token": "t"}])
        code, output, _ = await run("check", "-c", str(path), "--connect", "--timeout", "0.3")
    assert code == 1
    assert output.count("no answer") == 2
