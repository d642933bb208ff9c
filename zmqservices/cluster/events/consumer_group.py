"""Who is there of a group: the members that subscribed at one publisher, and whose turn it is."""

from __future__ import annotations

from typing import Any

from zmqservices.cluster.events.subscription import Subscription
from zmqservices.journal import Group
from zmqservices.wire import messages, topics


class GroupMember:
    """One subscription of one guest."""

    __slots__ = ("client", "id", "name", "group", "credit", "is_leaving", "is_confirmed", "topic", "pattern")

    def __init__(self, client: Any, message: messages.Subscribe) -> None:
        self.client = client
        self.id = message.id
        self.name = message.member
        self.group = message.group
        #: Events of one journal that it takes at once.
        self.credit = message.credit
        self.is_leaving = False
        self.is_confirmed = False
        #: Only of best-effort members: what they listen for.
        self.topic = b""
        self.pattern = message.pattern


class ConsumerGroup:
    """The members of one group that are there, reliable or not."""

    __slots__ = ("group", "kind", "pattern", "members", "turn")

    def __init__(self, group: Group, kind: str) -> None:
        self.group = group
        self.kind = kind
        self.pattern = topics.compile(group.pattern)
        self.members: dict[str, GroupMember] = {}
        self.turn = 0

    def declares(self, want: Subscription) -> bool:
        """Whether `want` is what the group was declared with. That is the same for as long as the group lives."""
        return self.group.pattern == want.pattern and self.kind in (want.kind, "")

    def next(self) -> GroupMember | None:
        """The members take turns; those that have not heard us yet or are leaving are left out."""
        able = [member for member in self.members.values() if member.is_confirmed and not member.is_leaving]
        if not able:
            return None
        self.turn += 1
        return able[self.turn % len(able)]
