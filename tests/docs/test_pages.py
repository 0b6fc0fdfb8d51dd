"""Every command of README and of the pages is run, or says why it cannot be."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import cli, config
from tests.clients.kit import free_port
from tests.deploy.test_deploy import understood
from tests.docs.pages import ROOT, Session, blocks
from tests.process import running

PAGES = [
    "docs/getting-started.md", "docs/operations.md", "docs/security.md", "docs/configuration.md", "docs/frontends.md",
]  # fmt: skip
#: Why a command may be left out.
REASONS = {
    "it makes the environment that the tests run in", "the tests have their own", "needs a Docker daemon", "needs a cluster",
    "needs systemd", "needs a log at that place",
}  # fmt: skip
SECRET = "0123456789abcdef0123456789abcdef"

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_says_why(page: str) -> None:
    """With one of a few reasons; and the files it names are there."""
    for block in blocks(page):
        kind, _, rest = block.comment.partition(": ")
        assert kind in ("", "until stopped", "file", "added to", "needs", "not run")
        if kind == "not run":
            assert rest in REASONS
            for path in re.findall(r"\bdeploy/[\w./-]+", block.text):
                assert (ROOT / path).exists()


@needs_curl
def test_getting_started(tmp_path: Path) -> None:
    """From the demo to a webhook, in the order of the page."""
    gateway, upstream, receiver = free_port(), free_port(), free_port()
    replaced = {
        "127.0.0.1:8080": f"127.0.0.1:{gateway}", "127.0.0.1:9001": f"127.0.0.1:{upstream}", "--port 9001": f"--port {upstream}",
        "127.0.0.1:8090": f"127.0.0.1:{receiver}", "--port 8090": f"--port {receiver}", "mainstem demo": "mainstem demo --port 0",
        "sources:\n": f"server: {{port: {gateway}}}\nsources:\n",
    }  # fmt: skip
    session = Session(tmp_path, {"MAINSTEM_URL": f"http://127.0.0.1:{gateway}"}, replaced)
    try:
        for block in blocks("docs/getting-started.md"):
            session.run(block)
    finally:
        codes = session.close()
    assert codes == {
        "mainstem listen": 0, "mainstem tail": 0, "mainstem run": 0, "mainstem simulate": 0, "mainstem demo": 0,
        "curl -fsSN": -signal.SIGINT,
    }  # fmt: skip


@needs_curl
async def test_operations(tmp_path: Path) -> None:
    """What can be run without a daemon, a cluster or an init system."""
    (tmp_path / "config.yaml").write_text("server: {port: 0}")
    async with running(tmp_path / "config.yaml") as url:
        session = Session(tmp_path, {}, {"http://127.0.0.1:8080": url, " deploy/": f" {ROOT}/deploy/"})
        for block in blocks("docs/operations.md"):
            program = block.comment.removeprefix("needs: ")
            if program != "gateway" and block.comment.startswith("needs: ") and shutil.which(program) is None:
                continue
            await asyncio.to_thread(session.run, block)


def test_security(tmp_path: Path) -> None:
    """A token as the page mints it."""
    (tmp_path / "config.yaml").write_text(f"auth: {{secret: {SECRET}}}")
    session = Session(tmp_path, {}, {})
    for block in blocks("docs/security.md"):
        session.run(block)


@pytest.mark.parametrize("page", ["README.md", *PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    """Files that exist, and headings that they have."""
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


# --- README ----------------------------------------------------------------------------------------------------------


def readme(language: str, containing: str) -> str:
    """The one block of the README with a text."""
    (found,) = [block.text for block in blocks("README.md") if block.language == language and containing in block.text]
    return found


def test_the_commands_of_the_readme_exist() -> None:
    """Targets of make are there; commands of mainstem are understood."""
    lines = [line for block in blocks("README.md") if block.language == "sh" for line in block.text.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines]
    targets = [words[1] for words in commands if words[:1] == ["make"]]
    assert {"demo", "test"} <= set(targets)
    subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, timeout=60, check=True)
    ours = [words for words in commands if words and words[0] in (".venv/bin/mainstem", "mainstem")]
    assert ours
    for words in ours:
        assert understood(words[1:])
    assert cli.main.commands


def test_the_configuration_of_the_readme_is_valid(tmp_path: Path) -> None:
    """With its variables set."""
    path = tmp_path / "config.yaml"
    path.write_text(readme("yaml", "sources:"))
    names = re.findall(r"\$\{(\w+)\}", path.read_text())
    environ = dict.fromkeys(names, SECRET) | {"BILLING_WHSEC": "whsec_" + "AAAA" * 8}
    assert len(config.load(path, environ).sources) == 3


async def test_the_client_of_the_readme_works() -> None:
    """Against the demo: it prints tasks."""
    command = [sys.executable, "-u", "-m", "gateway", "demo", "--port", "0"]
    demo = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    client = None
    try:
        async with asyncio.timeout(60):
            assert demo.stdout is not None
            while not (found := re.search(rb"ws://127\.0\.0\.1:\d+", await demo.stdout.readline())):
                assert not demo.stdout.at_eof()
            code = readme("python", "websockets.connect").replace("ws://127.0.0.1:8080", found[0].decode())
            client = await asyncio.create_subprocess_exec(
                sys.executable, "-u", "-c", code, stdout=asyncio.subprocess.PIPE
            )
            assert client.stdout is not None
            assert re.match(rb"task\.\w+ \w+/\S+ \w+ ", await client.stdout.readline())
    finally:
        for process in (client, demo):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
