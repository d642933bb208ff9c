"""A group whose --help shows the first sentence of each command whole, on as many lines as it takes."""

from __future__ import annotations

import click

#: Characters of a summary: more than any has.
WHOLE = 1000


class FullHelp(click.Group):
    """As click's own, which cuts summaries to what is left of a line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(WHOLE)) for name, command in found if command and not command.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
