"""schemathesis against a started gateway: whatever is sent, it answers as `/openapi.json` says, and never with a 500."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jwt

from gateway import simulators
from gateway.app import Gateway
from gateway.config import Settings

SECRET = "a-secret-of-the-tests-of-32-bytes-or-more"
#: What no schema can say: which positions, cursors, addresses, secrets and creation responses there are, so that a valid one
#: may be refused; and
#: that every text of a query is a filter, and an empty parameter is none, so that hardly any query is not valid.
CONFIGURATION = """
[[operations]]
include-name = [
  "GET /v1/tasks", "GET /v1/events", "POST /v1/watches", "POST /v1/webhooks", "PATCH /v1/webhooks/{name}",
  "POST /v1/webhooks/{name}/replay", "POST /v1/webhooks/{name}/rotate-secret", "GET /v1/webhooks/{name}/deliveries",
]
checks.positive_data_acceptance.enabled = false

[[operations]]
include-name = ["GET /v1/tasks", "GET /v1/events", "GET /v1/webhooks/{name}/deliveries"]
checks.negative_data_rejection.enabled = false
"""

#: Seconds that a run may take; it ends by itself long before.
PATIENCE = 110

#: Endless answers cannot be fuzzed.
NOT_ASKED = ["--exclude-path", "/v1/stream"]


@asynccontextmanager
async def gateway(directory: Path, **auth: Any) -> AsyncIterator[str]:
    """The URL of a gateway with a live upstream, so that there are tasks, events and watches."""
    upstream = await simulators.start("triverse", seed=3, rate=5, life=3.0)
    source = {
        "name": "studio", "adapter": "triverse", "url": upstream.url, "token": upstream.credentials["token"], "catch_up": "1h",
    }  # fmt: skip
    hook = {
        "name": "hook", "url": "http://127.0.0.1:9/", "secret": "whsec_" + "AAAA" * 8, "allow_private": True, "enabled": False,
    }  # fmt: skip
    settings = Settings.model_validate(
        {
            "server": {"port": 0, "drain_timeout": 1}, "auth": auth, "store": {"url": "sqlite:///x.db"},
            "sources": [source], "webhooks": [hook],
        },
        context={"directory": directory},
    )  # fmt: skip
    running = Gateway(settings)
    try:
        await running.start()
        yield running.server.url
    finally:
        await running.stop()
        await upstream.stop()


async def fuzz(url: str, directory: Path, *options: str) -> None:
    """One run with a fixed seed. Fails with what schemathesis says."""
    document = directory / "openapi.json"
    headers = dict(option.split(": ", 1) for option in options if ": " in option)
    async with aiohttp.ClientSession() as session, session.get(f"{url}/openapi.json", headers=headers) as answer:
        document.write_text(json.dumps(await answer.json()))
    (directory / "schemathesis.toml").write_text(CONFIGURATION)
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", url, "--seed", "1", "--workers", "1",
        "--max-examples", "40", "--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--no-color",
        "--suppress-health-check", "all", "--warnings", "off", "--max-failures", "5", "--max-time", "15", *NOT_ASKED, *options,
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(PATIENCE):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()[-20_000:]


async def test_without_tokens(tmp_path: Path) -> None:
    """Mode none: what is said of tokens does not apply."""
    async with gateway(tmp_path, mode="none") as url:
        await fuzz(url, tmp_path, "--exclude-checks", "ignored_auth")


async def test_with_a_token(tmp_path: Path) -> None:
    """And without one, nothing is let through."""
    token = jwt.encode({"scope": "admin", "exp": 4_000_000_000}, SECRET, algorithm="HS256")
    async with gateway(tmp_path, secret=SECRET) as url:
        await fuzz(url, tmp_path, "-H", f"Authorization: Bearer {token}")
