"""`mainstem tail`: the stream in a terminal, with bars that move, or in a pipe, an event a line.

Reads the stream as any other program does, with the Python client: it comes back by itself, and misses nothing.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from gateway.commands import filters, program
from gateway.commands.remote import Failed, Remote, connected

if TYPE_CHECKING:
    from gateway.commands.board import Board
    from gateway.commands.screen import Screen
    from mainstem_client import Event, Events, State

#: Seconds between two drawings.
_FRAME = 0.1


def _moment(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Seconds since 1970 of an RFC 3339 time, or of so long ago."""
    if value is None:
        return None
    import time
    from datetime import datetime

    from schemas.duration import seconds

    try:
        return time.time() - float(seconds(value))
    except ValueError:
        pass  # it may be a time
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter("how long ago, as in 15m, or a time, as in 2026-01-02T03:04:05Z") from None
    return moment.timestamp()


@click.command()
@click.option(
    "--source",
    multiple=True,
    callback=filters.values("source"),
    help="Only these sources; repeatable or comma-separated.",
)
@click.option("--task", multiple=True, callback=filters.values("task"), help="Only these tasks, <source>/<task id>.")
@click.option("--kind", multiple=True, callback=filters.values("kind"), help="Only these kinds of tasks.")
@click.option("--status", multiple=True, callback=filters.values("status"), help="Only these statuses.")
@click.option(
    "--type",
    multiple=True,
    callback=filters.values("type"),
    help="Only these types of events; a final * is a wildcard.",
)
@click.option("--after", metavar="POSITION", help="First what came after this sequence (or <epoch>:<sequence>).")
@click.option(
    "--since", callback=_moment, metavar="TIME", help="First what came since: 15m, 2h, or a time in RFC 3339."
)
@click.option("--json", "as_json", is_flag=True, help="One event a line, as it is on the stream.")
@click.option("--plain", is_flag=True, help="One line of text an event, as where the output is no terminal.")
@click.option("--no-color", is_flag=True, help="No colours; so does the variable NO_COLOR.")
@connected("events:read")
@click.pass_context
def tail(ctx: click.Context, /, gateway: Remote, **options: Any) -> None:
    """Show what a gateway's stream says, as it says it, until Ctrl-C."""
    if options["after"] is not None and options["since"] is not None:
        raise click.UsageError("--after and --since are two ways to say the same: use one")
    from gateway import telemetry
    from mainstem_client import position

    telemetry.configure(
        "warning", "console", [gateway.credential.bring()] if gateway.credential else [], stream=sys.stderr
    )
    try:
        position.Position(options["after"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--after") from None
    ctx.exit(program.execute(lambda: program.until_signal(_tail(gateway, **options))))


async def _tail(
    gateway: Remote,
    *,
    after: str | None,
    since: float | None,
    as_json: bool,
    plain: bool,
    no_color: bool,
    source: list[str],
    task: list[str],
    kind: list[str],
    status: list[str],
    type: list[str],
) -> int:
    import mainstem_client
    from gateway.commands import screen
    from gateway.commands.board import Board

    live = not as_json and not plain and screen.is_terminal(sys.stdout, os.environ)
    board = Board(color=not no_color and screen.wants_color(sys.stdout, os.environ))
    token = gateway.credential.token if gateway.credential else None
    async with mainstem_client.connect(gateway.url, token=token) as client:
        if since is not None:
            after = await _position(gateway, since)
        show: _Live | _Lines = _Live(board) if live else _Lines(board, as_json)
        events = client.events(
            source=source,
            task=task,
            kind=kind,
            status=status,
            type=type,
            after=after,
            snapshot=live and after is None,
            on_state=show.on_state,
        )
        try:
            await show.run(events)
        except mainstem_client.Refused as error:
            raise Failed(gateway.refusal(error.code, str(error))) from None
        except mainstem_client.ClientError as error:
            raise Failed(str(error)) from None
        finally:
            show.close()
    return 0


class _Lines:
    """A line an event."""

    def __init__(self, board: Board, as_json: bool) -> None:
        self._board = board
        self._as_json = as_json

    async def run(self, events: Events) -> None:
        """Until the stream ends. A line is flushed at once: who reads a pipe waits for it."""
        from gateway.commands import text

        async for event in events:
            line = text.json_line(event.text) if self._as_json else self._board.line(event)
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    def on_state(self, state: State) -> None:
        """Beside the events: not among them."""
        words = _words(state)
        if words is not None:
            click.echo(f"mainstem: {words}", err=True)

    def close(self) -> None:
        """Nothing is held back."""


class _Live:
    """Rows that move, and lines for what is over."""

    def __init__(self, board: Board) -> None:
        from gateway.commands.screen import Screen

        self._board = board
        self._screen: Screen = Screen(sys.stdout, board.rows)

    async def run(self, events: Events) -> None:
        """Until the stream ends. Draws a little after something has changed, so that a burst is one drawing."""
        import asyncio

        changed = asyncio.Event()
        self._changed = changed

        async def draw() -> None:
            while True:
                await changed.wait()
                changed.clear()
                self._screen.draw()
                await asyncio.sleep(_FRAME)

        drawing = asyncio.create_task(draw(), name="tail-draw")
        reading = asyncio.create_task(self._read(events), name="tail-read")
        try:
            await asyncio.wait({drawing, reading}, return_when=asyncio.FIRST_COMPLETED)
            for task in (reading, drawing):
                if task.done():
                    task.result()
        finally:
            for task in (reading, drawing):
                task.cancel()
            await asyncio.gather(reading, drawing, return_exceptions=True)

    async def _read(self, events: Events) -> None:
        async for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        if self._board.take(event):
            self._screen.add(self._board.line(event, self._screen.width))
        self._changed.set()

    def on_state(self, state: State) -> None:
        """Among the lines."""
        import mainstem_client
        from gateway.commands import text

        if isinstance(state, mainstem_client.Connected) and state.resume in ("snapshot", "reset"):
            self._board.clear()
        words = _words(state)
        if words is not None:
            self._screen.add(text.cut(f"          {words}", self._screen.width))
        self._changed.set()

    def close(self) -> None:
        """Gives the terminal back."""
        self._screen.close()


def _words(state: State) -> str | None:
    import mainstem_client
    from gateway.commands import text

    if isinstance(state, mainstem_client.Disconnected):
        return text.plain(f"{state.error}; trying again in {state.retry_in:.1f} s")
    if state.resume == "reset":
        return "the log does not reach back that far: something is missing here, current states follow"
    return None


async def _position(gateway: Remote, since: float) -> str | None:
    """The position before the first event that was received since a moment; None where there is none yet.

    The log is searched by halves over the read API: some thirty requests for an event each, however long it is.
    """
    first = await _next(gateway, None)
    if first is None:
        return None
    low, step = first[0] - 1, 1  # nothing at or before `low` is recent enough
    if first[1] >= since:
        return str(low)
    high = None  # the event after `high` is recent enough, or there is none
    while high is None:
        found = await _next(gateway, low + step)
        if found is None or found[1] >= since:
            high = low + step
        else:
            low, step = found[0], step * 2
    while high - low > 1:
        middle = (low + high) // 2
        found = await _next(gateway, middle)
        if found is None or found[1] >= since:
            high = middle
        else:
            low = found[0]
    return str(high) if await _next(gateway, high) is not None else None


async def _next(gateway: Remote, after: int | None) -> tuple[int, float] | None:
    """Sequence and time of the first event after a position; None beyond the end of the log."""
    from gateway.commands import answers
    from schemas import rfc3339

    query = {"limit": "1"} | ({} if after is None else {"after": str(after)})
    try:
        items = (await gateway.asked("GET", "/v1/events", answers.Events, query=query))["items"]
    except Failed as error:
        if error.status == 410:
            return None
        raise
    if not items:
        return None
    event = items[0]
    try:
        return int(event["sequence"]), rfc3339.parse(event["data"].get("received_at") or event["time"])
    except ValueError:
        raise gateway.foreign(200) from None
