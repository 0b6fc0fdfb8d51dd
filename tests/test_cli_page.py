"""`docs/terminal.md`: every command that it shows is one, with these options; its test of a capture is a test."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gateway import cli

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "terminal.md").read_text()
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("line", LINES)
def test_commands_can_be_typed(line: str) -> None:
    """Parsed as the command line parses them; nothing is run."""
    program, name, *arguments = shlex.split(line.partition(" | ")[0], comments=True)
    assert program == "mainstem"
    command = cli.main.commands[name]
    with click.Context(cli.main, info_name="mainstem") as parent:
        command.make_context(name, arguments, parent=parent)


def test_every_command_of_the_page_is_there() -> None:
    assert {line.split()[1] for line in LINES} == {"init", "check", "tail", "listen", "health", "capture", "replay"}


def test_the_test_of_a_capture_works(tmp_path: Path) -> None:
    """As it stands on the page, with the committed captures; and it fails where an event differs."""
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "golden" in block]
    (tmp_path / "test_page.py").write_text(code)
    shutil.copytree(ROOT / "tests" / "captures", tmp_path / "captures")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path)]

    def outcome() -> tuple[int, str]:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    code_, output = outcome()
    assert code_ == 0, output
    assert "3 passed" in output
    events = tmp_path / "captures" / "emit.events.jsonl"
    events.write_text(events.read_text().replace("task.dispatched", "task.started", 1))
    code_, output = outcome()
    assert code_ == 1
    assert "emit.events.jsonl:" in output
