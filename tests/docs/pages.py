"""A page of the documentation as a session: its blocks, and what the comment behind each says about running it.

A `sh` block is run to its end and must succeed, unless a comment right behind it says otherwise: `until stopped` (it is left
running until the page is over), `needs: <program>`, `not run: <reason>`. A block of another language is looked at only where
its comment says `file: <name>` or `added to: <name>`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n(?:<!-- (.*?) -->)?", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A code block and what is said about it."""

    language: str
    text: str
    comment: str


def blocks(page: str) -> list[Block]:
    """All blocks of a page (a path below the root), in order."""
    return [Block(*(part or "" for part in found)) for found in _BLOCK.findall((ROOT / page).read_text())]


class Session:
    """Runs the blocks of one page, in one directory, with one environment that `export` changes.

    Args:
        replaced: text of the page → what stands in its place here, such as ports.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str], replaced: Mapping[str, str]) -> None:
        self._directory = directory
        self._replaced = replaced
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environ = {**os.environ, **environ, "PATH": programs}
        self._left: list[tuple[str, subprocess.Popen[str]]] = []

    def run(self, block: Block) -> None:
        """Does what the block asks for."""
        text = block.text
        for old, new in self._replaced.items():
            text = text.replace(old, new)
        kind, _, rest = block.comment.partition(": ")
        if kind in ("file", "added to"):
            with (self._directory / rest).open("w" if kind == "file" else "a") as file:
                file.write(text)
        elif block.language == "sh" and kind == "until stopped":
            self._leave_running(text)
        elif block.language == "sh" and kind != "not run":
            self._execute(text)

    def _execute(self, text: str) -> None:
        after = self._directory / ".environment"
        command = ["bash", "-eu", "-o", "pipefail", "-c", f"{text}\nenv -0 > '{after}'"]
        done = subprocess.run(
            command, cwd=self._directory, env=self._environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        self._environ = dict(item.split("=", 1) for item in after.read_text().split("\0") if item)

    def _leave_running(self, text: str) -> None:
        """Starts it, and returns once it has said something."""
        process = subprocess.Popen(
            ["bash", "-eu", "-c", f"exec {text}"], cwd=self._directory, env=self._environ, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._left.append((text, process))
        assert process.stdout is not None
        assert process.stdout.readline(), f"{text}\nended without a word: {process.wait()}"

    def close(self) -> dict[str, int]:
        """Stops what was left running, the last one first, as Ctrl-C does. Command → exit code."""
        codes = {}
        for text, process in reversed(self._left):
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=30)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.communicate()
            codes[" ".join(text.replace("\\\n", " ").split()[:2])] = process.returncode
        self._left.clear()
        return codes
