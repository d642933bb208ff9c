"""`zmqservices events tail`: shows events as they happen, without a consumer group."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING, Any

import click

from zmqservices.cli import complete
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import HINT_TIMEOUT, TIMEOUT, as_json, did_you_mean, looked_up
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.exceptions import RemoteUnavailable
from zmqservices.log_helpers import escaped

if TYPE_CHECKING:
    from zmqservices.cluster.events.subscriber import IncomingEvent
    from zmqservices.cluster.node import Node
    from zmqservices.wire.messages import Event

#: The prefix of publishers' names in the directory.
PREFIX = "events:"


@click.command("tail")
@click.argument("source", shell_complete=complete.sources)
@click.argument("event", default="#")
@takes_settings
@as_json
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N events. [default: Ctrl-C ends it]")
def tail_command(source: str, event: str, flags: Flags, as_json: bool, count: int | None) -> None:
    """Show events of SOURCE as they are dispatched. EVENT is a type of event, or a pattern of types.

    In a pattern, `*` stands for one word and `#` for any number of words; words are parted by dots. No publisher keeps
    events for the command, and events that come faster than it can show them are left out.

    \b
    Example:
        zmqservices events tail orders 'order.*'
    """
    from zmqservices.cluster.events.subscription import BROADCAST, Subscription
    from zmqservices.cluster.node import Node
    from zmqservices.cluster.settings import Settings

    node = Node.join(Settings.read(flags.setup()))
    shown = Tail(as_json, count)
    want = Subscription(source, event, f"tail:{node.id}", BROADCAST, reliable=False)
    try:
        # Connect to the listed publishers of the source before the first line is shown.
        node.directory.wait_ready(TIMEOUT, PREFIX + source)
        consumer = node.subscriber.subscribe(want, shown.take, 1)
        node.caller.update()
        consumer.wait_until_reachable(TIMEOUT)
        click.echo(f"listening for {event} of {source}", err=True)
        hint = missing(source, sources_of(node))
        if hint:
            click.echo(hint, err=True)
        shown.wait()
    finally:
        node.leave()


def missing(source: str, sources: set[str] | None) -> str:
    """A hint if `source` is not among the known sources; empty if it is, or if `sources` is None (unknown)."""
    if sources is None or source in sources:
        return ""
    return f"no publisher of {source!r} is listed; {did_you_mean(source, sources)}waiting for one"


def sources_of(node: Node) -> set[str] | None:
    """All sources that the directory lists; None if it does not answer. The node's own view has only those it asked for."""
    where = {"DIRECTORY": node.settings.directory, "NAMESPACE": node.settings.namespace}
    try:
        with looked_up(where, HINT_TIMEOUT) as directory:
            names = [seen.record.service for seen in directory.view().records.values()]
    except RemoteUnavailable:
        return None  # Only the hint is missing; events may come all the same.
    return {name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)}


class Tail:
    """Prints events, and ends after `count` of them."""

    def __init__(self, as_json: bool, count: int | None) -> None:
        import gevent
        from gevent.event import Event

        self._as_json = as_json
        self._left = count
        self._over = Event()
        # An active watcher, so that gevent does not report a deadlock when nothing else runs.
        self._held = gevent.get_hub().loop.async_()
        self._held.start(lambda: None)

    def take(self, event: IncomingEvent) -> None:
        """Print one event. Called for each event."""
        if self._over.is_set():
            return
        click.echo(self.line(event.message))
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self._over.set()

    def line(self, message: Event) -> str:
        """The line that shows an event."""
        shown = readable(message)
        if self._as_json:
            return to_json(shown)
        at = datetime.datetime.fromtimestamp(message.at or time.time()).strftime("%H:%M:%S.%f")[:-3]
        return f"{at}  {escaped(message.type)}  {to_json(shown['data'])}"

    def wait(self) -> None:
        """Wait until `count` events were shown; Ctrl-C ends the wait with KeyboardInterrupt."""
        try:
            self._over.wait()
        finally:
            self._held.close()


def readable(message: Event) -> dict[str, Any]:
    """The event as a mapping; its data is decoded if it is msgpack or JSON."""
    from zmqservices.wire import codec
    from zmqservices.wire.serializers import get_serializer

    data = message.body
    if message.serializer == "msgpack":
        data = codec.unpack(data)
    elif message.serializer == "json":
        data = get_serializer("json", None).loads(data)
    return {
        "source": message.source,
        "type": message.type,
        "data": data,
        "key": message.key,
        "headers": message.headers,
        "at": message.at,
    }
