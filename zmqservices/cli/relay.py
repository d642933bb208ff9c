"""`zmqservices relay`: delivers the events of publishers that ended and do not return."""

from __future__ import annotations

import logging
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import click

from zmqservices.cli import streams
from zmqservices.cli.log_setup import log_to_stderr
from zmqservices.cli.options import INSECURE, Flags, takes_settings
from zmqservices.cli.signals import stop_signals
from zmqservices.exceptions import CommandError
from zmqservices.log_helpers import escape_what_others_sent

if TYPE_CHECKING:
    from zmqservices.cluster.node import Node

_log = logging.getLogger(__name__)

#: Seconds between two searches for further journals, and checks whether all events are delivered.
LOOK_INTERVAL = 1.0


@click.command("relay")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@takes_settings
@INSECURE
@click.option("--once", is_flag=True, help="End when no event waits for any group any more.")
def relay_command(folder: str, flags: Flags, insecure: bool, once: bool) -> None:
    """Serve the journals in DIR that no process owns, so that their events reach their handlers.

    Use it for a host to which a service does not return, with journals that it left there. DIR is the folder of one
    namespace, JOURNAL_FOLDER/NAMESPACE. Journals with only dead letters are served too, so that `zmqservices events
    dead-letters` finds them.

    \b
    Example:
        zmqservices relay /var/lib/zmqservices/default
    """
    import gevent

    from zmqservices.cluster.node import Node
    from zmqservices.cluster.settings import Settings

    streams.outlive()
    escape_what_others_sent()
    log_to_stderr()
    path = Path(folder).resolve()
    given = replace(flags, insecure=insecure).setup()
    settings = Settings.read({**given, "JOURNAL_FOLDER": str(path.parent)})
    if unquote(path.name) != settings.namespace:
        raise CommandError(
            f"the journals of the namespace {settings.namespace!r} are in a folder of that name, not in {path.name!r}; "
            f"give --namespace {unquote(path.name)}, or the folder of {settings.namespace!r}"
        )
    node = Node.join(settings)
    relay = Relay(node, str(path), once)
    handlers = [gevent.signal_handler(number, relay.stop) for number in (*stop_signals(), signal.SIGINT)]
    try:
        click.echo(f"Relaying the events of orphaned journals in {path}", err=True)
        relay.run()
    finally:
        for handler in handlers:
            handler.cancel()
        node.leave()


class Relay:
    """Searches a folder for orphaned journals of all sources, and serves them."""

    def __init__(self, node: Node, folder: str, once: bool) -> None:
        from gevent.event import Event

        self._node = node
        self._folder = folder
        self._once = once
        self._over = Event()

    def stop(self) -> None:
        """End `run`, once the running deliveries are completed."""
        self._over.set()

    def run(self) -> None:
        """Serve orphans until `stop` is called or, with `once`, until all events are delivered."""
        from zmqservices.journal import Journal
        from zmqservices.utils.concurrency import in_thread

        while not self._over.is_set():
            orphans = in_thread(Journal.orphans, self._folder)
            for source in sorted({orphan.source for orphan in orphans} - set(self._node.publisher.sources)):
                self._node.publisher.open(source, has_journal=False)
                _log.info("relaying events of %s", source)
            if self._once and self._is_done():
                return
            self._over.wait(LOOK_INTERVAL)

    def _is_done(self) -> bool:
        sources = self._node.publisher.sources.values()
        return all(source.orphans.has_looked and source.is_empty for source in sources)
