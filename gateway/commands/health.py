"""`mainstem health`: one request and an exit code, for containers whose image has no curl."""

from __future__ import annotations

import click

from gateway.commands import program, remote
from gateway.errors import MainstemError

#: Bytes of an answer that are read.
_MOST = 1 << 20


@click.command()
@program.url_option
@click.option("--live", is_flag=True, help="Only whether the process answers (/healthz), not whether it is ready.")
@click.option("--timeout", type=click.FloatRange(min=0.1, max=60), default=3.0, show_default=True, help="In seconds.")
@click.option("-q", "--quiet", is_flag=True, help="Only the exit code.")
@click.pass_context
def health(ctx: click.Context, url: str, live: bool, timeout: float, quiet: bool) -> None:
    """Ask a gateway whether it is ready: exit code 0 where it is, 1 where it is not."""
    status, words = _ask(f"{remote.base(url)}/{'healthz' if live else 'readyz'}", timeout)
    if not quiet:
        click.echo(words, err=status != 200)
    ctx.exit(0 if status == 200 else 1)


def _ask(url: str, timeout: float) -> tuple[int | None, str]:
    """Status, and what it means in words. The standard library's client: it is loaded in a tenth of the time."""
    import http.client
    import json
    import urllib.error
    import urllib.request

    from gateway.commands.text import plain

    # no proxies: the gateway is asked, not a cache in front of it
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as answer:
            status, body = answer.status, answer.read(_MOST)
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read(_MOST)
    except urllib.error.URLError as error:
        reason = error.reason
        return None, f"unreachable: {getattr(reason, 'strerror', None) or reason}"
    except (OSError, http.client.HTTPException) as error:
        return None, f"unreachable: {'no answer in time' if isinstance(error, TimeoutError) else type(error).__name__}"
    try:
        page = json.loads(body)
        words = [str(page["status"])]
        wrong = [name for name, check in page.get("checks", {}).items() if not check["ok"]]
        words += [f"wrong: {', '.join(wrong)}"] if wrong else []
        words += [f"{source['name']} is {source['state']}" for source in page.get("sources", ())]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MainstemError(f"what answers at {url} is no gateway: HTTP {status}") from None
    return status, plain("; ".join(words))
