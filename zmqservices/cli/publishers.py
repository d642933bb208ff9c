"""Finds the publishers of a source in the directory, and calls their admin methods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from zmqservices.cli.listing import did_you_mean, looked_up
from zmqservices.cli.options import Flags
from zmqservices.exceptions import BadRequest, CommandError, RemoteUnavailable, RpcTimeout, UnknownService
from zmqservices.observability.node_address import NodeAddress

if TYPE_CHECKING:
    from discovery import Record

#: The prefix of publishers' names in the directory: see `zmqservices.cluster.events.subscription`.
PREFIX = "events:"

journal = click.option(
    "--journal", metavar="ID",
    help="Only events of this journal; `events ls --json` shows the ids of journals.",
)  # fmt: skip


class RemotePublisher:
    """One publisher of a source, as the directory lists it. `ask` calls one of its admin methods."""

    def __init__(self, record: Record, settings: dict[str, Any], timeout: float) -> None:
        self.source = record.service.removeprefix(PREFIX)
        self.record = record
        self._settings = settings
        self._timeout = timeout

    def ask(self, method: str, /, *args: object, **kwargs: object) -> Any:
        from zmqservices.standalone.rpc import ServiceRpcProxy

        service = self.record.service
        directory = NodeAddress(self.record.endpoints["rpc"], self.record.public_key).only(service)
        own = {**self._settings, "DIRECTORY": directory, "serializer": "msgpack"}
        with ServiceRpcProxy(service, own, timeout=self._timeout) as proxy:
            return getattr(proxy, method)(*args, **kwargs)

    @property
    def name(self) -> str:
        """Host and process id, for people to read."""
        return f"{self.record.host}:{self.record.pid}"


@contextmanager
def publishers(flags: Flags, source: str | None, timeout: float) -> Iterator[list[RemotePublisher]]:
    """All publishers of `source` (None: of any). Raises UnknownService when `source` has no publisher."""
    settings = flags.setup()
    with looked_up(settings, timeout) as directory:
        listed = [seen.record for seen in directory.view().records.values() if seen.record.service.startswith(PREFIX)]
        found = [RemotePublisher(one, settings, timeout) for one in listed if source in (None, one.service.removeprefix(PREFIX))]
        if source is not None and not found:
            mend = did_you_mean(source, {one.service.removeprefix(PREFIX) for one in listed})
            raise UnknownService(
                source,
                f"no publisher of its events is listed; {mend}if one left journals behind, `zmqservices relay DIR` serves them; "
                f"{directory.describe()}",
            )
    yield sorted(found, key=lambda one: (one.source, one.record.instance))


def check_group(found: list[RemotePublisher], group: str) -> None:
    """Raises CommandError, with the name that was probably meant, if none of these publishers knows the group."""
    journals = [journal for _, answer in ask_all(found, "stats") for journal in answer["journals"]]
    known = {str(one["group"]) for journal in journals for one in journal["groups"]}
    if group not in known:
        raise CommandError(f"there is no group {group!r}; {did_you_mean(group, known)}".rstrip("; "))


def ask_all(found: list[RemotePublisher], method: str, /, *args: object, **kwargs: object) -> list[tuple[RemotePublisher, Any]]:
    """The publishers that answered, with their answers. Names those that did not on stderr.

    Raises CommandError if all of them refuse the request, and RemoteUnavailable if none of them answers.
    """
    answers, refusals = [], []
    for publisher in found:
        try:
            answers.append((publisher, publisher.ask(method, *args, **kwargs)))
        except BadRequest as refusal:
            refusals.append(refusal)
        except (RemoteUnavailable, RpcTimeout) as error:
            click.echo(f"no answer from {publisher.source} at {publisher.name}: {error}", err=True)
    if refusals and not answers:
        raise CommandError(str(refusals[0]))
    if found and not answers:
        raise RemoteUnavailable("no publisher has answered")
    return answers
