"""`zmqservices events`: what publishers keep, and for whom; what was given up; events as they happen."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import PATIENCE, as_json, columns, looked_up, timeout
from zmqservices.cli.options import Flags, takes_settings
from zmqservices.exceptions import BadRequest, CommandError, RemoteUnavailable, RpcTimeout, UnknownService

#: What publishers of a source are called in the directory: see `zmqservices.cluster.subscription`.
PREFIX = "events:"

SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

journal = click.option("--journal", metavar="ID", help="Only this journal; `events ls --json` shows their ids.")


@click.group("events")
def events_command() -> None:
    """Look after events: what waits for whom, what was given up, what happens now.

    \b
    Examples:
        zmqservices events ls
        zmqservices events tail orders 'order.*'
        zmqservices events dead-letters ls orders
    """


# --- asking publishers -------------------------------------------------------------------------------------------------


class Publisher:
    """One publisher of a source, as it stands in the directory; `ask` calls one of its methods."""

    def __init__(self, record: Any, settings: dict[str, Any], patience: float) -> None:
        self.source = record.service.removeprefix(PREFIX)
        self.record = record
        self._settings = settings
        self._patience = patience

    def ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        from zmqservices.standalone.rpc import ServiceRpcProxy

        service, endpoint = self.record.service, self.record.endpoints["rpc"]
        # This one and no other: a directory of its own, in which nobody else stands.
        own = {**self._settings, "DIRECTORY": f"static:{service}={endpoint}", "serializer": "msgpack"}
        with ServiceRpcProxy(service, own, timeout=self._patience) as proxy:
            return getattr(proxy, method)(*args, **kwargs)

    @property
    def name(self) -> str:
        """For people: where it is."""
        return f"{self.record.host}:{self.record.pid}"


@contextmanager
def publishers(flags: Flags, source: str | None, patience: float) -> Iterator[list[Publisher]]:
    """All that publish `source` (None: any). Raises UnknownService when nobody publishes that one."""
    settings = flags.setup()
    with looked_up(settings, patience) as directory:
        found = [
            Publisher(seen.record, settings, patience)
            for seen in directory.view().records.values()
            if seen.record.service.startswith(PREFIX) and source in (None, seen.record.service.removeprefix(PREFIX))
        ]
        if source is not None and not found:
            raise UnknownService(
                source,
                f"nobody publishes its events; `zmqservices relay DIR` serves what was left behind; {directory.describe()}",
            )
    yield sorted(found, key=lambda one: (one.source, one.record.instance))


def ask_all(found: list[Publisher], method: str, *args: Any, **kwargs: Any) -> list[tuple[Publisher, Any]]:
    """What each of them answers. One that is gone is named; BadRequest is raised when nobody could make sense of it."""
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


# --- ls ----------------------------------------------------------------------------------------------------------------


@events_command.command("ls")
@click.argument("source", required=False)
@takes_settings
@as_json
@timeout
def ls_command(source: str | None, flags: Flags, as_json: bool, timeout: float) -> None:
    """List who publishes, for which groups events are kept, and what waits for them.

    \b
    Example:
        zmqservices events ls orders --json
    """
    with publishers(flags, source, timeout) as found:
        stats = [answer for _, answer in ask_all(found, "stats")]
    if as_json:
        click.echo(to_json(stats, indent=2))
    elif stats:
        click.echo(columns(rows(stats)))
    else:
        click.echo("nobody publishes events", err=True)


def rows(stats: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The answers of publishers as a table, a line for each group of each journal."""
    head = ("SOURCE", "PUBLISHER", "GROUP", "MEMBERS", "WAITING", "OLDEST", "IN FLIGHT", "DEAD LETTERS", "LOST")
    table: list[tuple[str, ...]] = [head]
    for one in stats:
        where = f"{one['host']}:{one['pid']}"
        lines = len(table)
        for kept in one["journals"]:
            place = where if kept["own"] else f"{where} (adopted)"
            for group in kept["groups"]:
                name = group["group"] + (" (expired)" if group["has_expired"] else "")
                oldest = "-" if group["oldest_age"] is None else f"{group['oldest_age']:.0f} s"
                counts = [group["waiting"], oldest, group["in_flight"], group["dead_letters"], group["lost"]]
                table.append((one["source"], place, name, str(len(group["members"])), *map(str, counts)))
        for group in one["best_effort"]:
            name = f"{group['group']} (best effort)"
            table.append((one["source"], where, name, str(group["members"]), "-", "-", "-", "-", "-"))
        if len(table) == lines:
            table.append((one["source"], where, "-", "0", "0", "-", "0", "0", "0"))
    return table


# --- tail --------------------------------------------------------------------------------------------------------------


@events_command.command("tail")
@click.argument("source")
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
        shown.wait()
    finally:
        node.leave()


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


# --- replay, forget ----------------------------------------------------------------------------------------------------


@events_command.command("replay")
@click.argument("source")
@click.argument("group")
@takes_settings
@as_json
@timeout
@click.option("--since", metavar="WHEN", help="A time in ISO 8601, or 90s, 10m, 2h, 1d ago. [default: all that is kept]")
@click.option("--after", type=click.IntRange(0), metavar="SEQ", help="Those after this number of the journal.")
@journal
def replay_command(
    source: str,
    group: str,
    flags: Flags,
    as_json: bool,
    timeout: float,
    since: str | None,
    after: int | None,
    journal: str | None,
) -> None:
    """Deliver events again to GROUP, as far as they are kept (see JOURNAL_KEEP).

    \b
    Examples:
        zmqservices events replay orders mails.send:order.paid --since 2h
        zmqservices events replay orders mails.send:order.paid --since 2026-03-01T08:00
    """
    if since is not None and after is not None:
        raise CommandError("--since and --after exclude each other")
    where = {"to_seq": after} if after is not None else {"to_time": moment(since) if since else 0.0}
    with publishers(flags, source, timeout) as found:
        answers = ask_all(found, "rewind", group, journal=journal, **where)
    cursors = {key: at for _, answer in answers for key, at in answer.items()}
    if as_json:
        click.echo(to_json({"group": group, "journals": cursors}))
    else:
        places = ", ".join(f"{at} of {key}" for key, at in sorted(cursors.items()))
        click.echo(f"{group} gets again what came after: {places}")


def moment(text: str) -> float:
    """Seconds since 1970 of an ISO time, or of so long ago. Raises CommandError."""
    span = SPAN.fullmatch(text)
    if span:
        return time.time() - float(span[1]) * SECONDS[span[2]]
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise CommandError(f"{text!r} is no time; 2026-03-01T08:00 or 90s, 10m, 2h, 1d is needed") from None


@events_command.command("forget")
@click.argument("source")
@click.argument("group")
@takes_settings
@as_json
@timeout
def forget_command(source: str, group: str, flags: Flags, as_json: bool, timeout: float) -> None:
    """Keep nothing for GROUP any more, and throw away what waits for it. A group that comes back begins anew.

    The directory forgets it as well, also when nobody publishes now.

    \b
    Example:
        zmqservices events forget orders oldservice.method:order.paid
    """
    try:
        with publishers(flags, source, timeout) as found:
            known = sum(answer for _, answer in ask_all(found, "forget", group))
    except UnknownService:
        if not _forget_in_directory(flags, source, group, timeout):
            raise
        known = 0
    else:
        if not (_forget_in_directory(flags, source, group, timeout) or known):
            raise CommandError(f"neither a publisher of {source!r} nor the directory knows the group {group!r}")
    told = f"forgotten by the directory and {known} publishers"
    click.echo(to_json({"group": group, "publishers": known}) if as_json else told)


def _forget_in_directory(flags: Flags, source: str, group: str, timeout: float) -> bool:
    """False when it does not remember the group, or somebody has made it forget."""
    from zmqservices.cluster.groups import key_of, remembered

    with looked_up(flags.resolve(), timeout) as directory:
        if remembered(directory.view(), source).get(group) is None:
            return False
        directory.forget(key_of(source, group))
        if not directory.flush(timeout):
            raise RemoteUnavailable(f"the directory may remember the group still; {directory.describe()}")
        return True


# --- dead letters ------------------------------------------------------------------------------------------------------


@events_command.group("dead-letters")
def dead_letters_command() -> None:
    """Events that were given up, since their handlers failed each time."""


@dead_letters_command.command("ls")
@click.argument("source")
@click.argument("group", required=False)
@takes_settings
@as_json
@timeout
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="So many of each publisher.")
def letters_ls_command(source: str, group: str | None, flags: Flags, as_json: bool, timeout: float, limit: int) -> None:
    """List them, with the last error of each.

    \b
    Example:
        zmqservices events dead-letters ls orders
    """
    letters = _letters(flags, source, group, timeout, limit)
    if as_json:
        click.echo(to_json(letters, indent=2))
        return
    table = [("JOURNAL", "SEQ", "GROUP", "TYPE", "ATTEMPTS", "ERROR")]
    for one in letters:
        error = f"{one['error'].get('exc_type')}: {one['error'].get('value')}"
        table.append((one["journal"], str(one["seq"]), one["group"], one["type"], str(one["attempts"]), error[:100]))
    click.echo(columns(table) if letters else "no dead letters")


def _letters(flags: Flags, source: str, group: str | None, timeout: float, limit: int) -> list[dict[str, Any]]:
    with publishers(flags, source, timeout) as found:
        return [letter for _, answer in ask_all(found, "dead_letters", group, limit) for letter in answer]


@dead_letters_command.command("show")
@click.argument("source")
@click.argument("group")
@click.argument("seq", type=int)
@takes_settings
@as_json
@timeout
@journal
def letters_show_command(
    source: str, group: str, seq: int, flags: Flags, as_json: bool, timeout: float, journal: str | None
) -> None:
    """Show one: its data, its headers, and the traceback of the last error."""
    letters = [
        one
        for one in _letters(flags, source, group, timeout, 1000)
        if one["seq"] == seq and journal in (None, one["journal"])
    ]
    if not letters:
        raise CommandError(f"{group} has no dead letter {seq}")
    for one in letters:
        if as_json:
            click.echo(to_json(one, indent=2))
            continue
        traceback = one["error"].pop("traceback", "")
        click.echo(to_json(one, indent=2))
        click.echo(traceback, nl=False)


def _changes(verb: str, method: str, doc: str) -> Callable[..., None]:
    """The commands requeue and drop: both take numbers, or --all."""

    @dead_letters_command.command(verb, help=doc)
    @click.argument("source")
    @click.argument("group")
    @click.argument("seqs", type=int, nargs=-1, metavar="[SEQ]...")
    @takes_settings
    @as_json
    @timeout
    @journal
    @click.option("--all", "all_of_them", is_flag=True, help="All of the group.")
    def command(
        source: str,
        group: str,
        seqs: tuple[int, ...],
        flags: Flags,
        as_json: bool,
        timeout: float,
        journal: str | None,
        all_of_them: bool,
    ) -> None:
        if bool(seqs) == all_of_them:
            raise CommandError("the numbers of dead letters are needed, or --all")
        with publishers(flags, source, timeout) as found:
            count = sum(answer for _, answer in ask_all(found, method, group, list(seqs) or None, journal))
        if seqs and not count:
            raise CommandError(f"{group} has no such dead letters")
        click.echo(to_json({"group": group, "count": count}) if as_json else f"{count} dead letters")

    made: Callable[..., None] = command
    return made


_changes("requeue", "requeue", "Deliver them once more; their deliveries are counted anew.")
_changes("drop", "drop", "Throw them away.")

