"""A consumer group at one publisher: its members there, and whose turn is next."""

from __future__ import annotations

from zmqservices.cluster.calls.incoming import ClientConnection
from zmqservices.cluster.events.subscription import BROADCAST, Subscription
from zmqservices.journal import Group
from zmqservices.wire import messages, topics


class GroupMember:
    """One subscription of one client."""

    __slots__ = ("client", "id", "name", "group", "credit", "is_leaving", "is_confirmed", "topic", "pattern")

    def __init__(self, client: ClientConnection, message: messages.Subscribe) -> None:
        self.client = client
        self.id = message.id
        self.name = message.member
        self.group = message.group
        #: How many events of each journal the member takes at once.
        self.credit = message.credit
        self.is_leaving = False
        #: Whether SUBSCRIBED was sent to the member.
        self.is_confirmed = False
        #: The topic for which a best-effort member listens.
        self.topic = b""
        self.pattern = message.pattern


class ConsumerGroup:
    """One group with its connected members, reliable or not."""

    __slots__ = ("group", "kind", "pattern", "members", "turn", "topic")

    def __init__(self, group: Group, kind: str) -> None:
        self.group = group
        self.kind = kind
        self.pattern = topics.compile(group.pattern)
        self.members: dict[str, GroupMember] = {}
        self.turn = 0
        #: The topic for which all members of a best-effort BROADCAST group listen.
        self.topic = b""

    def declares(self, want: Subscription) -> bool:
        """Whether `want` agrees with the group's pattern and kind, which never change."""
        return self.group.pattern == want.pattern and self.kind in (want.kind, "")

    def receivers(self) -> list[GroupMember]:
        """The members that get the next best-effort event: one, or all of a BROADCAST."""
        if self.kind == BROADCAST:
            return [member for member in self.members.values() if member.is_confirmed and not member.is_leaving]
        member = self.next()
        return [] if member is None else [member]

    def next(self) -> GroupMember | None:
        """The next member in turn that is confirmed and not leaving; None if there is none."""
        able = [member for member in self.members.values() if member.is_confirmed and not member.is_leaving]
        if not able:
            return None
        self.turn += 1
        return able[self.turn % len(able)]
