"""A started `mainstem run`, as a user would start it, for tests over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any


class Process:
    """One run of the gateway. `lines` are its log lines so far, decoded."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[dict[str, Any]] = []
        self.output: list[str] = []
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read(), name="process-output")

    @classmethod
    async def start(cls, config: Path, env: Mapping[str, str] | None = None) -> Process:
        """Runs `mainstem run -c config`; output is JSON lines by the configuration's default."""
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", "run", "-c", str(config),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=dict(env or os.environ),
            )
        )  # fmt: skip

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line = raw.decode()
            async with self._news:
                self.output.append(line)
                if line.startswith("{"):
                    self.lines.append(json.loads(line))
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    async def logged(self, event: str, timeout: float = 30, *, after: int = 0) -> dict[str, Any]:
        """The first log line of an event, `after` so many lines, once there is one."""

        def found() -> dict[str, Any] | None:
            return next((line for line in self.lines[after:] if line["event"] == event), None)

        async with asyncio.timeout(timeout), self._news:
            await self._news.wait_for(lambda: found() is not None or self._reader.done())
        line = found()
        assert line is not None, f"the gateway ended without {event}:\n{''.join(self.output)}"
        return line

    async def url(self) -> str:
        """Where it listens, once it does."""
        return str((await self.logged("gateway_started"))["url"])

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    async def ended(self, timeout: float = 30) -> int:
        """Its exit code, once it has ended."""
        async with asyncio.timeout(timeout):
            code = await self._process.wait()
        await self._reader
        return code

    async def kill(self) -> None:
        """Ends it at once, as a crash would. Idempotent."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reader


@asynccontextmanager
async def running(config: Path, env: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """The base URL of a gateway that runs for as long as the block does."""
    process = await Process.start(config, env)
    try:
        yield await process.url()
    finally:
        await process.kill()
