"""`zmqservices registry serve | list | watch`: the commands of `python -m discovery`, under the one program."""

from __future__ import annotations

import click


class _CommandsOfDiscovery(click.Group):
    """A group that imports its commands when they are needed, since they import ZeroMQ."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from discovery.cli import cli

        return cli.list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from discovery.cli import cli

        return cli.get_command(ctx, cmd_name)


@click.command("registry", cls=_CommandsOfDiscovery)
def registry_command() -> None:
    """Run a registry, or show the instances that the directory lists.

    A registry is needed when services run on more than one machine. On one machine, the first service hosts one by itself.
    `python -m discovery` has the same commands.

    \b
    Examples:
        zmqservices registry serve --bind tcp://10.0.0.5:4190 --security cluster/registry
        zmqservices registry list --directory tcp://10.0.0.5:4190
        zmqservices registry watch
    """
