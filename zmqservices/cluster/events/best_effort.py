"""Events without a promise: one source's dispatches to who is there, over its node's mast, without a trace on a disk.

To those who asked for a promise (`send_direct`) they go on the link, as no other way leads there.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterable
from time import time
from typing import Any

from zmqservices.cluster.calls.send_queue import LONGEST_SEND_QUEUE
from zmqservices.cluster.events.consumer_group import ConsumerGroup, GroupMember
from zmqservices.cluster.events.subscription import BROADCAST, Subscription, broadcast_topic, member_topic
from zmqservices.journal import Group
from zmqservices.wire import envelope, messages

#: Events that wait for handlers which are listed and not connected yet, while a publisher is new.
EARLY_EVENTS = 10_000

#: Messages in the queue of one guest beyond which events for it are dropped.
LONG_SEND_QUEUE, LONG_SEND_QUEUE_BYTES = 1000, LONGEST_SEND_QUEUE // 4

#: An event that is packed already: its type, body, headers, serializer's name and key.
Packed = tuple[str, bytes, dict[str, Any] | None, str, str | None]


class BestEffort:
    """Made by the source `name`; everything here runs inside the reactor."""

    def __init__(self, publisher: Any, name: str) -> None:
        self.publisher = publisher
        self.name = name
        #: Copies that were thrown away for want of room.
        self.dropped = 0
        #: The groups that have a member here.
        self.consumer_groups: dict[str, ConsumerGroup] = {}
        #: Events from before `release`; None from then on.
        self.early: deque[Packed] | None = deque()
        #: The last number of each topic.
        self._topics: dict[bytes, int] = {}
        self._numbers = itertools.count(1)
        #: Who is listed as handling such events: how many for each node and group.
        self._listed: Counter[tuple[str, str]] = Counter()

    # --- sending -----------------------------------------------------------------------------------------------------

    def broadcast(self, type: str, raw: bytes, headers: Any, serializer: str, key: str | None) -> None:
        """Hand it to one member of each group, and to all of those that are BROADCAST."""
        if self.early is not None:
            self.early.append((type, raw, headers, serializer, key))
            if len(self.early) > EARLY_EVENTS:
                self.early.popleft()
                self.dropped += 1
            return
        patterns = set()
        for consumer_group in self.consumer_groups.values():
            if not consumer_group.pattern.matches(type):
                continue
            if consumer_group.kind == BROADCAST:
                if consumer_group.group.pattern not in patterns:
                    patterns.add(consumer_group.group.pattern)
                    topic = broadcast_topic(self.name, consumer_group.group.pattern)
                    self._transmit(topic, None, type, raw, headers, serializer, key)
            else:
                member = consumer_group.next()
                if member is not None:
                    self._transmit(member.topic, consumer_group.group.name, type, raw, headers, serializer, key)

    def _transmit(
        self, topic: bytes, group: str | None, type: str, raw: bytes, headers: Any, serializer: str, key: str | None
    ) -> None:
        seq = self._topics[topic] = self._topics.get(topic, 0) + 1
        message = messages.Event(
            self.publisher.id, seq, seq - 1, self.name, type, raw, group, 1, headers, key, serializer, time()
        )
        self.publisher.broadcast().send(topic, envelope.encode(message))

    def send_direct(
        self, consumer_groups: Iterable[ConsumerGroup], type: str, raw: bytes, headers: Any, serializer: str, key: str | None
    ) -> None:
        """To those who asked for a promise that this event does not have: one member of each group that is there now."""
        for consumer_group in consumer_groups:
            member = consumer_group.next() if consumer_group.pattern.matches(type) else None
            if member is None:
                continue
            if len(member.client.send_queue) > LONG_SEND_QUEUE or member.client.send_queue.bytes > LONG_SEND_QUEUE_BYTES:
                self.dropped += 1
                continue
            message = messages.Event(
                self.publisher.id, next(self._numbers), 0, self.name, type, raw, consumer_group.group.name, 1, headers, key,
                serializer, time(), member.id,
            )  # fmt: skip
            self.publisher.call_server.send(member.client, envelope.encode(message))

    # --- while the publisher is new ------------------------------------------------------------------------------------

    def listed(self, handlers: Counter[tuple[str, str]]) -> None:
        """So many of each (node, group) are listed as handling such events: when all are there, nobody is waited for."""
        self._listed = handlers
        self._release_if_complete()

    def release(self) -> None:
        """Whoever is not there by now does not get what was dispatched so far."""
        early, self.early = self.early, None
        for event in early or ():
            self.broadcast(*event)

    def _release_if_complete(self) -> None:
        if self.early is None:
            return
        members = (member for consumer_group in self.consumer_groups.values() for member in consumer_group.members.values())
        here = Counter((member.client.node, member.group) for member in members if member.is_confirmed)
        # A view that has not come yet lists nobody: then time decides.
        if self._listed <= here and self.publisher.directory_is_known:
            self.release()

    def close(self) -> None:
        """Nothing leaves any more."""
        self.early = None

    # --- members -----------------------------------------------------------------------------------------------------

    def subscribe(self, member: GroupMember, want: Subscription, group: Group) -> None:
        """It is told where to listen, and once more when it is known here to do so."""
        consumer_group = self.consumer_groups.get(want.group)
        if consumer_group is None:
            consumer_group = self.consumer_groups[want.group] = ConsumerGroup(group, want.kind)
        consumer_group.members[member.name] = member
        if want.kind == BROADCAST:
            member.topic = broadcast_topic(self.name, want.pattern)
        else:
            member.topic = member_topic(want.group, member.name)
        self.publisher.say(member.client, messages.Subscribed(member.id, {"events": self.publisher.mast_endpoint()}))
        self.on_subscription(member.topic)

    def on_subscription(self, topic: bytes) -> None:
        """Somebody listens for `topic`, or ceases to: confirm those of whom that is known."""
        members = self._tuned_to(topic)
        if self.publisher.listeners(topic) < len({member.client for member in members}):
            return
        for member in members:
            if not member.is_confirmed:
                member.is_confirmed = True
                self.publisher.say(member.client, messages.Subscribed(member.id))
        self._release_if_complete()

    def left(self, member: GroupMember) -> None:
        """Its link is gone, or it wants no more."""
        consumer_group = self.consumer_groups.get(member.group)
        if consumer_group is None or consumer_group.members.get(member.name) is not member:
            return
        del consumer_group.members[member.name]
        if not consumer_group.members:
            del self.consumer_groups[member.group]
        if not self._tuned_to(member.topic):
            self._topics.pop(member.topic, None)
        self.on_subscription(member.topic)

    def _tuned_to(self, topic: bytes) -> list[GroupMember]:
        return [
            member
            for consumer_group in self.consumer_groups.values()
            for member in consumer_group.members.values()
            if member.topic == topic
        ]
