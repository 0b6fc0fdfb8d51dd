"""The command line, `mainstem`: reads arguments, chooses exit codes, and leaves the work to others.

Exit codes: 0 fine, 1 failure, 2 usage or configuration. What a command needs is imported when it runs, so that `version`
and `--help` answer at once.
"""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import gateway
from gateway.commands import catalog, filters, program
from gateway.errors import CannotListen, ConfigError, MainstemError

if TYPE_CHECKING:
    from gateway.simulators import Kind, Simulator
    from gateway.simulators.faults import Faults


class _Commands(click.Group):
    """Turns the gateway's errors into one message on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(str(error), err=True)
            ctx.exit(2)
        except (MainstemError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # click ends quietly when the reader of its output is gone
            from gateway import telemetry
            from gateway.commands import text

            hint = self._hint(ctx) if isinstance(error, CannotListen) and error.taken else ""
            click.echo(f"mainstem: {text.plain(telemetry.scrub(str(error)))}{hint}", err=True)
            ctx.exit(1)

    def _hint(self, ctx: click.Context) -> str:
        """What to do where something else listens: a command has an option for its port, or the configuration has it."""
        command = self.get_command(ctx, ctx.invoked_subcommand or "")
        own = command is not None and any(parameter.name == "port" for parameter in command.params)
        return f"; is another mainstem running there? {'--port' if own else 'server.port'} chooses another port"


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(gateway.__version__, prog_name="mainstem", message="%(prog)s %(version)s")
def main() -> None:
    """Mainstem: realtime task APIs in, one durable stream of CloudEvents and signed webhooks out."""


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(f"mainstem {gateway.__version__}")


@main.command()
@program.config_option
@click.pass_context
def run(ctx: click.Context, path: Path) -> None:
    """Run the gateway until SIGTERM or Ctrl-C. SIGHUP has it read the configuration again."""
    settings = program.load(path)
    from gateway import app, telemetry

    telemetry.configure(settings.log.level, settings.log.format, settings.secrets())
    ctx.exit(program.execute(lambda: app.run(settings, lambda: program.load_again(path))))


@main.command()
@program.config_option
@click.option("--connect", is_flag=True, help="Also try every upstream and every webhook's address, with credentials.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1, max=300), default=15.0, show_default=True, help="For each, in s."
)
@click.pass_context
def check(ctx: click.Context, path: Path, connect: bool, timeout: float) -> None:
    """Validate a configuration file: every problem with its key and line. Connects to nothing, unless told to."""
    settings = program.load(path)
    for doubt in settings.doubts():
        click.echo(f"{path}: warning: {doubt}", err=True)
    found = f"{_count(len(settings.sources), 'source')}, {_count(len(settings.webhooks), 'webhook')}"
    click.echo(f"{path}: ok: {found}")
    if connect:
        from gateway.commands import reach

        ctx.exit(program.execute(lambda: reach.run(settings, timeout)))


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--seed", type=int, default=1, show_default=True, help="One seed, one history.")
@click.option("--rate", type=click.FloatRange(min=0), default=1.0, show_default=True, help="New tasks a second.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="warning", show_default=True
)
@click.pass_context
def demo(ctx: click.Context, port: int, seed: int, rate: float, log_level: str) -> None:
    """Run three simulated upstreams, the gateway and a webhook receiver on this machine."""
    from gateway import demo as demonstration
    from gateway import telemetry

    telemetry.configure(log_level, "console")
    ctx.exit(program.execute(lambda: demonstration.run(port=port, seed=seed, rate=rate)))


def _parse_faults(ctx: click.Context, parameter: click.Parameter, values: Sequence[str]) -> Faults:
    from typing import get_args

    from gateway.simulators.faults import FaultName, Faults

    chances: dict[str, Any] = {}
    for value in values:
        name, _, number = value.partition("=")
        if name not in get_args(FaultName):
            raise click.BadParameter(f"no fault {name!r}; there are {', '.join(get_args(FaultName))}")
        try:
            chance = float(number)
        except ValueError:
            chance = -1.0
        if not 0 <= chance <= 1:
            raise click.BadParameter(f"{name} needs a probability from 0 to 1, as in {name}=0.01")
        chances[name] = chance
    return Faults(**chances)


@main.command()
@click.argument("upstream", type=click.Choice(["triverse", "emit", "catalyst"]))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="A free one by default.")
@click.option("--seed", type=int, default=1, show_default=True, help="One seed, one history.")
@click.option("--rate", type=click.FloatRange(min=0), default=1.0, show_default=True, help="New tasks a second.")
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, help="Of a task's life."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME=PROBABILITY",
    callback=_parse_faults,
    help="What goes wrong, per frame or handshake, e.g. drop=0.01; repeatable.",
)
@click.pass_context
def simulate(ctx: click.Context, /, upstream: Kind, **options: Any) -> None:
    """Run a stand-alone upstream that follows its documents, until Ctrl-C or SIGTERM."""
    from gateway import telemetry

    telemetry.configure("warning", "console", stream=sys.stderr)
    ctx.exit(program.execute(lambda: _simulate(upstream, options)))


async def _simulate(upstream: Kind, options: dict[str, Any]) -> int:
    from gateway import simulators

    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        simulator: Simulator = await simulators.start(upstream, **options)
    except OSError as error:
        raise CannotListen(options["host"], options["port"], error) from None
    try:
        click.echo(_introduction(upstream, simulator))
        ended = asyncio.create_task(stopped.wait(), name="simulate-stopped")
        broken = asyncio.create_task(simulator.forever(), name="simulate-forever")
        try:
            await asyncio.wait((ended, broken), return_when=asyncio.FIRST_COMPLETED)
            if broken.done():
                broken.result()
        finally:
            ended.cancel()
            broken.cancel()
            await asyncio.gather(ended, broken, return_exceptions=True)
    finally:
        await simulator.stop()
    return 0


def _introduction(upstream: str, simulator: Simulator) -> str:
    """Where it is, what lets a client in, and the source for a configuration file."""
    credentials = simulator.credentials
    source: dict[str, Any] = {"name": upstream, "adapter": upstream, "url": simulator.url}
    if upstream == "catalyst":
        source["uuid"] = credentials["uuid"]
    else:
        source["token"] = credentials["token"]
        source |= {"watch": "all"} if upstream == "triverse" else {"spaces": credentials["spaces"]}
    lines = [f"{upstream} simulator at {simulator.url} and {simulator.http_url}", "", "credentials:"]
    lines += [f"  {name}: {json.dumps(value)}" for name, value in credentials.items()]
    lines += ["", "for a configuration file:", "", "sources:"]
    for index, (name, value) in enumerate(source.items()):
        lines.append(f"  {' ' if index else '-'} {name}: {json.dumps(value)}")
    return "\n".join([*lines, "", "Ctrl-C ends it."])


def _parse_duration(ctx: click.Context, parameter: click.Parameter, value: str) -> float:
    from schemas.duration import seconds

    try:
        length = float(seconds(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if length <= 0:
        raise click.BadParameter("must be more than 0")
    return length


def _parse_scope(ctx: click.Context, parameter: click.Parameter, values: Sequence[str]) -> str:
    from gateway.access import SCOPES

    words = list(dict.fromkeys(" ".join(values).replace(",", " ").split()))
    unknown = [word for word in words if word not in SCOPES]
    if unknown or not words:
        problem = f"no scope {unknown[0]!r}" if unknown else "must not be empty"
        raise click.BadParameter(f"{problem}; there are {', '.join(SCOPES)}")
    return " ".join(words)


@main.command()
@program.config_option
@click.option(
    "--scope", multiple=True, required=True, callback=_parse_scope, help="Space- or comma-separated; repeatable."
)
@click.option("--ttl", default="1h", show_default=True, callback=_parse_duration, help="How long it is valid.")
@click.option("--subject", help="Who it is for: its `sub`.")
@click.option(
    "--sources",
    multiple=True,
    callback=filters.values("source"),
    help="Only these sources; comma-separated or repeated.",
)
@click.option("--tasks", multiple=True, callback=filters.values("task"), help="Only these tasks, <source>/<task id>.")
@click.option("--kinds", multiple=True, callback=filters.values("kind"), help="Only these kinds of tasks.")
def token(path: Path, scope: str, ttl: float, subject: str | None, **bounds: list[str]) -> None:
    """Mint an access token with the shared secret of a configuration, of which the rest need not be valid."""
    from gateway import config

    auth = config.load_entrance(path).auth
    if auth.secret is None:
        raise ConfigError(f"{path}: auth.secret: is needed to mint tokens; with other keys, their issuer does that")
    import time

    from gateway.commands.minting import mint

    click.echo(mint(auth, scope=scope, ttl=ttl, now=time.time(), subject=subject, bounds=bounds))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


catalog.register(main)
