"""`zmqservices completion`: the script that teaches a shell the commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from zmqservices.exceptions import CommandError


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the script that makes SHELL complete commands and options.

    \b
    Example, in ~/.bashrc:
        eval "$(zmqservices completion bash)"
    """
    from zmqservices.cli.main import PROGRAM, cli

    completion = get_completion_class(shell)
    if completion is None:
        raise CommandError(f"there is no completion for {shell!r}")
    # The script itself; `source()` would first ask a bash of the machine for its version.
    made = completion(cli, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE")
    click.echo(made.source_template % made.source_vars())
