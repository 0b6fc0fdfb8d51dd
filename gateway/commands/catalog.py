"""The commands that have a module each, and how they come onto the command line.

Each module imports at its top what costs nothing (click), and the rest when its command runs.
"""

from __future__ import annotations

import click

from gateway.commands.capture import capture
from gateway.commands.completion import completion
from gateway.commands.health import health
from gateway.commands.init import init
from gateway.commands.listen import listen
from gateway.commands.replay import replay
from gateway.commands.tail import tail
from gateway.commands.webhooks import webhooks


def register(group: click.Group) -> None:
    """Adds them to the command line."""
    for command in (tail, webhooks, listen, init, health, capture, replay, completion):
        group.add_command(command)
