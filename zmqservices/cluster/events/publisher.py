"""The publisher of one node: its sources, the subscriptions of members, and its socket for broadcasts.

Runs on a gevent hub. `open(name)` and `stop` are for greenlets. Messages of members are handled inside the reactor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import gevent
from gevent.event import AsyncResult

import discovery
from discovery.model import is_name
from discovery.security.permissions import Verb, allows
from zmqservices.cluster.calls.identity import Authorizer
from zmqservices.cluster.calls.incoming import ClientConnection
from zmqservices.cluster.calls.server import CallServer
from zmqservices.cluster.events.admin import Admin
from zmqservices.cluster.events.consumer_group import GroupMember
from zmqservices.cluster.events.group_registrations import GroupRegistrations
from zmqservices.cluster.events.orphans import Fingerprint
from zmqservices.cluster.events.publisher_broadcasts import PublisherBroadcasts
from zmqservices.cluster.events.source import Source
from zmqservices.cluster.events.source_dispatch import HubLike
from zmqservices.cluster.events.subscription import BROADCAST, publishing
from zmqservices.cluster.settings import Settings
from zmqservices.exceptions import BadRequest, Forbidden
from zmqservices.probes import Measure, Watched
from zmqservices.transport import BroadcastPublisher
from zmqservices.transport.broadcast import BroadcastPublisherListener
from zmqservices.transport.faults import Faults
from zmqservices.wire import envelope
from zmqservices.wire.messages import Ack, Grant, Message, Nack, Subscribe, Subscribed, Unsubscribe
from zmqservices.wire.quoting import quoted

_log = logging.getLogger(__name__)

#: Seconds for which changes of a record are collected before it is announced again.
AMEND_INTERVAL = 0.02

#: The most seconds that a stopping publisher waits for members to answer their events.
ANSWER_TIMEOUT = 5.0

#: The most messages with answers from before a link that are kept until their node subscribes, and the most seqs in each.
MOST_ANSWERS, MOST_NUMBERS = 256, 2048


class SourceRegistration(Protocol):
    """The entry of one source in the directory; a Registration."""

    @property
    def record(self) -> discovery.Record | None:
        """The announced record; None while nothing is announced."""

    def serve(
        self,
        methods: dict[str, dict[str, Any]],
        take: Callable[..., None],
        flush: Callable[[], None],
        cancel: Callable[[Any, str], None],
    ) -> None:
        """Announce that these methods may be called."""

    def amend(self, **changes: object) -> None:
        """Change fields of the record."""

    def retract(self) -> None:
        """Remove the subscriptions from the record."""

    def settle(self, timeout: float) -> bool:
        """Wait until the directory shows the record."""


class PublisherNode(Protocol):
    """The node that a publisher belongs to; a Node."""

    id: str
    settings: Settings
    directory: discovery.Directory
    groups: GroupRegistrations
    guard: Authorizer | None

    @property
    def reactor(self) -> HubLike: ...

    def open_call_server(self) -> CallServer:
        """The server to which members connect. It is opened at the first call."""

    def open_broadcast(self, listener: BroadcastPublisherListener) -> tuple[BroadcastPublisher, str]:
        """A socket for broadcasts, and the address at which others reach it."""

    def register(self, service: str) -> SourceRegistration:
        """A registration in the directory for one instance of `service`."""


class EventPublisher(Watched):
    """The publisher of one node, which makes it. `stop` ends it."""

    def __init__(self, node: PublisherNode) -> None:
        self.watch()
        self.watched: Watched = self
        self.id = node.id
        self.reactor = node.reactor
        self.directory = node.directory
        self.settings = node.settings.events
        self.max_message_size = node.settings.max_message_size
        self.header_limits = node.settings.limits.headers
        self.call_server = node.open_call_server()
        #: The orphans that were found empty, with the state of their files at that time.
        self.empty_orphans: dict[Path, Fingerprint] = {}
        self.directory_is_known = False
        #: The most seconds that `stop` waits for members to handle waiting events.
        self.linger = 0.0
        self._node = node
        self._guard = node.guard
        self.is_encrypted = node.guard is not None
        self._sources: dict[str, Source] = {}
        self._registrations: dict[str, SourceRegistration] = {}
        self._opening: dict[str, AsyncResult] = {}
        self._members: dict[ClientConnection, dict[int, tuple[Source, GroupMember]]] = {}
        #: Answers from before a link, for groups to which the link's client has not subscribed yet.
        self._answers: dict[ClientConnection, list[Ack]] = {}
        self._broadcasts = PublisherBroadcasts(node.open_broadcast, self._announce_all_soon, self._on_subscription)
        # Attributes, so that a best-effort event needs no further call.
        self.broadcast = self._broadcasts.socket
        self.broadcast_endpoint = self._broadcasts.endpoint
        self.listeners = self._broadcasts.listeners
        self._to_announce: set[Source] = set()
        self._greenlets: set[gevent.Greenlet] = set()
        self._update_is_posted = False
        self._closed = False
        self._faults = Faults(_log)
        self.call_server.handle_also(
            {
                Subscribe: self._on_subscribe,
                Unsubscribe: self._on_unsubscribe,
                Grant: self._on_grant,
                Ack: self._on_ack,
                Nack: self._on_nack,
            },
            self._on_disconnected,
        )
        self._unsubscribe = self.directory.subscribe(self._on_directory_change)

    # --- sources -----------------------------------------------------------------------------------------------------

    def open(self, name: str, has_journal: bool = True) -> Source:
        """The source of that name. The first call opens and announces it, and blocks the greenlet until it may dispatch.

        Raises JournalError if its journal cannot be used. Without `has_journal`, the source only serves orphans.
        """
        source = self._sources.get(name)
        if source is not None:
            return source
        if self._guard is not None:
            own = self._guard.keys.certificate
            verdict = allows(own, Verb.PUBLISH, name)
            if not verdict:
                raise Forbidden(f"this process must not publish events of {name!r}: {verdict.rule}")
        opening = self._opening.get(name)
        if opening is None:
            opening = self._opening[name] = AsyncResult()
            try:
                opening.set(self._open(name, has_journal))
            except BaseException as exc:
                opening.set_exception(exc)
            finally:
                del self._opening[name]
        opened: Source = opening.get()
        return opened

    def _open(self, name: str, has_journal: bool) -> Source:
        # The groups come from the directory, or without it from the journal. The directory has them in the records of the
        # source's other publishers and of its handlers, and in notes.
        if is_name(publishing(name)):
            self.directory.add_interest([publishing(name)], [name])
        self.directory_is_known = self.directory.wait_ready(self.settings.wait_for_peers)
        source = Source(self, name, has_journal)
        known_groups = source.open()
        self._sources[name] = source
        admin = Admin(source, self.id, self.spawn)
        registration = self._registrations[name] = self._node.register(publishing(name))
        registration.serve(admin.describe(), admin.take, admin.flush, admin.cancel)
        self._announce(source)
        # From here on new handlers can find this publisher. `update` finds the present ones.
        registration.settle(self.settings.wait_for_peers if self.directory_is_known else 0.0)
        source.update()
        self._node.groups.add(known_groups)
        return source

    @property
    def sources(self) -> dict[str, Source]:
        """The open sources by name."""
        return self._sources

    def announce_soon(self, source: Source) -> None:
        """The groups of `source` changed: announce them in the directory soon."""
        if not self._to_announce:
            self.reactor.call_later(AMEND_INTERVAL, self._announce_all)
        self._to_announce.add(source)

    def _announce_all(self) -> None:
        sources, self._to_announce = self._to_announce, set()
        for source in sources:
            if not self._closed and source.name in self._registrations:
                self._announce(source)

    def _announce(self, source: Source) -> None:
        registration = self._registrations[source.name]
        record = registration.record
        subscriptions = source.subscriptions()
        endpoints = {} if record is None else dict(record.endpoints)
        if self._broadcasts.announced:
            endpoints["events"] = self._broadcasts.announced
        if record is None or record.subscriptions != subscriptions or record.endpoints != endpoints:
            try:
                registration.amend(subscriptions=subscriptions, endpoints=endpoints)
            except discovery.DirectoryError as exc:
                # Journals still keep the groups, but new publishers elsewhere will not know them.
                _log.warning("the groups of %s could not be announced in the directory: %s", source.name, exc)

    def unregister_group(self, source: str, group: str) -> None:
        """Remove the group from the directory, because an operator has removed it."""
        self._node.groups.forget(source, group)

    def _on_directory_change(self, view: discovery.View) -> None:
        # On the directory's thread.
        if not self._update_is_posted:
            self._update_is_posted = True
            self.reactor.post(self._update)

    def _update(self) -> None:
        self._update_is_posted = False
        if not self._closed:
            for source in self._sources.values():
                source.update()

    def spawn(self, function: Callable[[], None]) -> None:
        """Run `function` in a greenlet that ends with the publisher."""
        if not self._closed:
            greenlet = gevent.spawn(function)
            self._greenlets.add(greenlet)
            greenlet.rawlink(self._greenlets.discard)

    # --- measures ----------------------------------------------------------------------------------------------------

    def measure(self) -> Iterator[Measure]:
        """Measures: the events in the journals, and the groups for which they wait."""
        for name, source in self._sources.items():
            for served in source.journals.all:
                yield from served.measure(name)

    # --- broadcasts --------------------------------------------------------------------------------------------------

    def listen_at(self, host: str) -> None:
        """Also listen at another address of the host. Listeners of the former address are told the new one."""
        if self.settings.bind_address is None and self._broadcasts.listen_at(host):
            for source in self._sources.values():
                if source.name in self._registrations:
                    self._announce(source)

    def move(self, former: str, host: str) -> None:
        """From now on announce `host` to listeners, if `former` was announced."""
        self._broadcasts.move(former, host)

    def _announce_all_soon(self) -> None:
        for source in self._sources.values():
            self.announce_soon(source)

    def _on_subscription(self, topic: bytes) -> None:
        for source in self._sources.values():
            source.best_effort.on_subscription(topic)

    # --- messages of members -----------------------------------------------------------------------------------------

    def _send(self, client: ClientConnection, message: Message) -> None:
        self.call_server.send(client, envelope.encode(message))

    def _on_subscribe(self, client: ClientConnection, message: Subscribe) -> None:
        source = self._sources.get(message.source)
        if self._closed:
            return
        if not client.node or source is None:
            self._faults.saw(str(client), f"a SUBSCRIBE for events of {quoted(message.source)}, which are not published here")
            return
        members = self._members.setdefault(client, {})
        answers = self._answers.pop(client, [])
        own = [answer for answer in answers if answer.group == message.group]
        if len(own) < len(answers):
            self._answers[client] = [answer for answer in answers if answer.group != message.group]
        try:
            most = self.settings.max_subscriptions
            if len(members) >= most:
                raise BadRequest(f"a node has {most:,} subscriptions at most (events_max_subscriptions)")
            self._refuse_unless_allowed(client, message)
            member = source.members.subscribe(client, message, own)
        except BadRequest as exc:
            self._faults.saw(str(client), f"a SUBSCRIBE for events of {source.name}: {exc}")
            self._send(client, Subscribed(message.id, {"refused": str(exc)}))
            return
        former = members.get(message.id)
        members[message.id] = (source, member)
        if former is not None:
            former[0].members.left(former[1])

    def _refuse_unless_allowed(self, client: ClientConnection, message: Subscribe) -> None:
        """Raise BadRequest if the client must not be a member of the group. So no other client can ACK events."""
        if self._guard is None:
            return
        is_shared = message.kind != BROADCAST or message.reliable
        if client.identity is None:
            raise BadRequest("forbidden: it has shown no certificate")
        verdict = client.identity.may_join(message.source, message.pattern, message.group, is_shared)
        if not verdict:
            raise BadRequest(f"forbidden: {verdict.rule}")

    def _on_unsubscribe(self, client: ClientConnection, message: Unsubscribe) -> None:
        found = self._members.get(client, {}).get(message.id)
        if found is not None:
            source, member = found
            if member.is_leaving:
                # The second UNSUBSCRIBE: the member has answered all its events.
                del self._members[client][message.id]
                source.members.left(member)
            else:
                source.members.unsubscribe(member)
        self._send(client, Unsubscribe(message.id))

    def _member(self, client: ClientConnection, message: Grant | Ack | Nack) -> tuple[Source, GroupMember] | None:
        """The source and the member to which the message belongs; None if it has none."""
        found = self._members.get(client, {}).get(message.subscription or 0)
        return found if found is not None and found[1].group == message.group else None

    def _on_grant(self, client: ClientConnection, message: Grant) -> None:
        found = self._member(client, message)
        if found is not None:
            source, member = found
            source.members.granted(member, message.amount)

    def _on_ack(self, client: ClientConnection, message: Ack) -> None:
        found = self._member(client, message)
        if found is not None:
            source, member = found
            source.members.acked(member, message.origin, (message.seq, *message.also) if message.also else (message.seq,))
        elif self._may_answer(client, message) and message.subscription is None:
            self._on_repeated_ack(client, message)

    def _may_answer(self, client: ClientConnection, message: Ack | Nack) -> bool:
        """Whether the client may ever answer for the group. It is no member of it now, so its answer does not count yet."""
        if self._guard is None or client.identity is None:
            return True
        verdict = client.identity.may_answer(message.group)
        if not verdict:
            kind = type(message).__name__.upper()
            self._faults.saw(str(client), f"an {kind} for a group that it must not answer for: {verdict.rule}")
        return bool(verdict)

    def _on_repeated_ack(self, client: ClientConnection, message: Ack) -> None:
        """Keep an answer that the client repeats before it subscribes. It counts once the client is a member."""
        for source, member in self._members.get(client, {}).values():
            if member.group == message.group:
                source.members.acked(member, message.origin, (message.seq, *(message.also or ())), is_repeated=True)
                return
        answers = self._answers.setdefault(client, [])
        if client.node and len(answers) < MOST_ANSWERS and len(message.also or ()) < MOST_NUMBERS:
            answers.append(message)

    def _on_nack(self, client: ClientConnection, message: Nack) -> None:
        found = self._member(client, message)
        if found is not None:
            source, member = found
            source.members.nacked(member, message.origin, message.seq, message.delay, message.error)
        else:
            self._may_answer(client, message)

    def _on_disconnected(self, client: ClientConnection) -> None:
        self._answers.pop(client, None)
        members = self._members.pop(client, None)
        if members:
            # Later, because this may be called in the middle of a send to the client. The present members are handed over, since
            # the client may have subscribed again by then.
            self.reactor.call_later(0.0, self._remove_members, list(members.values()))

    @staticmethod
    def _remove_members(members: list[tuple[Source, GroupMember]]) -> None:
        for source, member in members:
            source.members.left(member)

    # --- the end -----------------------------------------------------------------------------------------------------

    def stop(self, at_once: bool = False) -> None:
        """Stop publishing. Blocks the greenlet until members have answered their events, or time is up, and journals are closed.

        With `at_once` it waits for no answer: events in flight are delivered again after the next start.
        """
        self._unsubscribe()
        if not at_once:
            drains = [gevent.spawn(source.drain, ANSWER_TIMEOUT, self.linger) for source in self._sources.values()]
            gevent.joinall(drains, raise_error=True)
        self._closed = True
        self.unwatch()
        gevent.killall(list(self._greenlets))
        for registration in self._registrations.values():
            registration.retract()
        ends = [gevent.spawn(source.close) for source in self._sources.values()]
        gevent.joinall(ends, raise_error=True)
        self._broadcasts.close()
