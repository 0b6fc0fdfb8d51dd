"""`mainstem listen`: what it verifies, what it answers, and that what it prints can be pasted."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from standardwebhooks import Webhook

from gateway import cli, simulators
from gateway.commands.verification import Unverified, verify
from gateway.webhooks import signing
from tests.e2e.kit import QUICK, SECRET, write
from tests.process import running

KEY = signing.decode_secret(SECRET)
NOW = 1735689600
OTHER = bytes(range(40))


def headers(body: bytes, *keys: bytes, at: int = NOW) -> dict[str, str]:
    return {
        "webhook-id": "e1",
        "webhook-timestamp": str(at),
        "webhook-signature": signing.sign(keys or [KEY], "e1", at, body),
    }


@given(st.binary(), st.lists(st.sampled_from([OTHER, bytes(32)]), max_size=2))
def test_accepts_what_holds_a_fitting_signature(body: bytes, others: list[bytes]) -> None:
    """Among any number of others, in any place."""
    verify(KEY, headers(body, *others, KEY), body, NOW)
    verify(KEY, headers(body, KEY, *others), body, NOW)


@given(st.text(st.characters(codec="utf-8")))
def test_accepts_what_the_reference_library_signs(value: str) -> None:
    body = json.dumps({"s": value})
    signature = Webhook(SECRET).sign("e1", datetime.fromtimestamp(NOW, UTC), body)
    verify(KEY, {**headers(b""), "webhook-signature": signature}, body.encode(), NOW)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"webhook-id": ""}, "no header webhook-id"),
        ({"webhook-id": "e2"}, "no signature fits"),
        ({"webhook-timestamp": str(NOW + 1)}, "no signature fits"),
        ({"webhook-timestamp": "1e9"}, "not a number"),
        ({"webhook-timestamp": "٣"}, "not a number"),
        ({"webhook-timestamp": str(NOW - 301)}, "301 s in the past"),
        ({"webhook-timestamp": str(NOW + 301)}, "301 s in the future"),
        ({"webhook-signature": "v2,abc"}, "no v1 signature"),
        ({"webhook-signature": "v1,"}, "no signature fits"),
        ({"webhook-signature": "v1,é v1,x"}, "no signature fits"),
        ({"webhook-signature": "v1,\udcff"}, "webhook-signature is not UTF-8"),
        ({"webhook-id": "\udc80"}, "webhook-id is not UTF-8"),
        ({"webhook-timestamp": "\udc80"}, "webhook-timestamp is not UTF-8"),
    ],
)
def test_refuses_everything_else(changes: dict[str, str], why: str) -> None:
    with pytest.raises(Unverified, match=why):
        verify(KEY, {**headers(b"x"), **changes}, b"x", NOW)


def test_refuses_another_body_and_another_key() -> None:
    for body, key in ((b"y", KEY), (b"x", OTHER)):
        with pytest.raises(Unverified, match="no signature fits"):
            verify(key, headers(b"x"), body, NOW)


# --- the command -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, str]]:
    """The process, its URL, and what it says first."""
    environ = {name: value for name, value in os.environ.items() if name != "MAINSTEM_WEBHOOK_SECRET"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "listen", "--port", "0", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environ,
    )  # fmt: skip
    try:
        said = await until(process.stderr if "--json" in arguments else process.stdout, "Ctrl-C ends it.")
        yield process, re.findall(r"http://\S+/hooks", said)[0], said
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(stream: asyncio.StreamReader | None, words: str) -> str:
    """What a stream says up to a line with these words."""
    assert stream is not None
    said = ""
    async with asyncio.timeout(30):
        while words not in said:
            line = await stream.readline()
            assert line, said
            said += line.decode()
    return said


async def test_what_it_prints_can_be_pasted(tmp_path: Path) -> None:
    """A generated secret, in a configuration: an event of a started gateway arrives, verified; SIGTERM ends it well."""
    async with listening() as (process, _, said), await simulators.start("triverse", rate=0) as upstream:
        section = re.findall(r"^webhooks:\n(?:  .*\n)+", said, re.MULTILINE)[0]
        webhooks = YAML(typ="safe").load(section)["webhooks"]
        source = {"name": "studio", "adapter": "triverse", "url": upstream.url, "token": upstream.credentials["token"]}
        async with running(write(tmp_path, sources=[{**source, **QUICK}], webhooks=webhooks)):
            await upstream.wait_connection()
            task = upstream.create_task(status="RUNNING", progress=5)
            told = await until(process.stdout, task.uuid)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    assert "task.started" in told
    assert "[verified, answered 204]" in told
    curl = re.findall(r"-d '(.*)'$", said, re.MULTILINE)[0]
    assert json.loads(curl) == webhooks[0]


async def post(url: str, body: bytes, **changes: str) -> int:
    now = int(datetime.now(UTC).timestamp())
    sent = {**headers(body, at=now), **changes}
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=sent) as answer:
        return answer.status


async def test_plays_a_bad_receiver() -> None:
    """A status that was asked for, attempts counted; what is not verified is 401 whatever was asked for, and says why."""
    event = json.dumps({"type": "source.gap", "id": "e1", "source": "/mainstem", "time": "2026-01-01T00:00:00Z",
                        "sequence": "1", "data": {"source": "a\x1b[2J"}}).encode()  # fmt: skip
    async with listening("--secret", SECRET, "--status", "500") as (process, url, said):
        assert SECRET not in said
        assert await post(url, event) == 500
        assert await post(url, event) == 500
        assert await post(url, event, **{"webhook-timestamp": "1"}) == 401
        assert await post(url, b"\xff") == 400
        assert await post(url, b"signed, and no event\x1b") == 500
        told = await until(process.stdout, "no event")
    assert "\x1b" not in told
    lines = told.strip().splitlines()
    assert lines[0].endswith("[verified, answered 500]")
    assert lines[1].endswith("[verified, attempt 2, answered 500]")
    assert "refused with 401: webhook-timestamp is " in lines[2]
    assert lines[3] == "refused with 400: signed, and not UTF-8"
    assert lines[4] == "signed, and no event\ufffd  [verified, attempt 3, answered 500; not an event of Mainstem]"


async def raw(url: str, body: bytes, **headers: bytes) -> bytes:
    """The status line of the answer to a request whose headers are any bytes: clients refuse to send such."""
    host, port = url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [b"POST /hooks HTTP/1.1", b"Host: x", b"Connection: close", b"Content-Length: %d" % len(body)]
    lines += [name.replace("_", "-").encode() + b": " + value for name, value in headers.items()]
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
    async with asyncio.timeout(30):
        answer = await reader.readline()
    writer.close()
    return answer


async def rest(process: asyncio.subprocess.Process) -> list[str]:
    """Ends it; the lines that it has said since, none of them on stderr."""
    process.send_signal(signal.SIGINT)
    out, error = await asyncio.wait_for(process.communicate(), 30)
    assert error == b""
    return out.decode().strip().splitlines()


async def test_bytes_that_are_no_text_are_not_verified() -> None:
    """A header may hold any byte, and nobody has signed: 401 as for every other forgery, and no traceback."""
    async with listening("--secret", SECRET) as (process, url, _):
        now = str(int(datetime.now(UTC).timestamp())).encode()
        good = {"webhook_id": b"e1", "webhook_timestamp": now, "webhook_signature": b"v1,AAAA"}
        for name in good:
            answer = await raw(url, b"{}", **{**good, name: b"v1,\xff"})
            assert answer.startswith(b"HTTP/1.1 401 "), (name, answer)
        assert await rest(process) == [f"refused with 401: {name.replace('_', '-')} is not UTF-8" for name in good]


NO_EVENTS = [
    b"[" * 5000,
    b'{"a":' * 5000,
    b'{"type":"source.gap","id":"e","source":"/m","time":"t","sequence":1e400,"data":{}}',
    b'{"type":"source.gap","id":"e","source":"/m","time":"t","sequence":"1","data":[]}',
    b'{"type":"task.started","id":"e","source":"/m","time":"t","sequence":"1","data":{"task":{"key":"k","id":"i",'
    b'"source":"s","adapter":"a","status":[]}}}',
    b'{"type":"task.started","id":"e","source":"/m","time":"t","sequence":"1","data":{"task":{"key":"k","id":"i",'
    b'"source":"s","adapter":"a","status":"running","progress":1' + b"0" * 400 + b"}}}",
    b'{"type":"\\ud800\\u001b[2J","id":"e","source":"/m","time":"t","sequence":"1","data":{"source":"\\udc00"}}',
]


async def test_whatever_is_signed_is_shown() -> None:
    """Who has the secret can sign anything: it is verified and answered as asked, and called what it is."""
    async with listening("--secret", SECRET, "--no-color") as (process, url, _):
        for body in NO_EVENTS:
            assert await post(url, body) == 204
        told = await rest(process)
    assert "\x1b" not in "".join(told)
    assert [line.endswith("; not an event of Mainstem]") for line in told] == [True] * (len(NO_EVENTS) - 1) + [False]


async def test_json_is_for_the_next_program() -> None:
    """One event a line and nothing else; when that program ends, so does this one, and the sender is told to come again."""
    body = b'{"a":"\xc2\x9b"}'
    async with listening("--json", "--secret", SECRET, "--fail-rate", "1") as (process, url, _):
        assert await post(url, body) == 503
        assert await until(process.stdout, "\n") == '{"a":"\\u009b"}\n'
        process.stdout._transport.close()  # type: ignore[union-attr]
        answers: list[Any] = []
        async with asyncio.timeout(30):
            while process.returncode is None:
                try:
                    answers.append(await post(url, body))
                except aiohttp.ClientError:
                    break
            await process.wait()
        assert process.stderr is not None
        assert b"Traceback" not in await process.stderr.read()
    assert set(answers) <= {503}


def test_refuses_a_secret_that_is_none() -> None:
    """Without repeating it."""
    result = CliRunner().invoke(cli.main, ["listen", "--secret", "whsec_canary"], catch_exceptions=False)
    assert result.exit_code == 2
    assert "canary" not in result.stderr
