"""`zmqservices show-config`: shows the settings that a command would use, and where each of them comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from zmqservices import configuration, constants
from zmqservices.cli.options import Flags, parse_definition, takes_settings

#: The file that is read if it exists and -c names no other.
USUAL_FILE = "config.yaml"


@click.command("show-config")
@takes_settings
def show_config_command(flags: Flags) -> None:
    """Show the value of every setting, and where it comes from: a default, the environment, a file or an option.

    \b
    Example:
        zmqservices show-config -c config.yaml -d rpc_timeout=5

    Without -c, the command reads config.yaml if there is one. The output is YAML, with the origin of each value in a
    comment. Variables such as ${NAME} are replaced, and passwords are shown as they are.
    """
    if flags.config_file is None and Path(USUAL_FILE).exists():
        flags = replace(flags, config_file=USUAL_FILE)
    settings = flags.setup()
    origins = origins_of(flags, settings)
    for key, value in sorted({**defaults(), **settings}.items(), key=lambda item: str(item[0])):
        click.echo(entry(key, value, origins.get(key, "default")), nl=False)


def defaults() -> dict[str, Any]:
    """The defaults of all settings. Settings without a default are left out."""
    found = {}
    for name, key in vars(constants).items():
        stem = name.removesuffix("_CONFIG_KEY")
        if stem != name and key in configuration.KNOWN_KEYS and hasattr(constants, f"DEFAULT_{stem}"):
            found[key] = getattr(constants, f"DEFAULT_{stem}")
    # This default depends on the directory, and is determined where the setting is used.
    found.pop(constants.BIND_ADDRESS_CONFIG_KEY, None)
    return found


def origins_of(flags: Flags, settings: Mapping[str, Any]) -> dict[str, str]:
    """The origin of each setting that is not a default."""
    origins = {}
    for key, variable in configuration.ENVIRONMENT.items():
        if os.environ.get(variable):
            origins[key] = f"environment, {variable}"
    if flags.config_file:
        origins.update(dict.fromkeys(configuration.load(flags.config_file), flags.config_file))
    origins.update((parse_definition(text)[0], "-d") for text in flags.define if parse_definition(text)[1] is not None)
    if flags.directory:
        origins[constants.DIRECTORY_CONFIG_KEY] = "--directory"
    if flags.namespace:
        origins[constants.NAMESPACE_CONFIG_KEY] = "--namespace"
    return {key: origin for key, origin in origins.items() if key in settings}


def entry(key: object, value: object, origin: str) -> str:
    """One setting as YAML, with a comment."""
    import yaml

    first, *rest = yaml.safe_dump({key: value}, default_flow_style=False, allow_unicode=True).splitlines()
    # A comment after a text that continues on the next line would become part of the text.
    lines = [f"{first}  # {origin}", *rest] if not rest or first.endswith(":") else [f"# {origin}", first, *rest]
    return "\n".join(lines) + "\n"
