"""`zmqservices events`: shows and changes waiting events, consumer groups and dead letters, and follows events."""

from __future__ import annotations

import datetime
import re
import time
from typing import Any

import click

from zmqservices.cli import complete
from zmqservices.cli.dead_letters import dead_letters_command
from zmqservices.cli.fullhelp import FullHelp
from zmqservices.cli.groups import groups_command
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import as_json, columns, looked_up, timeout
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.cli.publishers import ask_all, journal, publishers
from zmqservices.cli.tail import tail_command
from zmqservices.exceptions import CommandError, RemoteUnavailable, UnknownService
from zmqservices.log_helpers import escaped

SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.group("events", cls=FullHelp)
def events_command() -> None:
    """Look after events: waiting events, consumer groups, dead letters, and events as they happen.

    \b
    Examples:
        zmqservices events ls
        zmqservices events groups
        zmqservices events tail orders 'order.*'
        zmqservices events dead-letters ls orders
    """


@events_command.command("ls")
@click.argument("source", required=False, shell_complete=complete.sources)
@takes_settings
@as_json
@timeout
def ls_command(source: str | None, flags: Flags, as_json: bool, timeout: float) -> None:
    """List publishers, the groups for which they keep events, and how many events wait for each group.

    \b
    Examples:
        zmqservices events ls
        zmqservices events ls orders --json
    """
    with publishers(flags, source, timeout) as found:
        stats = [answer for _, answer in ask_all(found, "stats")]
    if as_json:
        click.echo(to_json(stats, indent=2))
    elif stats:
        click.echo(columns(rows(stats)))
    else:
        click.echo("no publisher of events is listed", err=True)


def rows(stats: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The answers of publishers as a table, with a line for each group of each journal."""
    head = ("SOURCE", "PUBLISHER", "GROUP", "MEMBERS", "WAITING", "OLDEST", "IN FLIGHT", "DEAD LETTERS", "LOST")
    table: list[tuple[str, ...]] = [head]
    for one in stats:
        where = f"{one['host']}:{one['pid']}"
        lines = len(table)
        for kept in one["journals"]:
            place = where if kept["own"] else f"{where} (adopted)"
            for group in kept["groups"]:
                name = group["group"] + (" (expired)" if group["has_expired"] else "")
                oldest = "-" if group["oldest_age"] is None else f"{group['oldest_age']:.0f} s"
                counts = [group["waiting"], oldest, group["in_flight"], group["dead_letters"], group["lost"]]
                table.append((one["source"], place, name, str(len(group["members"])), *map(str, counts)))
        for group in one["best_effort"]:
            name = f"{group['group']} (best effort)"
            table.append((one["source"], where, name, str(group["members"]), "-", "-", "-", "-", "-"))
        if len(table) == lines:
            table.append((one["source"], where, "-", "0", "0", "-", "0", "0", "0"))
    return table


@events_command.command("replay")
@click.argument("source", shell_complete=complete.sources)
@click.argument("group")
@takes_settings
@as_json
@timeout
@click.option(
    "--since", metavar="WHEN",
    help="Replay from this time on: ISO 8601 such as 2026-03-01T08:00, or 90s, 10m, 2h, 1d ago. [default: all kept events]",
)  # fmt: skip
@click.option(
    "--after", type=click.IntRange(0), metavar="SEQ",
    help="Replay the events after this sequence number of the journal.",
)  # fmt: skip
@journal
def replay_command(
    source: str,
    group: str,
    flags: Flags,
    as_json: bool,
    timeout: float,
    since: str | None,
    after: int | None,
    journal: str | None,
) -> None:
    """Deliver events to GROUP again.

    Events that are older than the setting JOURNAL_RETENTION may be deleted already, and are not replayed.

    \b
    Examples:
        zmqservices events replay orders mails.send:order.paid --since 2h
        zmqservices events replay orders mails.send:order.paid --since 2026-03-01T08:00
    """
    if since is not None and after is not None:
        raise CommandError("--since and --after cannot be used together; leave one out")
    where = {"to_seq": after} if after is not None else {"to_time": moment(since) if since else 0.0}
    with publishers(flags, source, timeout) as found:
        answers = ask_all(found, "rewind", group, journal=journal, **where)
    cursors = {key: at for _, answer in answers for key, at in answer.items()}
    if as_json:
        click.echo(to_json({"group": group, "journals": cursors}))
    else:
        for key, at in sorted(cursors.items()):
            click.echo(rewound(group, key, at))


def rewound(group: str, key: str, after: int) -> str:
    """The line that reports the replay of one journal."""
    what = f"the events after {after}" if after else "all kept events"
    return f"{group} receives again {what} of the journal {escaped(key)}"


def moment(text: str) -> float:
    """Seconds since 1970 of a time in ISO 8601, or of a span such as 90s ago. Raises CommandError for anything else."""
    span = SPAN.fullmatch(text)
    if span:
        return time.time() - float(span[1]) * SECONDS[span[2]]
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise CommandError(f"{text!r} is no time; 2026-03-01T08:00 or 90s, 10m, 2h, 1d is needed") from None


@events_command.command("forget")
@click.argument("source", shell_complete=complete.sources)
@click.argument("group")
@takes_settings
@as_json
@timeout
def forget_command(source: str, group: str, flags: Flags, as_json: bool, timeout: float) -> None:
    """Forget GROUP: delete the events that wait for it, and keep no more events for it.

    The publishers of SOURCE and the directory forget the group. If it returns, it gets the events from then on.

    \b
    Example:
        zmqservices events forget orders oldservice.method:order.paid
    """
    try:
        with publishers(flags, source, timeout) as found:
            known = sum(answer for _, answer in ask_all(found, "forget", group))
    except UnknownService:
        if not _forget_in_directory(flags, source, group, timeout):
            raise
        known = 0
    else:
        if not (_forget_in_directory(flags, source, group, timeout) or known):
            raise CommandError(
                f"neither a publisher of {source!r} nor the directory knows the group {group!r}; `zmqservices events groups` "
                "lists groups"
            )
    told = f"the directory and {known} publishers have forgotten {group}"
    click.echo(to_json({"group": group, "publishers": known}) if as_json else told)


def _forget_in_directory(flags: Flags, source: str, group: str, timeout: float) -> bool:
    """Whether the directory remembered the group, and has forgotten it now."""
    from zmqservices.cluster.events.group_registrations import key_of, remembered

    with looked_up(flags.resolve(), timeout) as directory:
        if remembered(directory.view(), source).get(group) is None:
            return False
        directory.delete(key_of(source, group))
        if not directory.flush(timeout):
            raise RemoteUnavailable(
                f"the directory has not confirmed that it forgot the group; run the command again; {directory.describe()}"
            )
        return True


for command in (groups_command, tail_command, dead_letters_command):
    events_command.add_command(command)
