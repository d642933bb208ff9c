"""`zmqservices ls`: lists the services of the directory, and with --ejections their ejected instances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from zmqservices import configuration
from zmqservices.cli.alive import DEAD
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import TIMEOUT, address_of, as_json, columns, looked_up, state_of
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.log_helpers import escaped

if TYPE_CHECKING:
    from discovery import Seen, View
    from zmqservices.cli.nodes import NodeAnswer


@click.command("ls")
@takes_settings
@click.option(
    "--ejections", "with_ejections", is_flag=True,
    help="Also ask all nodes, and show each instance that callers have ejected.",
)  # fmt: skip
@as_json
@click.option(
    "--timeout", type=click.FloatRange(0), default=TIMEOUT, metavar="S", show_default=True,
    help="Seconds in which the directory, and with --ejections each node, must answer.",
)  # fmt: skip
def ls_command(flags: Flags, with_ejections: bool, as_json: bool, timeout: float) -> None:
    """List the services of the namespace, with their instances.

    The list comes from the directory. The directory does not know of ejections, since each caller decides for itself;
    with --ejections the command asks the nodes too.

    \b
    Examples:
        zmqservices ls --directory tcp://10.0.0.5:4190 --json
        zmqservices ls --ejections
    """
    if with_ejections and not timeout:
        raise click.UsageError("--timeout is 0, so no node has time to answer; with --ejections, give more than 0 seconds")
    settings = flags.setup()
    with looked_up(settings, timeout) as directory:
        view, described = directory.view(), directory.describe()
    services = summaries(view)
    answers: list[NodeAnswer] = []
    if with_ejections:
        from zmqservices.cli.nodes import ask, nodes_of

        alive = [seen for seen in view.records.values() if state_of(seen) != DEAD]
        answers = ask(settings, nodes_of(alive, None), "stats", timeout)
        add_ejections(services, view, answers)
    if as_json:
        click.echo(to_json(services, indent=2))
    elif services:
        click.echo(table(services))
        lines = ejected_lines(services)
        if lines:
            click.echo("\n" + "\n".join(lines))
    else:
        click.echo(f"no services in the namespace {configuration.namespace(settings)!r}; {described}", err=True)
    if answers:
        from zmqservices.cli.nodes import complain_of

        complain_of(answers)


def summaries(view: View) -> list[dict[str, Any]]:
    """A mapping for each service, sorted by name."""
    by_name: dict[str, list[Seen]] = {}
    for seen in view.records.values():
        if seen.record.service.startswith("events:"):
            continue  # The directory also lists publishers of events; `zmqservices events ls` shows them.
        by_name.setdefault(seen.record.service, []).append(seen)
    return [
        {
            "service": name,
            "instances": len(seen),
            "up": sum(state_of(one) == "UP" and not one.suspect for one in seen),
            "addresses": sorted(filter(None, (address_of(one.record) for one in seen))),
        }
        for name, seen in sorted(by_name.items())
    ]


def add_ejections(services: Iterable[dict[str, Any]], view: View, answers: Iterable[NodeAnswer]) -> None:
    """Add to each service of `summaries(view)` the list `ejected` of its ejected instances, from the answers to `stats`.

    Each entry has the number of `callers` that know the instance, and `ejected_by`: the nodes that have ejected it, and why.
    `ejected` is None if no node has answered.
    """
    told = [one.answer for one in answers if one.answer is not None]
    callers: dict[tuple[str, str], set[str]] = {}
    ejected_by: dict[tuple[str, str], dict[str, str]] = {}
    for answer in told:
        # A node of an earlier release tells nothing of its callees.
        for callee in answer.get("callees", ()):
            for instance in callee["instances"]:
                key = (callee["service"], instance["instance"])
                callers.setdefault(key, set()).add(answer["node"])
                if instance["condition"] == "ejected":
                    ejected_by.setdefault(key, {})[answer["node"]] = instance["why"]
    by_name = {service["service"]: service for service in services}
    for service in by_name.values():
        service["ejected"] = [] if told else None
    for seen in sorted(view.records.values(), key=lambda one: one.record.rank):
        record = seen.record
        key = (record.service, record.instance)
        if key in ejected_by and record.service in by_name:
            by_name[record.service]["ejected"].append({
                "instance": record.instance,
                "address": address_of(record),
                "callers": len(callers[key]),
                "ejected_by": dict(sorted(ejected_by[key].items())),
            })  # fmt: skip


def table(services: Sequence[Mapping[str, Any]]) -> str:
    """The services as a table; with the column EJECTED if the nodes were asked."""
    asked = any("ejected" in one for one in services)
    rows = [("SERVICE", "INSTANCES", "UP", *(["EJECTED"] if asked else []), "ADDRESSES")]
    for one in services:
        ejected = ["-" if one["ejected"] is None else str(len(one["ejected"]))] if asked else []
        rows.append((one["service"], str(one["instances"]), str(one["up"]), *ejected, " ".join(one["addresses"]) or "-"))
    return columns(rows)


def ejected_lines(services: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each instance that some caller has ejected."""
    return [
        escaped(
            f"instance {one['instance']} of {service['service']} at {one['address']}: "
            f"ejected by {len(one['ejected_by'])} of {one['callers']} callers"
        )
        for service in services for one in service.get("ejected") or ()
    ]  # fmt: skip
