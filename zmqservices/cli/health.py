"""`zmqservices health`: checks whether instances answer, for people, load balancers and probes of an orchestrator."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from zmqservices.cli import complete
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import address_of, as_json, columns, did_you_mean, looked_up, services_of, state_of
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.exceptions import RemoteUnavailable, UnknownService

if TYPE_CHECKING:
    from discovery import Record, Seen
    from zmqservices.cluster.health import Greeting

OK, DRAINING, LISTED = "ok", "draining", "listed"


@click.command("health")
@click.argument("services", nargs=-1, metavar="[SERVICE]...", shell_complete=complete.services)
@takes_settings
@click.option("--here", is_flag=True, help="Ask only the instances of this host, for a probe inside a container.")
@click.option(
    "--all", "every", is_flag=True,
    help="Fail unless every instance is healthy. By default, one healthy instance of each service is enough.",
)  # fmt: skip
@as_json
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=3.0, metavar="S", show_default=True,
    help="Seconds in which the directory and the instances must answer.",
)  # fmt: skip
def health_command(
    services: tuple[str, ...], flags: Flags, here: bool, every: bool, as_json: bool, timeout: float
) -> None:
    """Ask the instances of services, or of all services, whether they answer.

    The command sends each instance a greeting and runs no method, so an instance whose workers are all busy is healthy. An
    instance that is draining is not healthy, since it takes no new calls. An instance without @rpc methods is not asked: its
    HEALTH is "listed", and it is healthy, while its lease in the directory is valid.

    \b
    Examples:
        zmqservices health
        zmqservices health maths --all
        zmqservices health maths --here --timeout 1

    Exit codes: 0 healthy, 2 wrong command line or configuration, 3 no such service, 5 no healthy instance.
    """
    settings = flags.setup()
    with looked_up(settings, timeout) as directory:
        view = directory.view()
        for service in services:
            if service not in services_of(view):
                raise UnknownService(
                    service, f"no instance is known; {did_you_mean(service, services_of(view))}{directory.describe()}"
                )
        seen = [one for one in view.records.values() if _is_wanted(one.record, services, here)]
    found = judged(seen, settings, timeout)
    if as_json:
        click.echo(to_json(found, indent=2))
    elif found:
        click.echo(_table(found))
    complaint = complaint_of(services, found, here, every)
    if complaint:
        raise RemoteUnavailable(complaint)


def _is_wanted(record: Record, services: Sequence[str], here: bool) -> bool:
    if record.service.startswith("events:") or (here and record.host != platform.node()):
        return False
    return not services or record.service in services


def judged(seen: Iterable[Seen], settings: dict[str, Any], timeout: float) -> list[dict[str, Any]]:
    """One mapping for each instance: `service`, `instance`, `address`, `health`, `seconds`, `is_healthy`."""
    from zmqservices.cluster.health import greet
    from zmqservices.cluster.node import new_id
    from zmqservices.cluster.settings import Settings

    instances = sorted(seen, key=lambda one: (one.record.service, one.record.instance))
    read = Settings.read(settings)
    addresses = {one.record.endpoints["rpc"]: one.record.public_key for one in instances if "rpc" in one.record.endpoints}
    answers = {one.endpoint: one for one in greet(addresses, new_id(), read.namespace, timeout, read.sockets)}
    return [_judged(one, answers.get(one.record.endpoints.get("rpc", ""))) for one in instances]


def _judged(seen: Seen, answer: Greeting | None) -> dict[str, Any]:
    record, seconds = seen.record, None
    if answer is None:
        state = "suspect" if seen.suspect else state_of(seen)
        health = LISTED if state == "UP" else state.lower()
    elif answer.seconds is None:
        health = answer.problem
    else:
        seconds = round(answer.seconds, 6)
        health = _health_of(record, answer.services.get(record.service))
    return {
        "service": record.service,
        "instance": record.instance,
        "address": address_of(record),
        "health": health,
        "seconds": seconds,
        "is_healthy": health in (OK, LISTED),
    }


def _health_of(record: Record, served: object) -> str:
    if not isinstance(served, dict):
        return "no longer serves it"
    if served.get("draining"):
        return DRAINING
    instances = served.get("instances")
    # A directory of fixed addresses (static:) has no ids of instances.
    return OK if not record.node or not isinstance(instances, list) or record.instance in instances else DRAINING


def complaint_of(services: Sequence[str], found: list[dict[str, Any]], here: bool, every: bool) -> str:
    """Why the command fails; "" if all instances are healthy that must be."""
    where = " of this host" if here else ""
    names = sorted(set(services) or {one["service"] for one in found})
    if not names:
        return f"no service{where} is listed"
    ill = [f"{one['service']} {one['instance']}: {one['health']}" for one in found if not one["is_healthy"]]
    if every and ill:
        return f"{len(ill)} of {len(found)} instances{where} are not healthy: {'; '.join(ill[:5])}"
    healthy = {one["service"] for one in found if one["is_healthy"]}
    without = [name for name in names if name not in healthy]
    if without:
        return f"no healthy instance{where} of {', '.join(without[:10])}"
    return ""


def _table(found: list[dict[str, Any]]) -> str:
    rows: list[tuple[str, ...]] = [("SERVICE", "INSTANCE", "ADDRESS", "HEALTH", "ANSWERED IN")]
    for one in found:
        took = "-" if one["seconds"] is None else f"{one['seconds'] * 1000:.1f} ms"
        rows.append((one["service"], one["instance"], one["address"] or "-", one["health"], took))
    return columns(rows)
