"""The command line: `discovery serve`, `list` and `watch`. Errors are one sentence.

Internal. Operators use `zmqservices registry`, or `python -m discovery`.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import click

from discovery.accepting import raise_soft_limit
from discovery.backend import Directory
from discovery.client.seeds import LOCAL_PORT, bind_address
from discovery.directory import open_directory
from discovery.exceptions import DirectoryConfigurationError, DirectoryError
from discovery.model import DEFAULT_TTL, Seen, View, is_ttl
from discovery.security.keys import Keys
from discovery.server.limits import NO_LIMIT, RegistryLimits, option_of
from discovery.server.registry_server import RegistryServer

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

#: Loopback: a registry is reachable from other hosts only when the user says so.
DEFAULT_BIND = f"tcp://127.0.0.1:{LOCAL_PORT}"
#: Seconds in which a registry must have bound its port.
BIND_TIMEOUT = 5.0

directory_option = click.option(
    "--directory",
    "url",
    metavar="URL",
    envvar="ZMQSERVICES_DIRECTORY",
    default="local:",
    show_default=True,
    show_envvar=True,
    help="The directory to ask: local:, tcp://HOST:PORT[,tcp://HOST:PORT...], etcd://HOST:PORT/PREFIX, zookeeper://..., "
    "consul://..., dns://NAME:PORT or static:...",
)
namespace_option = click.option(
    "--namespace", default=None, metavar="NAME", help="Show only this namespace. [default: all namespaces]"
)
security_option = click.option(
    "--security",
    metavar="DIR",
    envvar="ZMQSERVICES_SECURITY",
    show_envvar=True,
    help="The folder with the keys of this process. With it, connections are encrypted.",
)
insecure_option = click.option(
    "--insecure",
    is_flag=True,
    envvar="ZMQSERVICES_INSECURE",
    show_envvar=True,
    help="Listen beyond loopback without --security: everybody who reaches the address may register, withdraw and read.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each limit."""
    for one in reversed(fields(RegistryLimits)):
        least, most = one.metadata["least"], one.metadata["most"]
        allowed = click.IntRange(least, None if most == NO_LIMIT else most)
        option = click.option(
            option_of(one.name), type=allowed, default=one.default, show_default=True, metavar="N", help=one.metadata["help"]
        )
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Run a registry of service instances, or show the instances that the directory lists."""


@cli.command()
@click.option(
    "--bind", default=DEFAULT_BIND, show_default=True, metavar="tcp://HOST:PORT", help="The address to listen at."
)
@click.option(
    "--ttl", default=DEFAULT_TTL, show_default=True, metavar="S",
    help="Seconds after the start in which running services register again, and clients delete nothing.",
)  # fmt: skip
@_limit_options
@json_option
@security_option
@insecure_option
def serve(
    bind: str,
    ttl: float,
    as_json: bool,
    security: str | None,
    insecure: bool,
    **limits: int,
) -> None:
    """Run a registry until SIGTERM, SIGHUP or Ctrl-C stops it.

    \b
    Examples:
        zmqservices registry serve
        zmqservices registry serve --bind tcp://10.0.0.5:4190 --security cluster/registry
    """
    if not is_ttl(ttl):
        raise click.ClickException(f"--ttl is {ttl:g}; seconds from 0.1 to 3600 are needed")
    raise_soft_limit()
    stop = threading.Event()
    for number in _stop_signals():
        signal.signal(number, lambda *_: stop.set())
    try:
        keys = _keys(security)
        if keys is not None and not keys.certificate.is_registry:
            raise DirectoryConfigurationError(
                f"{keys.folder} has the keys of {keys.certificate.name!r}; a registry needs those in the folder 'registry' that "
                "`zmqservices keys init` made, or in one that `zmqservices keys issue NAME --registry` makes"
            )
        server = RegistryServer(
            bind_address(bind),
            ttl=ttl,
            keys=keys,
            insecure=insecure,
            limits=RegistryLimits(**limits),
        )
        server.start()
        server.wait_bound(BIND_TIMEOUT)
    except DirectoryError as exc:
        raise click.ClickException(str(exc)) from exc
    line: dict[str, Any] = {"event": "serving", "url": server.url, "boot_id": server.boot_id}
    _print_if_possible(json.dumps(line) if as_json else f"serving at {server.url}")
    while not stop.wait(0.5):
        if not server.is_serving:
            raise click.ClickException(f"the registry at {server.url} failed; see its log")
    server.stop()


@cli.command("list")
@directory_option
@namespace_option
@json_option
@security_option
@click.option("--timeout", default=5.0, show_default=True, metavar="S", help="Seconds in which the directory must answer.")
def list_(url: str, namespace: str | None, as_json: bool, security: str | None, timeout: float) -> None:
    """List the known instances, with the state, the age of the lease, and the addresses of each.

    \b
    Examples:
        zmqservices registry list
        zmqservices registry list --directory tcp://10.0.0.5:4190 --json
    """
    directory = _open(url, namespace, security)
    try:
        directory.start()
        if not directory.wait_ready(timeout):
            raise click.ClickException(f"no registry answered within {timeout:g} s: {directory.describe()}")
        view = directory.view()
    finally:
        directory.stop()
    if as_json:
        records = [_to_json(seen) for seen in _sorted(view)]
        click.echo(
            json.dumps({"fresh": view.fresh, "registries": list(view.registries), "records": records}, default=repr)
        )
        return
    if not view.records:
        click.echo("no instance is known" + ("" if view.fresh else " yet: the registry is warming up"))
        return
    header = ["NAMESPACE", "SERVICE", "INSTANCE", "STATE", "AGE", "ENDPOINTS", "PROCESS"]
    rows = [header, *(_row(seen) for seen in _sorted(view))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@cli.command()
@directory_option
@namespace_option
@json_option
@security_option
def watch(url: str, namespace: str | None, as_json: bool, security: str | None) -> None:
    """Show each instance that is added, changed or removed, until a signal stops the command.

    Shows all known instances first, as added.

    \b
    Examples:
        zmqservices registry watch
        zmqservices registry watch --namespace default --json
    """
    directory = _open(url, namespace, security)
    views: queue.SimpleQueue[View | None] = queue.SimpleQueue()
    for number in _stop_signals():
        signal.signal(number, lambda *_: views.put(None))
    directory.subscribe(views.put)
    known: Mapping[str, Seen] = {}
    try:
        directory.start()
        while (view := views.get()) is not None:
            for event, seen in _differences(known, view.records):
                line = {"event": event, **_to_json(seen)}
                click.echo(
                    json.dumps(line, default=repr) if as_json else "  ".join([event.ljust(7), *_row(seen)])
                )
            known = view.records
    finally:
        directory.stop()


def _print_if_possible(line: str) -> None:
    try:
        click.echo(line)
    except OSError:
        # The parent has closed the pipe. Go on serving, and discard what Python still buffers for the pipe.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _stop_signals() -> list[int]:
    # Closing a terminal sends SIGHUP. Under nohup it is ignored, and stays ignored.
    signals = [signal.SIGTERM, signal.SIGINT]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return [int(number) for number in signals]


def _keys(folder: str | None) -> Keys | None:
    return Keys.read(folder) if folder else None


def _open(url: str, namespace: str | None, security: str | None) -> Directory:
    try:
        return open_directory(url, namespace=namespace, host=False, services="*", keys=_keys(security))
    except DirectoryConfigurationError as exc:
        raise click.ClickException(str(exc)) from exc


def _sorted(view: View) -> list[Seen]:
    return sorted(
        view.records.values(),
        key=lambda seen: (seen.record.namespace, seen.record.service, seen.record.instance),
    )


def _differences(before: Mapping[str, Seen], after: Mapping[str, Seen]) -> list[tuple[str, Seen]]:
    removed = [("removed", seen) for instance, seen in before.items() if instance not in after]
    added = [("added", seen) for instance, seen in after.items() if instance not in before]
    changed = [
        ("changed", seen)
        for instance, seen in after.items()
        if instance in before and _essence(seen) != _essence(before[instance])
    ]
    return removed + changed + added


def _essence(seen: Seen) -> tuple[Any, ...]:
    return (seen.record, seen.suspect)


def _to_json(seen: Seen) -> dict[str, Any]:
    fields = seen.record.to_dict()
    # The file was checked above, and the process may not read it any more.
    fields.pop("signed", None)
    return {**fields, "age": round(seen.age, 3), "suspect": seen.suspect}


def _row(seen: Seen) -> list[str]:
    record = seen.record
    cells = [
        record.namespace,
        record.service,
        record.instance,
        record.state + (" (suspect)" if seen.suspect else ""),
        f"{seen.age:.1f} s",
        ",".join(f"{kind}={endpoint}" for kind, endpoint in sorted(record.endpoints.items())),
        f"{record.host}:{record.pid}" if record.host or record.pid else "",
    ]
    # Other processes chose these texts: they must not move the cursor or begin a new line.
    return [_CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), cell) for cell in cells]


def main() -> None:
    """The console script."""
    cli(prog_name="discovery")
