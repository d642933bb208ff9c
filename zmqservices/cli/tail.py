"""`zmqservices events tail`: events as they happen, for somebody who only looks."""

from __future__ import annotations

import datetime
import time
from typing import Any

import click

from zmqservices.cli import complete
from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import HINT_PATIENCE, PATIENCE, as_json, did_you_mean, looked_up
from zmqservices.cli.options import Flags, takes_settings

#: What publishers of a source are called in the directory.
PREFIX = "events:"


@click.command("tail")
@click.argument("source", shell_complete=complete.sources)
@click.argument("event", default="#")
@takes_settings
@as_json
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many events.")
def tail_command(source: str, event: str, flags: Flags, as_json: bool, count: int | None) -> None:
    """Show events of SOURCE as they happen; EVENT is their type or a pattern of types.

    Nothing is kept for a tail, and what comes faster than it can be shown is left out.

    \b
    Example:
        zmqservices events tail orders 'order.*'
    """
    from zmqservices.cluster.node import Node
    from zmqservices.cluster.settings import Settings
    from zmqservices.cluster.subscription import BROADCAST, Subscription

    node = Node.join(Settings.read(flags.setup()))
    shown = Tail(as_json, count)
    want = Subscription(source, event, f"tail:{node.id}", BROADCAST, reliable=False)
    try:
        node.directory.wait_ready(PATIENCE)
        intake = node.subscriber.subscribe(want, shown.take, 1)
        node.caller.update()
        intake.wait_until_reachable(PATIENCE)
        click.echo(f"listening for {event} of {source}", err=True)
        sources = {name.removeprefix(PREFIX) for name in listed_services(node) if name.startswith(PREFIX)}
        if source not in sources:
            mend = did_you_mean(source, sources)
            click.echo(f"nobody publishes events of {source!r} now; {mend}waiting for somebody", err=True)
        shown.wait()
    finally:
        node.leave()


def listed_services(node: Any) -> set[str]:
    """All names in the directory: the node's own directory knows only those that were asked for."""
    with looked_up({"DIRECTORY": node.settings.directory, "NAMESPACE": node.settings.namespace}, HINT_PATIENCE) as directory:
        return {seen.record.service for seen in directory.view().records.values()}


class Tail:
    """Prints what comes."""

    def __init__(self, as_json: bool, count: int | None) -> None:
        import gevent
        from gevent.event import Event

        self._as_json = as_json
        self._left = count
        self._over = Event()
        # Held, so that waiting is no deadlock when nothing else goes on in this process.
        self._held = gevent.get_hub().loop.async_()
        self._held.start(lambda: None)

    def take(self, event: Any) -> None:
        """Called for each event."""
        if self._over.is_set():
            return
        click.echo(self.line(event.message))
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self._over.set()

    def line(self, message: Any) -> str:
        """One event as one line."""
        shown = readable(message)
        if self._as_json:
            return to_json(shown)
        at = datetime.datetime.fromtimestamp(message.at or time.time()).strftime("%H:%M:%S.%f")[:-3]
        return f"{at}  {message.type}  {to_json(shown['data'])}"

    def wait(self) -> None:
        """Until there were enough, or Ctrl-C."""
        try:
            self._over.wait()
        finally:
            self._held.close()


def readable(message: Any) -> dict[str, Any]:
    """An event with its data decoded where that is the wire's own, or JSON."""
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
