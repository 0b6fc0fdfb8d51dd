"""`mainstem listen`: a receiver of webhooks on this machine, to see what is sent, and what becomes of it when it is refused."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from gateway.errors import CannotListen

if TYPE_CHECKING:
    from aiohttp import web

    from gateway.webhooks.signing import Key

#: Deliveries whose attempts are counted, and bytes of the longest body.
_REMEMBERED, _LONGEST = 10_000, 64 << 20


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="0 takes a free one.")
@click.option(
    "--secret",
    envvar="MAINSTEM_WEBHOOK_SECRET",
    show_envvar=True,
    help="whsec_... or whsk_...; a new one by default, which is printed.",
)
@click.option("--status", type=click.IntRange(200, 599), default=204, show_default=True, help="What to answer.")
@click.option("--fail-rate", type=click.FloatRange(0, 1), default=0.0, help="Share of deliveries answered with 503.")
@click.option(
    "--tolerance", type=click.FloatRange(min=1), default=300.0, show_default=True, help="Of the timestamp, in s."
)
@click.option(
    "--json", "as_json", is_flag=True, help="One verified event a line on standard output, the rest on stderr."
)
@click.option("--no-color", is_flag=True, help="No colours; so does the variable NO_COLOR.")
@click.pass_context
def listen(ctx: click.Context, /, secret: str | None, **options: Any) -> None:
    """Receive webhooks: verify each signature, show each event, answer as told, until Ctrl-C."""
    from secrets import token_bytes

    from gateway import telemetry
    from gateway.commands import program
    from gateway.webhooks import signing

    shown = '"${MAINSTEM_WEBHOOK_SECRET}"'
    if secret is None:
        secret = signing.encode_secret(token_bytes(32))
        shown = json.dumps(secret)
    try:
        key = signing.decode_secret(secret)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--secret") from None
    telemetry.configure("warning", "console", [secret], stream=sys.stderr)
    ctx.exit(program.execute(lambda: program.until_signal(_listen(key, shown, **options))))


async def _listen(
    key: Key, secret: str, *, host: str, port: int, as_json: bool, no_color: bool, status: int, fail_rate: float,
    tolerance: float,
) -> int:  # fmt: skip
    from aiohttp import web

    show = _Show(as_json, no_color)
    receiver = Receiver(
        key, show, status=status, fail_rate=fail_rate, tolerance=tolerance, chance=random.random, now=time.time
    )
    app = web.Application(client_max_size=_LONGEST)
    app.router.add_post("/{path:.*}", receiver.receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise CannotListen(host, port, error) from None
        where, number = runner.addresses[0][:2]
        show.words(_introduction(f"http://{f'[{where}]' if ':' in where else where}:{number}/hooks", secret))
        await receiver.broken()
    finally:
        await runner.cleanup()
    return 0


def _introduction(url: str, secret: str) -> str:
    body = '{"name": "listen", "url": "%s", "secret": %s, "allow_private": true}'
    return f"""webhook receiver at {url}

for a configuration file:

webhooks:
  - name: listen
    url: "{url}"
    secret: {secret}
    allow_private: true

or while the gateway runs:

curl -X POST http://127.0.0.1:8080/v1/webhooks -H "Authorization: Bearer $MAINSTEM_TOKEN" \\
  -H 'Content-Type: application/json' -d {_quoted(body % (url, secret))}

Ctrl-C ends it.
"""


def _quoted(text: str) -> str:
    """For a shell; variables are filled in by it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if "${" in text else f"'{text}'"


class _Show:
    """Where lines go: events to standard output, in `--json` alone there."""

    def __init__(self, as_json: bool, no_color: bool) -> None:
        import os

        from gateway.commands import screen
        from gateway.commands.board import Board

        self.as_json = as_json
        self.board = Board(color=not no_color and screen.wants_color(sys.stdout, os.environ))

    def words(self, words: str) -> None:
        """For people."""
        stream = sys.stderr if self.as_json else sys.stdout
        stream.write(f"{words}\n")
        stream.flush()

    def event(self, body: str, words: str) -> None:
        """A verified delivery: the event as it came, and what was done with it."""
        from gateway.commands import text
        from mainstem_client import event as events

        if self.as_json:
            sys.stdout.write(f"{text.json_line(body)}\n")
            sys.stdout.flush()
            return
        try:
            line = self.board.line(events.parse(body))
        except (ValueError, TypeError, AttributeError, OverflowError):  # whoever has the secret can sign anything
            line, words = text.cut(body, 200), f"{words}; not an event of Mainstem"
        self.words(f"{line}  [{words}]")


class Receiver:
    """Answers deliveries.

    Args:
        key: the decoded secret.
        show: who is told.
        status: the answer to a verified delivery.
        fail_rate: share of verified deliveries that are answered with 503 instead.
        tolerance: seconds by which a timestamp may be off.
        chance: random numbers from 0 to 1.
        now: seconds since 1970, UTC.
    """

    def __init__(
        self,
        key: Key,
        show: _Show,
        *,
        status: int,
        fail_rate: float,
        tolerance: float,
        chance: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._key = key
        self._show = show
        self._status = status
        self._fail_rate = fail_rate
        self._tolerance = tolerance
        self._chance = chance
        self._now = now
        self._attempts: OrderedDict[str, int] = OrderedDict()
        self._trouble: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def broken(self) -> None:
        """Raises once what is shown cannot be written any more; returns never."""
        await self._trouble

    async def receive(self, request: web.Request) -> web.Response:
        """One delivery."""
        from aiohttp import web

        body = await request.read()
        try:
            status = self._judge({name.lower(): value for name, value in request.headers.items()}, body)
        except OSError as error:  # standard output is gone: nobody looks any more
            if not self._trouble.done():
                self._trouble.set_exception(error)
            status = 503
        return web.Response(status=status)

    def _judge(self, headers: dict[str, str], body: bytes) -> int:
        from gateway.commands import text
        from gateway.commands.verification import Unverified, verify

        try:
            verify(self._key, headers, body, self._now(), self._tolerance)
            decoded = body.decode()
        except Unverified as problem:
            self._show.words(f"refused with 401: {text.cut(problem, 120)}")
            return 401
        except UnicodeDecodeError:
            self._show.words("refused with 400: signed, and not UTF-8")
            return 400
        attempt = self._count(headers["webhook-id"])
        status = 503 if self._fail_rate and self._chance() < self._fail_rate else self._status
        again = f", attempt {attempt}" if attempt > 1 else ""
        self._show.event(decoded, f"verified{again}, answered {status}")
        return status

    def _count(self, delivery: str) -> int:
        attempt = self._attempts.pop(delivery, 0) + 1
        self._attempts[delivery] = attempt
        if len(self._attempts) > _REMEMBERED:
            self._attempts.popitem(last=False)
        return attempt
