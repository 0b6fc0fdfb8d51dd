"""`mainstem capture`: records what upstreams send, for a bug report or a test."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from gateway.commands import program
from gateway.errors import MainstemError

if TYPE_CHECKING:
    from adapters.api import SourceConfig
    from gateway.config import Settings


def _length(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    from schemas.duration import seconds

    try:
        return None if value is None else float(seconds(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@program.config_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write: name.capture.jsonl."
)
@click.option("--source", "names", multiple=True, help="Only this source; repeatable.")
@click.option("--duration", callback=_length, help="How long, as in 90s or 10m. Default: until Ctrl-C.")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@click.pass_context
def capture(
    ctx: click.Context, path: Path, output: Path, names: Sequence[str], duration: float | None, force: bool
) -> None:
    """Connect to the upstreams of a configuration and write down what they send, without credentials.

    Runs beside a gateway: its store, its port and its webhooks are not touched. Look at the file before you give it away:
    tokens, keys and the queries of URLs are taken out, but what your tasks are about is in it.
    """
    settings = program.load(path)
    known = {source.name: source for source in settings.sources}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.BadParameter(f"no source {unknown[0]!r}; there are {', '.join(known)}", param_hint="--source")
    sources = [source for source in settings.sources if source.enabled and (not names or source.name in names)]
    if not sources:
        raise MainstemError(f"{path}: no source is enabled: there is nothing to capture")
    import sys

    from gateway import telemetry

    telemetry.configure("warning", "console", settings.secrets(), stream=sys.stderr)
    with _create(output, force) as file:
        ctx.exit(program.execute(lambda: _capture(settings, sources, file, output, duration)))


def _create(path: Path, force: bool) -> TextIO:
    """A new file that its owner alone can read: what tasks are about is nobody else's business."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        return os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8")
    except FileExistsError:
        raise MainstemError(f"{path} is there already; --force overwrites it") from None
    except OSError as error:
        raise MainstemError(f"{path} cannot be written: {error.strerror}") from None


async def _capture(
    settings: Settings, sources: list[SourceConfig], file: TextIO, output: Path, duration: float | None
) -> int:
    from adapters import registry
    from gateway.capture import Recorder
    from gateway.clock import SystemClock, system_random
    from gateway.metrics import Metrics
    from gateway.pipeline.intake import Intake
    from gateway.store.sqlite import SqliteStore
    from gateway.upstream.sources import Sources

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    clock, metrics = SystemClock(), Metrics()
    recorder = Recorder(file, sources, clock)
    writing = asyncio.create_task(recorder.run(), name="capture-write")
    # a log of its own, forgotten at the end: what is connected, looked up and repaired is what a gateway would
    with tempfile.TemporaryDirectory(prefix="mainstem-capture-") as directory:
        store = SqliteStore(Path(directory) / "log.db", durability="process", clock=clock, metrics=metrics)
        await store.open()
        intake = Intake(
            store, lambda events: None, adapters={source.name: source.adapter for source in sources},
            clock=clock, metrics=metrics, horizon=settings.store.retain,
        )  # fmt: skip
        intake.start()
        adapters = [registry.load(source.adapter)(source) for source in sources]
        upstreams = Sources(adapters, intake, store, clock, system_random(), metrics, tap=recorder.tap)
        try:
            await upstreams.start()
            click.echo(
                f"capturing {', '.join(source.name for source in sources)} into {output}; Ctrl-C ends it", err=True
            )
            waiting = asyncio.create_task(stopped.wait(), name="capture-stopped")
            await asyncio.wait({waiting, writing}, timeout=duration, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        finally:
            await upstreams.stop()
            await intake.close()
            await store.close()
        if not writing.done():
            await recorder.finish()
        await writing
    click.echo(f"{recorder.records} records in {output}", err=True)
    for name, why in upstreams.trouble().items():
        click.echo(f"mainstem: source {name}: {why}", err=True)
    return 1 if upstreams.trouble() else 0
