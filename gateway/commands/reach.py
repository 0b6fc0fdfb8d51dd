"""`mainstem check --connect`: whether every upstream lets the gateway in, and every webhook's host can be reached.

Uses the gateway's own client and adapters, so that what works here works there. Sends no delivery, keeps no connection, and
shows no secret: of a webhook's URL the host alone, of an upstream's the path.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import click
import yarl

from adapters import registry
from adapters.api import Adapter, Fault, Finished, Observation, Resume, Stream
from gateway.clock import SystemClock
from gateway.commands import text
from gateway.config import Settings
from gateway.telemetry import Scrubber
from gateway.upstream.client import Answer, Client
from gateway.upstream.connection import Connection
from gateway.upstream.limits import Limits
from gateway.upstream.repair import NOT_OFFERED
from gateway.webhooks import guard
from gateway.webhooks.config import EndpointConfig
from schemas import rfc3339

#: Checks at once; streams of one source that are tried; seconds in which an upstream may think better of a handshake.
_AT_ONCE, _STREAMS, _GRACE = 8, 5, 1.5
#: A task that no upstream has.
_NOBODY = "00000000-0000-4000-8000-000000000000"

Mark = Literal["ok", "warning", "wrong", "skipped"]
_COLORS = {"ok": "green", "warning": "yellow", "wrong": "red", "skipped": None}


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of trying one thing."""

    who: str
    what: str
    mark: Mark
    words: str


async def run(settings: Settings, timeout: float) -> int:
    """Tries everything, prints a table; the exit code: 1 where something is wrong.

    Args:
        settings: a valid configuration.
        timeout: seconds for each thing that is tried.
    """
    turn = asyncio.Semaphore(_AT_ONCE)

    async def bounded(who: str, what: str, work: Awaitable[Finding]) -> Finding:
        async with turn:
            try:
                async with asyncio.timeout(timeout):
                    return await work
            except TimeoutError:
                return Finding(who, what, "wrong", f"no answer within {timeout:g} s")

    clients: list[Client] = []
    try:
        tries = [bounded(who, what, work) for who, what, work in _tries(settings, timeout, clients)]
        findings = await asyncio.gather(*tries)
    finally:
        for client in clients:
            await client.close()
    _print(findings, Scrubber(settings.secrets()))
    return 1 if any(finding.mark == "wrong" for finding in findings) else 0


def _tries(settings: Settings, timeout: float, clients: list[Client]) -> Iterator[tuple[str, str, Awaitable[Finding]]]:
    for source in settings.sources:
        who = f"source {source.name}"
        if not source.enabled:
            yield who, "", _skip(who, "", "is disabled")
            continue
        adapter = registry.load(source.adapter)(source)
        client = Client(SystemClock(), Limits(connect=timeout, request=timeout))
        clients.append(client)
        streams = adapter.streams()
        for stream in streams[:_STREAMS]:
            yield who, stream.path, _try_stream(who, adapter, client, stream)
        if len(streams) > _STREAMS:
            yield who, "", _skip(who, "", f"{len(streams) - _STREAMS} more streams are not tried")
        if not streams:
            yield who, "", _skip(who, "", "watches nothing until it is asked to")
        yield who, "REST", _try_rest(who, adapter, client, streams)
    for endpoint in settings.webhooks:
        who, what = f"webhook {endpoint.name}", yarl.URL(endpoint.url).host or ""
        work = _try_webhook(who, what, endpoint) if endpoint.enabled else _skip(who, what, "is disabled")
        yield who, what, work


async def _skip(who: str, what: str, words: str) -> Finding:
    return Finding(who, what, "skipped", words)


async def _try_stream(who: str, adapter: Adapter[Any], client: Client, stream: Stream) -> Finding:
    ticket: bytes | None = None
    if (request := adapter.authorize(stream)) is not None:
        answer = await client.get(request)
        if not isinstance(answer, Answer):
            return Finding(who, request.endpoint, "wrong", f"authorization: {answer.error}")
        ticket = answer.body
    try:
        session = adapter.open(stream, Resume(first=True, now=rfc3339.render(SystemClock.now())), ticket)
    except ValueError:
        # its text may quote the answer, and that is a credential
        return Finding(who, stream.path, "wrong", "the answer to the authorization request is not understood")
    connection = await client.connect(session.request(), ping_interval=adapter.config.ping_interval)
    if not isinstance(connection, Connection):
        words = f"handshake: {connection.error}"
        if connection.status is not None and adapter.refusal(connection.status) == "refused":
            words += ": url or credentials refused"
        return Finding(who, stream.path, "wrong", words)
    try:
        async with asyncio.timeout(_GRACE):
            while (frame := await connection.receive()) is not None:
                for item in session.on_frame(frame):
                    match item:
                        case Fault(code, message):
                            return Finding(who, stream.path, "wrong", f"{code}: {message}")
                        case Observation() | Finished():
                            return Finding(who, stream.path, "ok", "connected, and it speaks")
                        case _:
                            continue
    except TimeoutError:
        return Finding(who, stream.path, "ok", "connected")
    finally:
        await connection.close()
    closed = connection.closed
    return Finding(who, stream.path, "wrong", closed.error if closed is not None else "connection lost")


async def _try_rest(who: str, adapter: Adapter[Any], client: Client, streams: list[Stream]) -> Finding:
    """What repairs an outage. An upstream without it, or a key that it does not take, leaves gaps, and works otherwise."""
    listings = (adapter.listing(stream, 0) for stream in streams)
    request = next((request for request in listings if request is not None), None) or adapter.lookup(_NOBODY)
    if request is None:
        return Finding(who, "REST", "skipped", "this upstream has none")
    answer = await client.get(request)
    if isinstance(answer, Answer):
        return Finding(who, request.origin, "ok", "answers")
    match answer.status:
        case 401 | 403:
            words = f"refuses the credentials (HTTP {answer.status}): what an outage hid cannot be looked up"
            return Finding(who, request.origin, "warning", words)
        case 404:
            return Finding(who, request.origin, "ok", "answers")
        case status if status in NOT_OFFERED:
            return Finding(
                who,
                request.origin,
                "warning",
                f"is not offered (HTTP {status}): what an outage hid cannot be looked up",
            )
        case _:
            return Finding(who, request.origin, "wrong", answer.error)


async def _try_webhook(who: str, what: str, endpoint: EndpointConfig) -> Finding:
    """Name, address guard, TCP and TLS, of every address until one works, as for a delivery."""
    url = yarl.URL(endpoint.url)
    plain = endpoint.private_only
    if why := guard.host_objection(what, allow_private=endpoint.allow_private, plain=plain):
        return Finding(who, what, "wrong", f"address refused: {why}")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(what, url.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        return Finding(who, what, "wrong", "the host name could not be resolved")
    problem = "the host name has no address"
    for *_, where in found:
        address = str(where[0])
        if why := guard.objection(address, allow_private=endpoint.allow_private, plain=plain):
            problem = f"address refused: {address}: {why}"
            continue
        try:
            words = await _knock(address, url)
        except ssl.SSLError as error:
            problem = f"TLS: {getattr(error, 'verify_message', None) or error.reason or 'handshake failed'}"
        except OSError as error:
            words = os.strerror(error.errno) if error.errno else type(error).__name__
            problem = f"{address}: no connection: {words}"
        else:
            return Finding(who, what, "ok", f"{address}: {words}")
    return Finding(who, what, "wrong", problem)


async def _knock(address: str, url: yarl.URL) -> str:
    """Connects and hangs up. What was agreed on, in words.

    Raises:
        OSError: no connection, or no TLS.
    """
    context = ssl.create_default_context() if url.scheme == "https" else None
    _, writer = await asyncio.open_connection(
        address, url.port, ssl=context, server_hostname=url.raw_host if context else None
    )
    tls = writer.get_extra_info("ssl_object")
    writer.transport.abort()
    return "connected" if tls is None else f"connected, {tls.version()}"


def _print(findings: list[Finding], scrubber: Scrubber) -> None:
    rows = [(finding.who, text.cut(finding.what, 60), finding) for finding in findings]
    widths = [max((len(row[index]) for row in rows), default=0) for index in (0, 1)]  # type: ignore[arg-type]
    for who, what, finding in rows:
        mark = click.style(f"{finding.mark:<7}", fg=_COLORS[finding.mark])
        line = f"{who:<{widths[0]}}  {what:<{widths[1]}}  {mark}  {text.plain(scrubber.text(finding.words))}"
        click.echo(line.rstrip(), file=sys.stdout, color=False if os.environ.get("NO_COLOR") else None)
