"""`mainstem init`: a configuration file to begin with, commented, with every secret in a variable."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from gateway.errors import MainstemError

_HEAD = """\
# Mainstem. Every key, with its default: config.example.yaml. After a change: mainstem check -c {name}
# Text may hold ${{VAR}} (must be set), ${{VAR:-default}} and ${{file:/path}}; relative paths start at this file.

server:
  host: 127.0.0.1            # beyond this machine: 0.0.0.0, behind TLS
  port: 8080
  # Pages in browsers that may connect, beside those of this server's own host:
  #allowed_origins: ["https://app.example.com"]

auth:
  # Verifies the tokens that consumers present; `mainstem token --scope events:read` makes one.
  secret: "${{MAINSTEM_JWT_SECRET}}"
  # Tokens without an end, for operators and scripts:
  #tokens:
  #  - {{name: operator, token: "${{ADMIN_TOKEN}}", scope: admin}}

store:
  url: "sqlite:///mainstem.db"
  retain: 7d                 # how far back a consumer can resume, and a webhook be replayed

sources:
"""
_TAIL = """
# Where finished tasks are told. `mainstem listen` plays a receiver, and prints what belongs here.
#webhooks:
#  - name: backend
#    url: "https://backend.example.com/hooks"
#    secret: "${BACKEND_WHSEC}"           # whsec_<base64 of 24 to 64 bytes>
#    type: [task.succeeded, task.failed, task.cancelled]

log:
  level: info                # debug | info | warning | error
  format: json               # json | console
"""
_SOURCES = {
    "triverse": """\
  - name: studio             # part of task keys: studio/<task id>
    adapter: triverse
    url: "wss://api.triverse.ai"
    token: "${TRIVERSE_KEY}"
    watch: all               # all | [task uuid, ...] | [] (started with POST /v1/watches)
    #catch_up: 1h            # how far back the very first connect asks
""",
    "emit": """\
  - name: jobs               # part of task keys: jobs/<job id>
    adapter: emit
    url: "wss://emit.run"
    token: "${EMIT_KEY}"     # jobs:read for spaces; jobs:read:progress is enough for single jobs
    spaces: ["${EMIT_SPACE}"]
    jobs: []
""",
    "catalyst": """\
  - name: ops                # part of task keys: ops/<task id>
    adapter: catalyst
    url: "${CATALYST_URL}"   # wss://<your instance>
    uuid: "${CATALYST_UUID}"
    # Instead of uuid, a fresh one for each connect:
    #auth_url: "https://<your instance>/api/users/ws-auth/"
    #api_key: "${CATALYST_API_KEY}"
""",
}


@click.command()
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="NAME",
    help="An upstream to connect to; repeatable. Default: triverse.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="config.yaml", show_default=True, help="File to write."
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def init(adapters: Sequence[str], output: Path, force: bool) -> None:
    """Write a commented configuration file to begin with."""
    text = (
        _HEAD.format(name=output)
        + "\n".join(_source(name) for name in dict.fromkeys(adapters or ("triverse",)))
        + _TAIL
    )
    try:
        with output.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise MainstemError(f"{output} is there already; --force overwrites it") from None
    except OSError as error:
        raise MainstemError(f"{output} cannot be written: {error.strerror}") from None
    click.echo(_next_steps(output, text))


def _source(name: str) -> str:
    """The section of an adapter; that of a foreign one from what its configuration requires."""
    from adapters import registry

    if name in _SOURCES:
        return _SOURCES[name]
    try:
        fields = registry.load(name).Config.model_fields
    except registry.AdapterUnavailable as error:
        raise click.BadParameter(str(error), param_hint="--adapter") from None
    lines = [f"  - name: {name}", f"    adapter: {name}"]
    prefix = re.sub(r"[^A-Z0-9]", "_", name.upper())
    for key, field in fields.items():
        if field.is_required() and key not in ("name", "adapter"):
            about = f"  # {field.description}" if field.description else ""
            lines.append(f'    {key}: "${{{prefix}_{key.upper()}}}"{about}')
    return "\n".join(lines) + "\n"


def _next_steps(output: Path, text: str) -> str:
    from secrets import token_urlsafe

    used = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    variables = [name for name in dict.fromkeys(re.findall(r"\$\{(\w+)\}", used)) if name != "MAINSTEM_JWT_SECRET"]
    lines = [
        f"{output} is written. It keeps no secret; set these, or put them where your service manager keeps secrets:",
        "",
        f"  export MAINSTEM_JWT_SECRET={token_urlsafe(36)}   # made just now, nowhere else",
        *(f"  export {name}=..." for name in variables),
        "",
        "then:",
        "",
        f"  mainstem check -c {output} --connect",
        f"  mainstem run -c {output}",
    ]
    return "\n".join(lines)
