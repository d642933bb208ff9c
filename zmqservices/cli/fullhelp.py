"""A command group whose --help shows the whole first sentence of each command."""

from __future__ import annotations

import click

#: The most characters of a summary: more than any summary has.
WHOLE = 1000


class FullHelp(click.Group):
    """Like click's group, which cuts summaries to one line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(WHOLE)) for name, command in found if command and not command.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
