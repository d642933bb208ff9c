"""`zmqservices events groups`: the consumer groups that the directory knows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from zmqservices.cli import complete
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import as_json, columns, looked_up, timeout
from zmqservices.cli.options import Flags, takes_settings

if TYPE_CHECKING:
    from discovery import View


@click.command("groups")
@click.argument("source", required=False, shell_complete=complete.sources)
@takes_settings
@as_json
@timeout
def groups_command(source: str | None, flags: Flags, as_json: bool, timeout: float) -> None:
    """List the groups for which events are kept, also those without a live member.

    The list comes from the directory. `events ls` asks the publishers how many events wait for each group, and
    `events forget` removes a group that will not return.

    \b
    Example:
        zmqservices events groups orders
    """
    with looked_up(flags.setup(), timeout) as directory:
        groups = listed(directory.view(), source, time.time())
        if as_json:
            click.echo(to_json(groups, indent=2))
        elif groups:
            click.echo(columns(rows(groups)))
        else:
            click.echo(f"no group is known{f' of {source!r}' if source else ''}; {directory.describe()}", err=True)


def listed(view: View, source: str | None, now: float) -> list[dict[str, Any]]:
    """A mapping for each group, sorted by source and name.

    `gone`: seconds since it had a live member; None if it has one now. `forgotten_in`: seconds until it is forgotten.
    """
    from zmqservices.cluster.events.group_registrations import all_remembered
    from zmqservices.cluster.events.subscription import PUBLISHES, Subscription

    groups: dict[tuple[str, str], dict[str, Any]] = {}
    publishers: dict[str, int] = {}

    def group(want: Subscription) -> dict[str, Any]:
        new = {"source": want.source, "group": want.group, "kind": want.kind, "members": 0, "gone": None, "forgotten_in": None}
        return groups.setdefault((want.source, want.group), new)

    for want, note in all_remembered(view):
        entry = group(want)
        entry["gone"] = round(note.age(now), 1)
        entry["forgotten_in"] = round(note.ttl - note.age(now), 1)
    for seen in view.records.values():
        if seen.record.service.startswith(PUBLISHES):
            found = seen.record.service.removeprefix(PUBLISHES)
            publishers[found] = publishers.get(found, 0) + 1
            continue
        for want in filter(None, map(Subscription.from_dict, seen.record.subscriptions)):
            if want.reliable:
                entry = group(want)
                entry["members"] += 1
                entry["gone"] = entry["forgotten_in"] = None
    return [
        {**entry, "publishers": publishers.get(entry["source"], 0)}
        for key, entry in sorted(groups.items())
        if source in (None, entry["source"])
    ]


def rows(groups: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The groups as a table."""
    head = ("SOURCE", "GROUP", "KIND", "MEMBERS", "PUBLISHERS", "LAST MEMBER", "FORGOTTEN IN")
    return [
        head,
        *(
            (
                one["source"], one["group"], one["kind"], str(one["members"]), str(one["publishers"]),
                "now" if one["gone"] is None else f"{span(one['gone'])} ago",
                "-" if one["forgotten_in"] is None else span(one["forgotten_in"]),
            )
            for one in groups
        ),
    ]  # fmt: skip


def span(seconds: float) -> str:
    """A duration for people, in the largest unit of which there are at least two."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
