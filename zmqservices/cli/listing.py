"""The look-ups in the directory and the tables that commands share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from zmqservices import configuration, constants
from zmqservices.cli.alive import DEAD, is_dead
from zmqservices.exceptions import RemoteUnavailable, UnknownService
from zmqservices.log_helpers import escaped
from zmqservices.observability.node_address import OPERATORS

if TYPE_CHECKING:
    from discovery import Capabilities, Directory, Record, Seen, View

#: Seconds in which a directory must answer.
TIMEOUT = 3.0
#: Seconds in which it must answer if the answer only improves the text of an error.
HINT_TIMEOUT = 1.0
#: Seconds in which it must answer if nothing listens at the port of this machine's directory: a process may be about to host it.
NO_HOST_TIMEOUT = 0.3
#: The most names that a hint shows.
NAMED = 10

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
timeout = click.option(
    "--timeout", type=click.FloatRange(0), default=TIMEOUT, metavar="S", show_default=True,
    help="Seconds in which the directory must answer.",
)  # fmt: skip


def services_of(view: View) -> set[str]:
    """The names of services, without the publishers of events, which the directory also lists."""
    return {seen.record.service for seen in view.records.values() if not seen.record.service.startswith("events:")}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: `did you mean 'maths'? `, or the known names; empty if none are known."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(name[:80], names, n=1)
    if near:
        return f"did you mean {near[0]!r}? "
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"there are {escaped(', '.join(names[:NAMED]))}{more}; "


def with_near_services(error: UnknownService, settings: dict[str, Any]) -> UnknownService:
    """The error with a hint at a similar name. Asks the directory, since a caller's view has only the services that it called."""
    try:
        with looked_up(settings, HINT_TIMEOUT) as directory:
            mend = did_you_mean(error.service_name, services_of(directory.view()) - {error.service_name})
    except Exception:
        return error  # Only the hint is missing.
    return UnknownService(error.service_name, f"{mend}{error.reason}")


def directory_of(settings: dict[str, Any]) -> Directory:
    """A client of the directory, not yet started, that sees all services and hosts no registry. Raises DirectoryError."""
    import discovery
    from zmqservices.cluster.settings import keys_of

    cache = configuration.text(settings, constants.DIRECTORY_CACHE_CONFIG_KEY, None)
    return discovery.open_directory(
        configuration.directory_url(settings),
        namespace=configuration.namespace(settings),
        cache_dir=None if cache == "none" else cache,
        host=False,
        services="*",
        keys=keys_of(settings),
    )


@contextmanager
def looked_up(settings: dict[str, Any], timeout: float) -> Iterator[Any]:
    """A client of the directory during a block. This process never hosts the directory, since it soon ends.

    If the directory does not answer, the client has the last view from the disk. Raises RemoteUnavailable if there is none
    either. It is no error if no process hosts `local:`: no service runs on this machine.
    """
    directory = directory_of(settings)
    directory.start()
    try:
        has_no_host = nobody_hosts(directory.capabilities)
        has_answered = directory.wait_ready(min(timeout, NO_HOST_TIMEOUT) if has_no_host else timeout)
        knows_some = bool(directory.view().records)
        if not has_answered and not knows_some and not has_no_host:
            raise RemoteUnavailable(directory.describe())
        if not has_answered and knows_some:
            click.echo(f"the directory does not answer, so this is its last known state: {directory.describe()}", err=True)
        yield directory
    finally:
        directory.stop()


def nobody_hosts(capabilities: Capabilities) -> bool:
    """Whether the directory is this machine's own (`local:`) and no process hosts it."""
    if not capabilities.is_hosted_by_clients:
        return False
    import socket

    try:
        with socket.create_connection(capabilities.servers[0], 1.0):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


def address_of(record: Record) -> str:
    """The address of the instance; empty if it takes neither calls nor HTTP requests."""
    # The endpoint for operators belongs to the node, not to the service.
    others = (address for name, address in record.endpoints.items() if name != OPERATORS)
    return str(record.endpoints.get("rpc") or next(others, ""))


def state_of(seen: Seen) -> str:
    # A lease outlives its process for a while. On the same host the process itself can be checked.
    return DEAD if seen.record.state == "UP" and is_dead(seen.record) else str(seen.record.state)


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of texts as a table. Each column is as wide as its widest text.

    The texts may come from other processes, so control characters are shown as Python would write them.
    """
    rows = [tuple(map(escaped, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
