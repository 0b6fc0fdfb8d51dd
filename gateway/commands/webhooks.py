"""`mainstem webhooks`: endpoints and deliveries of a running gateway.

Everything goes through the HTTP API, so a token decides what may be done. Tables for people, `--json` for programs. Commands
that send much or forget something ask first.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, TextIO
from urllib.parse import urlsplit

import click

from gateway.commands import answers, filters, table, text
from gateway.commands.remote import Failed, Remote, connected, segment
from gateway.errors import Invalid

#: Settings that are lists of words: given as in the query of the stream, separated by commas.
_WORDS = ("source", "task", "kind", "status", "type")
#: The setting that is a list of numbers, given the same way.
_DELAYS = "retry_schedule"
#: Seconds between two looks at a delivery that is awaited.
_LOOK = 0.2
#: Deliveries asked for at a time: the most that the API gives.
_PAGE = 1000

_gateway = connected("webhooks:write")
_json = click.option("--json", "as_json", is_flag=True, help="The answer of the API, for programs.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_name = click.argument("name")
_settings = click.argument("settings", metavar="[SETTING=VALUE]...", nargs=-1)


def _file(name: str, help: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(f"--{name}", type=click.File(), metavar="FILE", help=f"{help} - is standard input.")


@click.group()
def webhooks() -> None:
    """Manage the webhooks of a running gateway."""


@webhooks.command("list")
@_json
@_gateway
def list_(gateway: Remote, as_json: bool) -> None:
    """Every endpoint and how it is doing."""
    answer = gateway.ask("GET", "/v1/webhooks", answers.Endpoints)
    items = answer["items"]
    if as_json:
        click.echo(table.as_json(answer))
    elif not items:
        click.echo("There are no endpoints.")
    else:
        head = ("NAME", "HOST", "STATE", "PENDING", "DEAD", "LAST DELIVERED", "LAST ERROR")
        click.echo(table.columns(head, (_row(item) for item in items)))


def _row(item: answers.Endpoint) -> Sequence[object]:
    """The path and the query of a URL may hold a key, so they are not in a list that is shown around."""
    host, health = urlsplit(item["url"]).netloc, item["health"]
    delivered = table.moment(health["last_delivered_at"])
    return item["name"], host, health["state"], health["pending"], health["dead"], delivered, health["last_error"]


@webhooks.command()
@_name
@_json
@_gateway
def show(gateway: Remote, name: str, as_json: bool) -> None:
    """An endpoint: settings and health."""
    _show(gateway.ask("GET", _path(name), answers.Endpoint), as_json)


def _show(endpoint: answers.Endpoint, as_json: bool) -> None:
    if as_json:
        click.echo(table.as_json(endpoint))
        return
    click.echo(table.pairs((setting, value) for setting, value in endpoint.items() if setting != "health"))
    click.echo()
    click.echo(table.pairs(endpoint["health"].items()))


@webhooks.command()
@_name
@click.argument("url")
@_settings
@_file("settings-file", "A JSON object with more settings, such as the secret or headers.")
@_json
@_gateway
def create(
    gateway: Remote, name: str, url: str, settings: Sequence[str], settings_file: TextIO | None, as_json: bool
) -> None:
    """Make an endpoint. Its secret is generated, and shown this once, unless a file of settings has one.

    \b
    mainstem webhooks create billing https://billing.example.com/hooks type=task.succeeded,task.failed
    """
    wanted = _read(settings_file) | _parse(settings, {"name": name, "url": url})
    _check({}, wanted)
    endpoint = gateway.ask("POST", "/v1/webhooks", answers.Created, wanted)
    if as_json:
        click.echo(table.as_json(endpoint))
        return
    click.echo(f"{text.plain(endpoint['name'])} is there.")
    if "secret" in endpoint:
        click.echo(f"Its secret, for the receiver, is shown this once:\n{text.plain(endpoint['secret'])}")


@webhooks.command()
@_name
@_settings
@_file("settings-file", "A JSON object with more settings, such as headers.")
@_json
@_gateway
def change(gateway: Remote, name: str, settings: Sequence[str], settings_file: TextIO | None, as_json: bool) -> None:
    """Change settings of an endpoint. SETTING=null goes back to the default.

    \b
    mainstem webhooks change billing concurrency=4 rate_limit=null
    """
    wanted = _read(settings_file) | _parse(settings, {})
    if not wanted:
        raise click.UsageError("say what to change: SETTING=VALUE")
    if wanted.get("name", name) != name:
        raise _wrong([("name", "cannot be changed")])
    # which URL is allowed may depend on settings that only the gateway knows
    _check({"name": name, "url": "https://example.com/", "allow_private": True, "allow_http": True}, wanted)
    _show(gateway.ask("PATCH", _path(name), answers.Endpoint, wanted), as_json)


@webhooks.command()
@_name
@_yes
@_gateway
def delete(gateway: Remote, name: str, yes: bool) -> None:
    """Forget an endpoint and its deliveries."""
    _confirm(f"Forget {name} and its deliveries, dead letters included?", yes)
    gateway.ask("DELETE", _path(name), NoneType)
    click.echo(f"{name} is gone.")


@webhooks.command()
@_name
@_json
@_gateway
def enable(gateway: Remote, name: str, as_json: bool) -> None:
    """Deliver to an endpoint again. It goes on with the next event: see `retry` and `replay` for what was missed."""
    _tell(gateway.ask("POST", f"{_path(name)}/enable", answers.Endpoint), f"{name} is enabled.", as_json)


@webhooks.command()
@_name
@_json
@_gateway
def disable(gateway: Remote, name: str, as_json: bool) -> None:
    """Deliver nothing to an endpoint. What is pending becomes a dead letter, and nothing is queued until it is enabled."""
    _tell(gateway.ask("PATCH", _path(name), answers.Endpoint, {"enabled": False}), f"{name} is disabled.", as_json)


@webhooks.command()
@_name
@click.option("--wait", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds to wait.")
@_json
@_gateway
def test(gateway: Remote, name: str, wait: float, as_json: bool) -> None:
    """Send a test event and wait for the outcome. Exit code 1 where it was not delivered."""
    delivery = gateway.ask("POST", f"{_path(name)}/test", answers.Delivery)
    deadline = time.monotonic() + wait
    while not (delivery["attempts"] or delivery["state"] != "pending") and time.monotonic() < deadline:
        time.sleep(_LOOK)
        delivery = gateway.ask("GET", f"/v1/deliveries/{segment(delivery['id'])}", answers.Delivery)
    if as_json:
        click.echo(table.as_json(delivery))
    if delivery["state"] == "pending" and not delivery["attempts"]:
        why = f"it waits for the receiver's answer, or for its turn; see mainstem webhooks show {name}"
        raise Failed(f"{delivery['id']} has no outcome after {wait:g} s: {why}")
    if delivery["state"] != "delivered":
        raise Failed(_outcome(delivery))
    if not as_json:
        click.echo(_outcome(delivery))


@webhooks.command()
@_name
@click.option("--state", type=click.Choice(["pending", "delivered", "dead", "skipped"]), help="Only these.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@_json
@_gateway
def deliveries(gateway: Remote, name: str, state: str | None, limit: int, as_json: bool) -> None:
    """The latest deliveries of an endpoint."""
    items: list[answers.Delivery] = []
    cursor: str | None = ""
    while cursor is not None and len(items) < limit:
        query = {"limit": str(min(limit - len(items), _PAGE)), "cursor": cursor, "state": state or ""}
        page = gateway.ask("GET", f"{_path(name)}/deliveries", answers.Deliveries, query=query)
        items += page["items"]
        cursor = page["next"]
    if as_json:
        click.echo(table.as_json({"items": items, "next": cursor}))
    elif not items:
        click.echo("There are none.")
    else:
        head = ("DELIVERY", "STATE", "TRIES", "EVENT", "TASK", "NEXT ATTEMPT", "LAST OUTCOME")
        click.echo(table.columns(head, (_delivery_row(item) for item in items)))


def _delivery_row(item: answers.Delivery) -> Sequence[object]:
    attempts = item["attempts"]
    outcome = _attempt(attempts[-1]) if attempts else None
    due = table.moment(item["next_attempt_at"])
    tries = sum(attempt["duration_ms"] is not None for attempt in attempts)
    return item["id"], item["state"], tries, item["type"], item["task"], due, outcome


@webhooks.command()
@click.argument("target", metavar="DELIVERY | NAME")
@click.option("--all", "whole", is_flag=True, help="All dead letters of the endpoint NAME.")
@_yes
@_json
@_gateway
def retry(gateway: Remote, target: str, whole: bool, yes: bool, as_json: bool) -> None:
    """Try a delivery, or all dead letters, again.

    \b
    mainstem webhooks retry billing.4711
    mainstem webhooks retry --all billing
    """
    if not whole:
        answer = gateway.ask("POST", f"/v1/deliveries/{segment(target)}/retry", answers.Delivery)
        _tell(answer, f"{target} is tried again.", as_json)
        return
    _confirm(f"Send every dead letter of {target} again?", yes)
    retried = gateway.ask("POST", f"{_path(target)}/retry", answers.Retried)
    count = retried["retried"]
    _tell(retried, f"{target}: {count} dead letter{'' if count == 1 else 's'} to be tried again.", as_json)


def _position(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from gateway.stream import resume

    try:
        if value is not None:
            resume.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


def _time(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from schemas import duration, rfc3339

    try:
        if value is not None and rfc3339.normalize(value) is None:
            duration.seconds(value)
    except ValueError:
        raise click.BadParameter("how long ago, as in 24h, or a time, as in 2026-01-31T12:00:00Z") from None
    return value


@webhooks.command()
@_name
@click.option(
    "--after",
    metavar="POSITION",
    callback=_position,
    help="Everything after this position, <sequence> or <epoch>:<sequence>.",
)
@click.option(
    "--since",
    metavar="TIME",
    callback=_time,
    help="Everything since 2026-01-31T12:00:00Z, or of the last 24h, 7d, ...",
)
@_yes
@_json
@_gateway
def replay(gateway: Remote, name: str, after: str | None, since: str | None, yes: bool, as_json: bool) -> None:
    """Send events of the log again. Delivered ones are included; all have the ids that they had."""
    if (after is None) == (since is None):
        raise click.UsageError("exactly one of --after and --since is needed")
    what = f"after {after}" if after is not None else f"since {since}"
    _confirm(f"Send {name} everything {what} again?", yes)
    wanted = {"after": after} if after is not None else {"since": since}
    answer = gateway.ask("POST", f"{_path(name)}/replay", answers.Replayed, wanted)
    _tell(answer, f"{name} gets everything after {answer['after']} again.", as_json)
    if not answer["complete"]:
        click.echo("The log begins there: what is older is gone.", err=True)


def _overlap(ctx: click.Context, parameter: click.Parameter, value: str) -> float:
    from gateway.webhooks.manager import LONGEST_OVERLAP
    from schemas.duration import seconds

    try:
        length = float(seconds(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if length > LONGEST_OVERLAP:
        raise click.BadParameter(f"must be at most {LONGEST_OVERLAP / 86400:g}d")
    return length


@webhooks.command("rotate-secret")
@_name
@click.option(
    "--overlap",
    metavar="TIME",
    default="1d",
    show_default=True,
    callback=_overlap,
    help="How long the old one signs, too: at most 7d.",
)
@_file("secret-file", "The new secret. Default: it is generated.")
@_json
@_gateway
def rotate_secret(gateway: Remote, name: str, overlap: float, secret_file: TextIO | None, as_json: bool) -> None:
    """Sign with a new secret, and print it. For a while the old one signs as well, so that the receiver can change over."""
    from gateway.webhooks import signing

    wanted: dict[str, Any] = {"overlap": overlap}
    if secret_file is not None:
        wanted["secret"] = secret_file.read().strip()
        try:
            signing.decode_secret(wanted["secret"])
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--secret-file") from None
    answer = gateway.ask("POST", f"{_path(name)}/rotate-secret", answers.Secret, wanted)
    _tell(answer, answer["secret"], as_json)


def _path(name: str) -> str:
    return f"/v1/webhooks/{segment(name)}"


def _tell(answer: object, sentence: str, as_json: bool) -> None:
    if as_json:
        click.echo(table.as_json(answer))
    else:
        click.echo(text.plain(sentence))


def _outcome(delivery: answers.Delivery) -> str:
    """What came of a delivery so far."""
    attempts, due = delivery["attempts"], delivery["next_attempt_at"]
    state = "failed" if delivery["state"] == "pending" else delivery["state"]
    said = f"{delivery['id']}: {state}" + (f": {_attempt(attempts[-1])}" if attempts else "")
    return text.plain(said) + (f"; next attempt at {table.moment(due)}" if due else "")


def _attempt(attempt: answers.Attempt) -> str:
    what = attempt["error"] or f"HTTP {attempt['status']}"
    return f"{what}, {attempt['duration_ms']:.0f} ms" if attempt["duration_ms"] else str(what)


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not _is_interactive():
        raise click.UsageError("nobody is there to be asked: add --yes")
    click.confirm(question, abort=True, err=True)


def _is_interactive() -> bool:
    return sys.stdin.isatty()


def _parse(settings: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """What is known, and `SETTING=VALUE`, the value as JSON where it is, else as text. Each once."""
    found = dict(known)
    for item in settings:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise click.UsageError("settings are given as SETTING=VALUE")
        if name in ("secret", "headers"):
            raise click.UsageError(f"{name}: arguments can be seen by others on the machine: use --settings-file")
        if name in found:
            raise click.UsageError(f"{text.plain(name)}: is given twice")
        found[name] = _value(name, value)
    return found


def _value(name: str, given: str) -> Any:
    value = _json_or_text(given)
    if value is None or isinstance(value, list):
        return value
    if name in _WORDS:
        from schemas.filter import split

        return split(given)
    return [_json_or_text(delay) for delay in given.split(",")] if name == _DELAYS else value


def _json_or_text(given: str) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(given)
    return given


def _check(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuses settings that no gateway takes, and filters that match nothing, before one is asked.

    Args:
        known: stands for what there is already.
        wanted: a merge patch for it.
    """
    from gateway.webhooks import record, signing

    some = {"secret": signing.encode_secret(bytes(signing.KEY_BYTES[0]))}
    try:
        endpoint = record.validated(some | record.merge(known, wanted))
    except Invalid as error:
        raise _wrong(error.errors.items()) from None
    if doubts := filters.doubts(endpoint.where):
        raise _wrong(doubts)


def _wrong(problems: Iterable[tuple[str, str]]) -> click.UsageError:
    return click.UsageError("; ".join(f"{setting}: {problem}" for setting, problem in problems))


def _read(file: TextIO | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        value = json.load(file, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise click.UsageError(f"{Path(file.name).name}: must hold a JSON object, with no name twice")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name is given twice")
    return value
