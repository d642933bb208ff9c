"""`zmqservices completion`: prints the script with which a shell completes the commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from zmqservices.exceptions import CommandError


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the script that makes SHELL complete commands and options.

    It also completes the names of running services, their methods, and the sources of events.

    \b
    Examples:
        echo 'eval "$(zmqservices completion bash)"' >> ~/.bashrc
        echo 'eval "$(zmqservices completion zsh)"' >> ~/.zshrc
        zmqservices completion fish > ~/.config/fish/completions/zmqservices.fish
    """
    from zmqservices.cli.main import PROGRAM, cli

    completion = get_completion_class(shell)
    if completion is None:
        raise CommandError(f"there is no completion for {shell!r}")
    # Made here, since `source()` would first run bash to learn its version.
    made = completion(cli, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE")
    click.echo(made.source_template % made.source_vars())
