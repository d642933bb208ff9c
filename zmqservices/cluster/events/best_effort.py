"""Best-effort events of one source: sent to connected members, not written to disk, and dropped if there is no room.

Best-effort members get them from the node's broadcast socket. Members of reliable groups do not listen there, so they get them
over the links of calls (`send_direct`).
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterable
from time import time
from typing import Any, Protocol

from zmqservices.cluster.calls.incoming import ClientConnection
from zmqservices.cluster.calls.send_queue import LONGEST_SEND_QUEUE
from zmqservices.cluster.events.consumer_group import ConsumerGroup, GroupMember
from zmqservices.cluster.events.subscription import BROADCAST, Subscription, broadcast_topic, member_topic
from zmqservices.journal import Group
from zmqservices.probes import Watched
from zmqservices.wire import envelope, messages

#: The most events that wait, while a publisher is new, for handlers that are listed and not connected yet.
EARLY_EVENTS = 10_000

#: If a client's send queue has more messages or bytes than this, events for it are dropped.
LONG_SEND_QUEUE, LONG_SEND_QUEUE_BYTES = 1000, LONGEST_SEND_QUEUE // 4

#: The headers of an event.
Headers = dict[str, Any] | None

#: An event with a packed body: its type, body, headers, serializer's name and key.
Packed = tuple[str, bytes, Headers, str, str | None]


class DirectLinks(Protocol):
    """Sends messages to the processes of members; a CallServer."""

    def send(self, client: ClientConnection, frames: bytes | tuple[bytes, bytes]) -> None:
        """Send an encoded message to the process of a member."""


class Broadcasting(Protocol):
    """The socket for broadcasts; a BroadcastPublisher."""

    def send(self, topic: bytes, frames: bytes | tuple[bytes, bytes]) -> bool:
        """Send to all listeners of `topic`. Returns False if nothing was sent because there was no room."""


class BestEffortOwner(Protocol):
    """The publisher that sends the events; an EventPublisher."""

    #: The id of the publisher's node. It takes the place of the journal's id in best-effort events.
    id: str
    #: Whether the directory has answered.
    directory_is_known: bool
    #: Whether connections are encrypted. Then events go over the links of calls, whose clients have shown their certificates.
    is_encrypted: bool
    #: The object that probes watch; the publisher.
    watched: Watched

    @property
    def call_server(self) -> DirectLinks: ...

    def broadcast(self) -> Broadcasting:
        """The socket for broadcasts. It is bound when it is first needed."""

    def broadcast_endpoint(self) -> str:
        """The address at which others listen to broadcasts."""

    def listeners(self, topic: bytes) -> int:
        """The number of listeners of `topic`."""


class BestEffort:
    """The best-effort events of the source `name`. Everything here runs inside the reactor."""

    def __init__(self, owner: BestEffortOwner, name: str) -> None:
        self._owner = owner
        self._name = name
        #: The copies that were dropped because there was no room.
        self.dropped = 0
        #: The groups that have a connected member.
        self.consumer_groups: dict[str, ConsumerGroup] = {}
        #: The events from before `release`; None after it.
        self.early: deque[Packed] | None = deque()
        #: The number of the last event of each topic.
        self._topics: dict[bytes, int] = {}
        self._numbers = itertools.count(1)
        #: The number of listed handlers for each (node, group).
        self._expected: Counter[tuple[str, str]] = Counter()

    # --- sending -----------------------------------------------------------------------------------------------------

    def broadcast(self, type: str, raw: bytes, headers: Headers, serializer: str, key: str | None) -> None:
        """Send an event to one member of each group, and to every member of a BROADCAST group."""
        if self.early is not None:
            self.early.append((type, raw, headers, serializer, key))
            if len(self.early) > EARLY_EVENTS:
                self._count_dropped(self.early.popleft()[0])
            return
        if self._owner.is_encrypted:
            self.send_direct(self.consumer_groups.values(), type, raw, headers, serializer, key)
            return
        sent: tuple[bytes, ...] = ()
        for consumer_group in self.consumer_groups.values():
            if not consumer_group.pattern.matches(type):
                continue
            if consumer_group.kind == BROADCAST:
                # Groups with the same pattern listen for the same topic.
                topic = consumer_group.topic
                if topic not in sent:
                    sent = (*sent, topic)
                    self._transmit(topic, None, type, raw, headers, serializer, key)
            else:
                member = consumer_group.next()
                if member is not None:
                    self._transmit(member.topic, consumer_group.group.name, type, raw, headers, serializer, key)

    def _transmit(
        self, topic: bytes, group: str | None, type: str, raw: bytes, headers: Headers, serializer: str, key: str | None
    ) -> None:
        seq = self._topics[topic] = self._topics.get(topic, 0) + 1
        frames = envelope.encode_event(
            self._owner.id, seq, seq - 1, self._name, type, raw, group, 1, headers, key, serializer, time()
        )
        if not self._owner.broadcast().send(topic, frames):
            self.dropped += 1

    def send_direct(
        self, consumer_groups: Iterable[ConsumerGroup], type: str, raw: bytes, headers: Headers, serializer: str, key: str | None
    ) -> None:
        """Send an event over the links of calls to one member of each group, and to every member of a BROADCAST group."""
        for member in (one for group in consumer_groups if group.pattern.matches(type) for one in group.receivers()):
            if len(member.client.send_queue) > LONG_SEND_QUEUE or member.client.send_queue.bytes > LONG_SEND_QUEUE_BYTES:
                self._count_dropped(type)
                continue
            frames = envelope.encode_event(
                self._owner.id, next(self._numbers), 0, self._name, type, raw, member.group, 1, headers, key,
                serializer, time(), member.id,
            )  # fmt: skip
            self._owner.call_server.send(member.client, frames)

    def _count_dropped(self, type: str) -> None:
        self.dropped += 1
        probes = self._owner.watched.probes
        if probes is not None and probes.event_dropped is not None:
            probes.event_dropped(self._name, type)

    # --- while the publisher is new ------------------------------------------------------------------------------------

    def expect(self, handlers: Counter[tuple[str, str]]) -> None:
        """The directory lists this number of handlers for each (node, group). Early events wait until all are connected."""
        self._expected = handlers
        self._release_if_complete()

    def release(self) -> None:
        """Send the early events now. Later members do not get them."""
        early, self.early = self.early, None
        for event in early or ():
            self.broadcast(*event)

    def _release_if_complete(self) -> None:
        if self.early is None:
            return
        members = (member for consumer_group in self.consumer_groups.values() for member in consumer_group.members.values())
        here = Counter((member.client.node, member.group) for member in members if member.is_confirmed)
        # Before the directory has answered it lists no handlers, which means nothing. Then `release` is called later.
        if self._expected <= here and self._owner.directory_is_known:
            self.release()

    def close(self) -> None:
        """Send no more events."""
        self.early = None

    # --- members -----------------------------------------------------------------------------------------------------

    def subscribe(self, member: GroupMember, want: Subscription, group: Group) -> None:
        """Add a member, and tell it where to listen. It is confirmed once it is known to listen there."""
        consumer_group = self.consumer_groups.get(want.group)
        if consumer_group is None:
            consumer_group = self.consumer_groups[want.group] = ConsumerGroup(group, want.kind)
        consumer_group.members[member.name] = member
        if self._owner.is_encrypted:
            member.is_confirmed = True
            self._say(member, None)
            self._release_if_complete()
            return
        if want.kind == BROADCAST:
            member.topic = consumer_group.topic = broadcast_topic(self._name, want.pattern)
        else:
            member.topic = member_topic(want.group, member.name)
        self._say(member, {"events": self._owner.broadcast_endpoint()})
        self.on_subscription(member.topic)

    def on_subscription(self, topic: bytes) -> None:
        """A subscriber begins or stops to listen for `topic`: confirm the members that are known to listen."""
        members = self._members_on(topic)
        if self._owner.listeners(topic) < len({member.client for member in members}):
            return
        for member in members:
            if not member.is_confirmed:
                member.is_confirmed = True
                self._say(member, None)
        self._release_if_complete()

    def _say(self, member: GroupMember, info: dict[Any, Any] | None) -> None:
        self._owner.call_server.send(member.client, envelope.encode(messages.Subscribed(member.id, info)))

    def left(self, member: GroupMember) -> None:
        """The member's link is lost, or it wants no more events."""
        consumer_group = self.consumer_groups.get(member.group)
        if consumer_group is None or consumer_group.members.get(member.name) is not member:
            return
        del consumer_group.members[member.name]
        if not consumer_group.members:
            del self.consumer_groups[member.group]
        if not self._members_on(member.topic):
            self._topics.pop(member.topic, None)
        self.on_subscription(member.topic)

    def _members_on(self, topic: bytes) -> list[GroupMember]:
        return [
            member
            for consumer_group in self.consumer_groups.values()
            for member in consumer_group.members.values()
            if member.topic == topic
        ]
