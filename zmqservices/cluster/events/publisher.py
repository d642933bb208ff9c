"""The publishing half of events: the sources of one node, the members that come to its door, and its mast.

Runs on a gevent hub. `open(name)` is for greenlets; what members say is heard inside the reactor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import AsyncResult

import discovery
from zmqservices.cluster.events.admin import Admin
from zmqservices.cluster.events.consumer_group import GroupMember
from zmqservices.cluster.events.source import Source
from zmqservices.cluster.events.subscription import publishing
from zmqservices.exceptions import BadRequest
from zmqservices.transport import BroadcastPublisher
from zmqservices.transport.faults import Faults
from zmqservices.wire import envelope
from zmqservices.wire.messages import Ack, Grant, Message, Nack, Subscribe, Subscribed, Unsubscribe
from zmqservices.wire.quoting import quoted

_log = logging.getLogger(__name__)

#: Seconds in which changes of a record are collected before it is announced anew.
AMEND_INTERVAL = 0.02

#: Seconds that members get to answer what they have when their publisher stops.
ANSWER_TIMEOUT = 5.0

#: Subscriptions of one node.
MOST_SUBSCRIPTIONS = 1000

#: Messages with answers from before a link that are kept until their node subscribes, and numbers in each of them.
MOST_ANSWERS, MOST_NUMBERS = 256, 2048


class EventPublisher:
    """Made by the node; `stop` ends it."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.id = node.id
        self.reactor = node.reactor
        self.directory = node.directory
        self.settings = node.settings.events
        self.max_message_size = node.settings.max_message_size
        self.call_server = node.open_call_server()
        #: Journals that were looked into and hold nothing for anybody, as they were then.
        self.empty_orphans: dict[Any, Any] = {}
        self.directory_is_known = False
        #: Seconds for which `stop` lets members handle what waits for them.
        self.linger = 0.0
        self._sources: dict[str, Source] = {}
        self._registrations: dict[str, Any] = {}
        self._opening: dict[str, AsyncResult] = {}
        self._members: dict[Any, dict[int, tuple[Source, GroupMember]]] = {}
        #: Answers from before a link, of groups to which its guest has not subscribed yet.
        self._answers: dict[Any, list[Ack]] = {}
        self._broadcast: BroadcastPublisher | None = None
        self._mast_endpoint = ""
        self._listeners: dict[bytes, int] = {}
        self._to_amend: set[Source] = set()
        self._greenlets: set[Any] = set()
        self._has_news = False
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
        self._unsubscribe = self.directory.subscribe(self._hear_news)

    # --- sources -----------------------------------------------------------------------------------------------------

    def open(self, name: str, keeps: bool = True) -> Source:
        """The source of that name, opened and announced at the first time. Blocks the greenlet until it may dispatch.

        Raises JournalError where its journal cannot be used. `keeps=False`: only journals that others left are served.
        """
        source = self._sources.get(name)
        if source is not None:
            return source
        opening = self._opening.get(name)
        if opening is None:
            opening = self._opening[name] = AsyncResult()
            try:
                opening.set(self._open(name, keeps))
            except BaseException as exc:
                opening.set_exception(exc)
            finally:
                del self._opening[name]
        opened: Source = opening.get()
        return opened

    def _open(self, name: str, keeps: bool) -> Source:
        # Who listens is known from the directory; without it, from what the journal remembers.
        self.directory_is_known = self.directory.wait_ready(self.settings.wait_for_peers)
        source = Source(self, name, keeps)
        source.open()
        self._sources[name] = source
        admin = Admin(source)
        registration = self._registrations[name] = self.node.register(publishing(name))
        registration.serve(admin.describe(), admin.take, admin.flush, admin.cancel)
        self._amend(source)
        # From here on handlers that start can know of us, and we of those that are there.
        registration.settle(self.settings.wait_for_peers if self.directory_is_known else 0.0)
        source.learn()
        self.node.groups.add(source.kept_before())
        return source

    @property
    def sources(self) -> dict[str, Source]:
        return self._sources

    def amend_soon(self, source: Source) -> None:
        """What is known of its groups has changed: others shall know."""
        if not self._to_amend:
            self.reactor.call_later(AMEND_INTERVAL, self._amend_all)
        self._to_amend.add(source)

    def _amend_all(self) -> None:
        sources, self._to_amend = self._to_amend, set()
        for source in sources:
            if not self._closed and source.name in self._registrations:
                self._amend(source)

    def _amend(self, source: Source) -> None:
        registration = self._registrations[source.name]
        record = registration.record
        subscriptions = source.subscriptions()
        endpoints = dict(record.endpoints)
        if self._broadcast is not None:
            endpoints["events"] = self._mast_endpoint
        if record.subscriptions != subscriptions or record.endpoints != endpoints:
            try:
                registration.amend(subscriptions=subscriptions, endpoints=endpoints)
            except discovery.DirectoryError as exc:
                # Journals remember them all the same; only publishers elsewhere that are new do not hear of them.
                _log.warning("the directory is not told of the groups of %s: %s", source.name, exc)

    def _hear_news(self, view: Any) -> None:
        # On the directory's thread.
        if not self._has_news:
            self._has_news = True
            self.reactor.post(self._learn)

    def _learn(self) -> None:
        self._has_news = False
        if not self._closed:
            for source in self._sources.values():
                source.learn()

    def spawn(self, function: Callable[[], None]) -> None:
        """Run it in a greenlet that ends with the publisher."""
        if not self._closed:
            greenlet = gevent.spawn(function)
            self._greenlets.add(greenlet)
            greenlet.rawlink(self._greenlets.discard)

    # --- broadcasts --------------------------------------------------------------------------------------------------

    def broadcast(self) -> BroadcastPublisher:
        """Bound when somebody first listens."""
        if self._broadcast is None:
            self._broadcast, self._mast_endpoint = self.node.open_broadcast(self)
            for source in self._sources.values():
                self.amend_soon(source)
        return self._broadcast

    def mast_endpoint(self) -> str:
        """Where to listen."""
        self.broadcast()
        return self._mast_endpoint

    def listeners(self, topic: bytes) -> int:
        """How many listen for it."""
        return self._listeners.get(topic, 0)

    def on_subscription(self, topic: bytes, is_on: bool) -> None:
        count = self._listeners.get(topic, 0) + (1 if is_on else -1)
        if count > 0:
            self._listeners[topic] = count
        else:
            self._listeners.pop(topic, None)
        for source in self._sources.values():
            source.best_effort.on_subscription(topic)

    # --- what members say --------------------------------------------------------------------------------------------

    def say(self, client: Any, message: Message) -> None:
        self.call_server.send(client, envelope.encode(message))

    def _on_subscribe(self, client: Any, message: Subscribe) -> None:
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
            if len(members) >= MOST_SUBSCRIPTIONS:
                raise BadRequest(f"a node has {MOST_SUBSCRIPTIONS:,} subscriptions at most")
            member = source.subscribe(client, message, own)
        except BadRequest as exc:
            self._faults.saw(str(client), f"a SUBSCRIBE for events of {source.name}: {exc}")
            self.say(client, Subscribed(message.id, {"refused": str(exc)}))
            return
        former = members.get(message.id)
        members[message.id] = (source, member)
        if former is not None:
            former[0].left(former[1])

    def _on_unsubscribe(self, client: Any, message: Unsubscribe) -> None:
        found = self._members.get(client, {}).get(message.id)
        if found is not None:
            source, member = found
            if member.is_leaving:
                # Said twice: it has answered what it had.
                del self._members[client][message.id]
                source.left(member)
            else:
                source.unsubscribe(member)
        self.say(client, Unsubscribe(message.id))

    def _named(self, client: Any, message: Grant | Ack | Nack) -> tuple[Source, GroupMember] | None:
        """The subscription that the message is about."""
        found = self._members.get(client, {}).get(message.subscription or 0)
        return found if found is not None and found[1].group == message.group else None

    def _on_grant(self, client: Any, message: Grant) -> None:
        found = self._named(client, message)
        if found is not None:
            source, member = found
            source.granted(member, message.amount)

    def _on_ack(self, client: Any, message: Ack) -> None:
        found = self._named(client, message)
        if found is not None:
            source, member = found
            source.acked(member, message.journal, (message.seq, *message.also) if message.also else (message.seq,))
        elif message.subscription is None:
            self._on_answer_told_again(client, message)

    def _on_answer_told_again(self, client: Any, message: Ack) -> None:
        """Before it subscribes again, a member says what it did while its link was down: that counts once it is a member."""
        for source, member in self._members.get(client, {}).values():
            if member.group == message.group:
                source.acked(member, message.journal, (message.seq, *(message.also or ())), is_told_again=True)
                return
        answers = self._answers.setdefault(client, [])
        if client.node and len(answers) < MOST_ANSWERS and len(message.also or ()) < MOST_NUMBERS:
            answers.append(message)

    def _on_nack(self, client: Any, message: Nack) -> None:
        found = self._named(client, message)
        if found is not None:
            source, member = found
            source.nacked(member, message.journal, message.seq, message.delay, message.error)

    def _on_disconnected(self, client: Any) -> None:
        self._answers.pop(client, None)
        members = self._members.pop(client, None)
        if members:
            # Not from here: it may have been found out in the middle of a send to it. Those members, and not the guest's, who
            # may subscribe anew before that.
            self.reactor.call_later(0.0, self._forget, list(members.values()))

    @staticmethod
    def _forget(members: list[tuple[Source, GroupMember]]) -> None:
        for source, member in members:
            source.left(member)

    # --- the end -----------------------------------------------------------------------------------------------------

    def stop(self, at_once: bool = False) -> None:
        """Blocks the greenlet until members have answered what they have, or time is up, and journals are closed.

        With `at_once` no answer is waited for: what is in hand is delivered again.
        """
        self._unsubscribe()
        if not at_once:
            drains = [gevent.spawn(source.drain, ANSWER_TIMEOUT, self.linger) for source in self._sources.values()]
            gevent.joinall(drains, raise_error=True)
        self._closed = True
        gevent.killall(list(self._greenlets))
        for registration in self._registrations.values():
            registration.retract()
        ends = [gevent.spawn(source.close) for source in self._sources.values()]
        gevent.joinall(ends, raise_error=True)
        if self._broadcast is not None:
            self._broadcast.close(linger=1.0)
