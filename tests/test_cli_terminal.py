"""`tail` and what it draws with: hostile names, narrow terminals, pipes that close, gateways that come back."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gateway import cli
from gateway.commands import screen, text
from gateway.commands.board import MOST, Board
from mainstem_client import Event, Task
from tests.clients.kit import Upstream, gateway
from tests.e2e.kit import log_of, write
from tests.process import running

HOSTILE = "a\x1b]52;c;ZXZpbA==\x07\x9b2J\u202eb\r\n\x00\u2028c\ud800"
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
AUTH = {"secret": "a-secret-of-32-bytes-or-more-for-tests"}
ANY = st.text(st.characters(exclude_categories=()))


# --- texts -----------------------------------------------------------------------------------------------------------


@given(ANY, st.integers(0, 60))
def test_whatever_an_upstream_says_fits_and_is_harmless(value: str, width: int) -> None:
    """No control, format or surrogate character; exactly so many columns, whatever is wide."""
    assert not FORBIDDEN.search(text.plain(value))
    assert "\n" not in text.plain(value)
    assert cell_len(text.fit(value, width)) == width
    assert cell_len(text.cut(value, width)) <= width
    text.plain(value).encode()


@given(
    st.recursive(st.none() | ANY, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3))
)
def test_json_stays_what_it_is(value: Any) -> None:
    """The same value, and nothing in it that a terminal obeys or that cannot be encoded."""
    line = text.json_line(json.dumps(value, ensure_ascii=False))
    assert json.loads(line) == json.loads(json.dumps(value))
    assert not FORBIDDEN.search(line)
    line.encode()


@pytest.mark.parametrize(
    ("progress", "drawn"),
    [
        (None, "····"),
        (0, "░░░░"),
        (50, "██░░"),
        (100, "████"),
        (1000, "████"),
        (-5, "░░░░"),
        (30, "█▎░░"),
        (99, "████"),
    ],
)
def test_bars(progress: float | None, drawn: str) -> None:
    assert text.bar(progress, 4) == drawn


# --- the board -------------------------------------------------------------------------------------------------------


def event(what: str, status: str = "running", id: str = "1", progress: float | None = 5, **data: Any) -> Event:
    task = Task(key=f"studio/{id}", id=id, source="studio", adapter="triverse", status=status, kind=data.pop("kind", "k"),
                progress=progress, started_at="2026-01-01T00:00:00Z", completed_at=data.pop("completed_at", None))  # fmt: skip
    return Event("e", what, "/triverse/studio", "2026-01-01T00:00:10Z", 1, {"detail": None, **data}, id, task)


@given(ANY, ANY, st.integers(1, 200), st.integers(0, 5))
def test_no_row_is_wider_than_the_terminal(name: str, step: str, width: int, height: int) -> None:
    board = Board(color=False)
    for number in range(8):
        board.take(event("task.progressed", id=f"{name}{number}", kind=name, detail={"step": step}))
    rows = board.rows(width, height)
    assert len(rows) == height
    assert all(cell_len(row) <= width for row in rows)
    assert not FORBIDDEN.search("".join(rows))
    line = board.line(event("task.failed", "failed", name, error={"message": step}), width)
    assert cell_len(line) <= width
    assert not FORBIDDEN.search(line)


def test_a_task_is_a_row_until_it_is_over() -> None:
    """Then a line, with how long it took and why it failed."""
    board = Board(color=False)
    assert not board.take(event("task.queued", "queued", "2", progress=0))
    assert not board.take(event("task.progressed", progress=40, detail={"step": "decoding"}))
    wide = board.rows(130, 10)
    assert [row.split()[2] for row in wide] == ["1", "2"]  # what runs comes first
    assert "decoding" in wide[0]
    assert " 40% running" in wide[0]
    assert board.rows(130, 1) == ["… and 2 more"]
    failed = event("task.failed", "failed", completed_at="2026-01-01T00:01:05Z", error={"message": "no\x1b[2J luck"})
    assert board.take(failed)
    assert (
        board.line(failed)
        == "00:00:10  ✗ task.failed           studio      k                     1  in 1 min 5 s  no\ufffd[2J luck"
    )
    assert len(board.rows(130, 10)) == 1
    assert not board.take(event("task.snapshot", "succeeded"))


def test_tasks_without_progress_are_lines() -> None:
    """A Catalyst task has no status to draw; a notice of a source is a line as well."""
    board = Board(color=False)
    assert board.take(event("task.owner_added", "unknown"))
    notice = Event("e", "source.gap", "/mainstem", "2026-01-01T00:00:10Z", 1,
                   {"source": "ops", "endpoint": "/p", "from": "a", "to": "b", "recovered": False}, "ops")  # fmt: skip
    assert board.take(notice)
    assert board.line(notice) == "00:00:10    source.gap            ops  /p  from a to b, not recovered"
    assert board.rows(80, 5) == []


def test_the_board_is_bounded() -> None:
    board = Board(color=False)
    for number in range(MOST + 5):
        board.take(event("task.progressed", id=str(number)))
    assert board.rows(80, 1) == [f"… and {MOST} more"]


def test_the_screen_gives_the_terminal_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines scroll above the rows; at the end the rows are gone and the cursor is seen."""
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "5")
    stream = StringIO()
    stream.fileno = lambda: (_ for _ in ()).throw(OSError())  # type: ignore[method-assign]
    rows = ["r1", "r2"]
    made = screen.Screen(stream, lambda width, height: [*rows, f"{width}x{height}"])
    made.draw()
    made.add("line")
    rows.pop()
    made.draw()
    made.close()
    made.close()
    begin, end = "\x1b[?2026h\x1b[?7l", "\x1b[?7h\x1b[?2026l"
    assert stream.getvalue() == (
        f"\x1b[?25l{begin}\rr1\nr2\n19x4\n{end}{begin}\x1b[3A\x1b[Jline\nr1\n19x4\n{end}\x1b[2A\x1b[J\x1b[?25h\r\x1b[?25h"
    )


@pytest.mark.parametrize(
    ("environ", "color", "terminal"),
    [
        ({}, True, True),
        ({"NO_COLOR": "1"}, False, True),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_what_a_terminal_can(environ: dict[str, str], color: bool, terminal: bool) -> None:
    stream = StringIO()
    assert not screen.is_terminal(stream, environ)
    stream.isatty = lambda: True  # type: ignore[method-assign]
    assert screen.is_terminal(stream, environ) == terminal
    assert screen.wants_color(stream, environ) == color


# --- the command -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def tail(*arguments: str, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "tail", *arguments, **{"stdout": asyncio.subprocess.PIPE, **options}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 30)).decode()


async def test_json_goes_on_through_a_restart_and_ends_with_its_reader(tmp_path: Path) -> None:
    """Event for event what the log has, flushed one by one; a reader that leaves ends it quietly."""
    async with Upstream().running() as upstream, gateway(tmp_path, upstream) as house:
        await upstream.say(2)
        arguments = ("--json", "--url", house.url, "--type", "task.progressed", "--after", "0")
        async with tail(*arguments, stderr=asyncio.subprocess.PIPE) as process:
            lines = [await line_of(process) for _ in range(2)]
            await house.stop()
            await house.start()
            await upstream.say(1)
            lines.append(await line_of(process))
            logged = [event for event in await log_of(house.url) if event["type"] == "task.progressed"]
            assert [json.loads(line) for line in lines] == logged
            process.stdout._transport.close()  # type: ignore[union-attr]
            await upstream.say(2)
            code = await asyncio.wait_for(process.wait(), 30)
            assert process.stderr is not None
            errors = (await process.stderr.read()).decode()
    assert code == 1
    assert "Traceback" not in errors
    assert "trying again in" in errors


async def test_since_a_moment(tmp_path: Path) -> None:
    """What was received since then, and nothing before; plain lines where there is no terminal; SIGTERM ends it well."""
    async with Upstream().running() as upstream, gateway(tmp_path, upstream) as house:
        await upstream.say(20)
        async with asyncio.timeout(20):
            while len([each for each in await log_of(house.url) if each["type"] == "task.progressed"]) < 20:
                await asyncio.sleep(0.02)
        before = time.time()
        await upstream.say(3)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before)) + f".{int(before % 1 * 1e6):06d}Z"
        async with tail("--url", house.url, "--since", moment, "--type", "task.*") as process:
            lines = [await line_of(process) for _ in range(3)]
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 30) == 0
    assert [line.split()[-1] for line in lines] == ["21%", "22%", "23%"]
    assert not FORBIDDEN.search("".join(lines))


@pytest.mark.parametrize(("lines", "columns", "width"), [(6, 48, 48), (0, 0, 80)])
async def test_bars_in_a_terminal(tmp_path: Path, lines: int, columns: int, width: int) -> None:
    """A narrow terminal, or one that does not say its size: rows fit, nothing but our own sequences is sent, Ctrl-C gives the
    cursor back."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    seen = bytearray()
    drawn = asyncio.Event()

    def read() -> None:
        try:
            seen.extend(os.read(master, 65536))
        except OSError:
            asyncio.get_running_loop().remove_reader(master)
        if b"running" in seen:
            drawn.set()

    try:
        async with Upstream().running() as upstream, gateway(tmp_path, upstream) as house:
            await upstream.say(1)
            asyncio.get_running_loop().add_reader(master, read)
            env = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "0", "LINES": "0"}
            async with tail("--url", house.url, stdout=slave, stdin=slave, env=env) as process:
                await asyncio.wait_for(drawn.wait(), 30)
                process.send_signal(signal.SIGINT)
                assert await asyncio.wait_for(process.wait(), 30) == 0
            asyncio.get_running_loop().remove_reader(master)
            os.set_blocking(master, False)
            with contextlib.suppress(BlockingIOError):  # everything may have been read before
                seen.extend(os.read(master, 65536))
    finally:
        os.close(master)
        os.close(slave)
    output = seen.decode()
    (row,) = {line for line in re.split(r"[\r\n]+", output) if line.rstrip().endswith("running")} or {""}
    assert "job-1 " in row
    assert output.endswith("\x1b[?25h")
    rest = re.sub(r"\x1b\[(\?(2026|7|25)[hl]|\d+A|J)", "", output)
    assert "\x1b" not in rest
    assert width - 10 < max(map(cell_len, rest.replace("\r", "\n").split("\n"))) < width


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--url", "nope"], "--url: must be like http://127.0.0.1:8080"),
        (["--after", "x"], "--after: a position is"),
        (
            ["--status", "failed,bogus"],
            "'--status': no task has the status 'bogus'; known: pending, queued, dispatched, ",
        ),
        (["--status", ""], "'--status': an empty value matches nothing"),
        (
            ["--type", "task.suceeded"],
            "'--type': no event has the type 'task.suceeded'; did you mean 'task.succeeded'?",
        ),
        (["--type", "tsk.*"], "'--type': no event has a type that begins with 'tsk.'"),
        (["--type", "a*b"], "'--type': 'a*b': only a final * is a wildcard"),
        (["--task", "t1"], "'--task': 't1' is no task key: these are <source name>/<task id>"),
        (["--since", "x"], "how long ago"),
        (["--since", "1m", "--after", "1"], "use one"),
    ],
)
def test_usage(arguments: list[str], problem: str) -> None:
    result = CliRunner().invoke(cli.main, ["tail", *arguments], catch_exceptions=False)
    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.split())


async def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    """And exit code 1."""
    async with (
        Upstream().running() as upstream,
        gateway(tmp_path, upstream) as house,
        tail("--url", f"{house.url}/nowhere", stderr=asyncio.subprocess.PIPE) as process,
    ):
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert errors == b"mainstem: there is no gateway at this URL: HTTP 404\n"


@pytest.mark.parametrize("arguments", [[], ["--since", "1h"]])
async def test_where_a_refused_token_came_from(arguments: list[str], tmp_path: Path) -> None:
    """Said of the stream and of the log alike; the token is not."""
    async with running(write(tmp_path, auth=AUTH)) as url:
        for options, environ, said in (
            (["--token", "canary"], {}, "refuses the token from --token: "),
            ([], {"MAINSTEM_TOKEN": "canary"}, "refuses the token from MAINSTEM_TOKEN: "),
            ([], {}, "asks for a token: set MAINSTEM_TOKEN, or name its configuration with -c"),
        ):
            env = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")} | environ
            async with tail("--url", url, *arguments, *options, stderr=asyncio.subprocess.PIPE, env=env) as process:
                _, errors = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == 1
            assert errors.decode().startswith(f"mainstem: {url} {said}")
            assert errors.count(b"\n") == 1
            assert b"canary" not in errors


async def test_a_configuration_says_where_and_lets_in(tmp_path: Path) -> None:
    """With a token made for the purpose; nothing else of the file matters."""
    async with Upstream().running() as upstream:
        source = {"name": "jobs", "adapter": "emit", "token": "t", "spaces": ["s"]}
        source["url"] = upstream.url.replace("http", "ws")
        async with running(write(tmp_path, auth=AUTH, sources=[source])) as url:
            entrance = {"server": {"port": int(url.rpartition(":")[2])}, "auth": AUTH, "sources": "${UNSET}"}
            path = tmp_path / "entrance.yaml"
            path.write_text(json.dumps(entrance))
            for beginning in (("--since", "1h"), ("--after", "0")):
                async with tail("-c", str(path), *beginning, "--type", "source.connected") as process:
                    assert "source.connected" in await line_of(process)
