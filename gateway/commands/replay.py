"""`mainstem replay`: a capture through the same adapters, to see what they make of it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.commands import program

if TYPE_CHECKING:
    from gateway.capture_replay import Replay


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, help="How many times faster. Default: 1."
)
@click.option("--at-once", is_flag=True, help="Without the waits between frames.")
@click.option("--json", "as_json", is_flag=True, help="Whole events, one a line, instead of a line of text each.")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help="Do not print: store, serve and deliver, with the sections of this configuration; its sources are not connected.",
)
@click.pass_context
def replay(ctx: click.Context, file: Path, speed: float, at_once: bool, as_json: bool, config: Path | None) -> None:
    """Feed a capture through the adapters, and print the canonical events that come of it.

    With a configuration, a whole gateway serves them until Ctrl-C: give it a store of its own.
    """
    from gateway import capture, capture_replay, telemetry

    made = capture_replay.Replay(capture.read(file))
    pace = None if at_once else speed
    if config is None:
        telemetry.configure("warning", "console", stream=sys.stderr)
        ctx.exit(program.execute(lambda: program.until_signal(_print(made, pace, as_json))))
    settings = program.load(config)
    telemetry.configure(settings.log.level, settings.log.format, settings.secrets())
    from gateway.commands import serve_replay

    ctx.exit(program.execute(lambda: serve_replay.run(settings, made, pace)))


async def _print(made: Replay, speed: float | None, as_json: bool) -> int:
    from gateway import capture_events
    from gateway.commands import text
    from gateway.commands.board import Board
    from mainstem_client import event as events

    board = Board(color=False)
    before: float | None = None
    for step, lines in capture_events.events(made):
        if speed is not None and before is not None:
            await asyncio.sleep(max(step.received - before, 0.0) / speed)
        before = step.received
        for problem in capture_events.rejected(step):
            click.echo(f"{step.record.at}  {text.cut(problem, 200)}", err=True)
        for line in lines:
            click.echo(text.json_line(line) if as_json else board.line(events.parse(line)))
    return 0
