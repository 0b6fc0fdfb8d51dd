"""`mainstem completion`: what a shell evaluates to complete commands and options."""

from __future__ import annotations

import click

_PROGRAM, _VARIABLE = "mainstem", "_MAINSTEM_COMPLETE"


@click.command(
    epilog="""\b
Put one of these into the shell's start-up file:
  eval "$(mainstem completion bash)"      # ~/.bashrc
  eval "$(mainstem completion zsh)"       # ~/.zshrc
  mainstem completion fish | source       # ~/.config/fish/config.fish"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError("click completes these shells")
    click.echo(kind(ctx.find_root().command, {}, _PROGRAM, _VARIABLE).source())
