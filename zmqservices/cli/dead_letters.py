"""`zmqservices events dead-letters`: lists dead letters, requeues them and drops them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from zmqservices.cli import complete
from zmqservices.cli.fullhelp import FullHelp
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import as_json, columns, timeout
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.cli.publishers import ask_all, check_group, journal, publishers
from zmqservices.exceptions import CommandError
from zmqservices.log_helpers import escaped_lines


@click.group("dead-letters", cls=FullHelp)
def dead_letters_command() -> None:
    """Look after dead letters: events that were put aside because their handler failed at every delivery.

    \b
    Examples:
        zmqservices events dead-letters ls orders
        zmqservices events dead-letters requeue orders mails.send:order.paid 17
        zmqservices events dead-letters drop orders mails.send:order.paid --all
    """


@dead_letters_command.command("ls")
@click.argument("source", shell_complete=complete.sources)
@click.argument("group", required=False)
@takes_settings
@as_json
@timeout
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True,
    help="The most dead letters to list from each publisher.",
)  # fmt: skip
def letters_ls_command(source: str, group: str | None, flags: Flags, as_json: bool, timeout: float, limit: int) -> None:
    """List dead letters, with the last error of each.

    \b
    Example:
        zmqservices events dead-letters ls orders
    """
    letters = _letters(flags, source, group, timeout, limit)
    if as_json:
        click.echo(to_json(letters, indent=2))
        return
    table = [("JOURNAL", "SEQ", "GROUP", "TYPE", "ATTEMPTS", "ERROR")]
    for one in letters:
        error = f"{one['error'].get('exc_type')}: {one['error'].get('value')}"
        table.append((one["journal"], str(one["seq"]), one["group"], one["type"], str(one["attempts"]), error[:100]))
    click.echo(columns(table) if letters else "no dead letters")


def _letters(flags: Flags, source: str, group: str | None, timeout: float, limit: int) -> list[dict[str, Any]]:
    with publishers(flags, source, timeout) as found:
        letters = [letter for _, answer in ask_all(found, "dead_letters", group, limit) for letter in answer]
        if group is not None and not letters:
            check_group(found, group)
        return letters


@dead_letters_command.command("show")
@click.argument("source", shell_complete=complete.sources)
@click.argument("group")
@click.argument("seq", type=int)
@takes_settings
@as_json
@timeout
@journal
def letters_show_command(
    source: str, group: str, seq: int, flags: Flags, as_json: bool, timeout: float, journal: str | None
) -> None:
    """Show one dead letter: its data, its headers, and the traceback of the last error.

    \b
    Example:
        zmqservices events dead-letters show orders mails.send:order.paid 17
    """
    letters = [
        one
        for one in _letters(flags, source, group, timeout, 1000)
        if one["seq"] == seq and journal in (None, one["journal"])
    ]
    if not letters:
        raise CommandError(f"{group} has no dead letter {seq}; `zmqservices events dead-letters ls {source}` lists them")
    for one in letters:
        if as_json:
            click.echo(to_json(one, indent=2))
            continue
        traceback = one["error"].pop("traceback", "")
        click.echo(to_json(one, indent=2))
        click.echo(escaped_lines(traceback), nl=False)


def _changes(verb: str, past: str, doc: str) -> Callable[..., None]:
    """Make the command `requeue` or `drop`, which is the name of the publishers' method too. `past`: its past participle."""

    @dead_letters_command.command(verb, help=doc)
    @click.argument("source", shell_complete=complete.sources)
    @click.argument("group")
    @click.argument("seqs", type=int, nargs=-1, metavar="[SEQ]...")
    @takes_settings
    @as_json
    @timeout
    @journal
    @click.option("--all", "all_of_them", is_flag=True, help="All dead letters of the group.")
    def command(
        source: str,
        group: str,
        seqs: tuple[int, ...],
        flags: Flags,
        as_json: bool,
        timeout: float,
        journal: str | None,
        all_of_them: bool,
    ) -> None:
        if bool(seqs) == all_of_them:
            raise CommandError("give the SEQ of each dead letter, or --all (and not both)")
        with publishers(flags, source, timeout) as found:
            count = sum(answer for _, answer in ask_all(found, verb, group, list(seqs) or None, journal))
        if seqs and not count:
            raise CommandError(f"{group} has no such dead letters; `zmqservices events dead-letters ls {source}` lists them")
        click.echo(to_json({"group": group, "count": count}) if as_json else f"{past} {count} dead letters")

    made: Callable[..., None] = command
    return made


_changes(
    "requeue",
    "requeued",
    """Deliver dead letters of GROUP again, with a new count of attempts.

    \b
    Examples:
        zmqservices events dead-letters requeue orders mails.send:order.paid 17 18
        zmqservices events dead-letters requeue orders mails.send:order.paid --all
    """,
)
_changes(
    "drop",
    "dropped",
    """Delete dead letters of GROUP for ever.

    \b
    Examples:
        zmqservices events dead-letters drop orders mails.send:order.paid 17
        zmqservices events dead-letters drop orders mails.send:order.paid --all
    """,
)
