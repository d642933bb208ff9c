"""`zmqservices show-config`: the settings as a command would see them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from zmqservices.cli.options import Flags, takes_settings

#: Read when it is there and no other file is named.
USUAL_FILE = "config.yaml"


@click.command("show-config")
@takes_settings
def show_config_command(flags: Flags) -> None:
    """Show the settings, with variables replaced and defaults filled in.

    \b
    Example:
        zmqservices show-config -c config.yaml -d rpc_timeout=5

    Without -c, config.yaml is read if there is one. Passwords are shown as they are.
    """
    import yaml

    if flags.config_file is None and Path(USUAL_FILE).exists():
        flags = replace(flags, config_file=USUAL_FILE)
    settings = flags.setup()
    click.echo(yaml.safe_dump(settings, default_flow_style=False, allow_unicode=True), nl=False)
