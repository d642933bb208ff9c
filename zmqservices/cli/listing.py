"""`zmqservices ls` and `zmqservices inspect`: who is there, as the directory knows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from zmqservices import configuration, constants
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.exceptions import RemoteUnavailable, UnknownService

#: Seconds that a directory gets to answer.
PATIENCE = 3.0

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
timeout = click.option(
    "--timeout", type=click.FloatRange(0), default=PATIENCE, metavar="S", show_default=True,
    help="Seconds that the directory gets to answer.",
)  # fmt: skip


@click.command("ls")
@takes_settings
@as_json
@timeout
def ls_command(flags: Flags, as_json: bool, timeout: float) -> None:
    """List the services of the namespace, with their instances.

    \b
    Example:
        zmqservices ls --directory tcp://10.0.0.5:4190 --json
    """
    settings = flags.setup()
    with looked_up(settings, timeout) as directory:
        services = summaries(directory.view())
        if as_json:
            click.echo(to_json(services, indent=2))
        elif services:
            click.echo(table(services))
        else:
            namespace = configuration.namespace(settings)
            click.echo(f"no services in the namespace {namespace!r}; {directory.describe()}", err=True)


@click.command("inspect")
@click.argument("service")
@takes_settings
@as_json
@timeout
def inspect_command(service: str, flags: Flags, as_json: bool, timeout: float) -> None:
    """Show one service: its methods with signatures and docstrings, its instances with addresses and lease
    ages.

    \b
    Example:
        zmqservices inspect helloworld
    """
    settings = flags.setup()
    with looked_up(settings, timeout) as directory:
        description = describe(service, directory.view())
        if not description["instances"]:
            raise UnknownService(service, f"no instance is known; {directory.describe()}")
    click.echo(to_json(description, indent=2) if as_json else page(description))


@contextmanager
def looked_up(settings: dict[str, Any], timeout: float) -> Iterator[Any]:
    """A directory that has answered, or has nothing to say. It is never hosted here, since this process soon
    ends.

    Raises RemoteUnavailable when a registry elsewhere does not answer and nothing is known of what it last
    said.
    """
    import discovery

    url = configuration.directory_url(settings)
    cache = configuration.text(settings, constants.DIRECTORY_CACHE_CONFIG_KEY, None)
    directory = discovery.open_directory(
        url,
        namespace=configuration.namespace(settings),
        cache_dir=None if cache == "none" else cache,
        host=False,
    )
    directory.start()
    try:
        has_answered = directory.wait_ready(timeout)
        knows_some = bool(directory.view().records)
        if not has_answered and not knows_some and not url.startswith("local"):
            raise RemoteUnavailable(directory.describe())
        if not has_answered and knows_some:
            click.echo(f"Nothing answers; this is the last known view: {directory.describe()}", err=True)
        yield directory
    finally:
        directory.stop()


def summaries(view: Any) -> list[dict[str, Any]]:
    """One mapping for each service, by name."""
    by_name: dict[str, list[Any]] = {}
    for seen in view.records.values():
        if seen.record.service.startswith("events:"):
            continue  # Publishers of events stand beside services; `zmqservices events ls` shows them.
        by_name.setdefault(seen.record.service, []).append(seen)
    return [
        {
            "service": name,
            "instances": len(seen),
            "up": sum(one.record.state == "UP" and not one.suspect for one in seen),
            "addresses": sorted(_address(one.record) for one in seen),
        }
        for name, seen in sorted(by_name.items())
    ]


def _address(record: Any) -> str:
    return str(record.endpoints.get("rpc") or next(iter(record.endpoints.values()), "-"))


def describe(service: str, view: Any) -> dict[str, Any]:
    """All that is known of one service: its methods as the newest instance has them, and its instances."""
    seen = sorted(
        (one for one in view.records.values() if one.record.service == service),
        key=lambda one: one.record.rank,
    )
    return {
        "service": service,
        "methods": dict(sorted(seen[-1].record.methods.items())) if seen else {},
        "instances": [_instance(one) for one in seen],
    }


def _instance(seen: Any) -> dict[str, Any]:
    record = seen.record
    return {
        "instance": record.instance,
        "state": record.state,
        "suspect": seen.suspect,
        "addresses": dict(record.endpoints),
        "host": record.host,
        "pid": record.pid,
        "lease_age": round(seen.age, 3),
        "ttl": record.ttl,
        "zone": record.zone,
        "weight": record.weight,
        "tags": record.tags,
    }


def table(services: list[dict[str, Any]]) -> str:
    """The services in columns."""
    rows = [("SERVICE", "INSTANCES", "UP", "ADDRESSES")]
    rows += [(one["service"], str(one["instances"]), str(one["up"]), " ".join(one["addresses"])) for one in services]
    return columns(rows)


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of texts, each column as wide as its widest; the last one is not filled up."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def page(description: dict[str, Any]) -> str:
    """What `describe` gave, for people."""
    parts = [description["service"]]
    for name, method in description["methods"].items():
        note = "  (idempotent)" if method.get("idempotent") else ""
        parts.append(f"\n  {name}{method.get('signature') or '(...)'}{note}")
        parts += [f"      {line}".rstrip() for line in (method.get("doc") or "").strip().splitlines()]
    rows = [("INSTANCE", "STATE", "ADDRESS", "HOST", "PID", "LEASE AGE")]
    for one in description["instances"]:
        state = f"{one['state']} (suspect)" if one["suspect"] else one["state"]
        address = " ".join(f"{kind}={endpoint}" for kind, endpoint in sorted(one["addresses"].items())) or "-"
        age = f"{one['lease_age']:.1f} s of {one['ttl']:g} s"
        rows.append((one["instance"], state, address, one["host"] or "-", str(one["pid"] or "-"), age))
    return "\n".join([*parts, "", *(f"  {line}" for line in columns(rows).splitlines())])
