"""The members of one source's groups, which subscribe, get events within their credit, answer them, and leave.

    SUBSCRIBE --> subscribe --> join in every served journal --> SUBSCRIBED, once the source's own journal keeps the group
    GRANT, ACK, NACK --> the group's delivery in the journal that the event came from
    UNSUBSCRIBE --> unsubscribe: no new events; a second UNSUBSCRIBE, or the end of the link --> left

Rule 1: no sockets and no clock here; `MemberLinks` sends messages, and `clock` tells the time.
Rule 2: the first answer to an event counts, from any member of the process to which the event was sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from zmqservices.cluster.calls.incoming import ClientConnection
from zmqservices.cluster.events.best_effort import BestEffort
from zmqservices.cluster.events.consumer_group import GroupMember
from zmqservices.cluster.events.dead_letter_errors import plain_error
from zmqservices.cluster.events.group_delivery import GroupDelivery
from zmqservices.cluster.events.orphans import JournalClaims
from zmqservices.cluster.events.served_journal import ServedJournal
from zmqservices.cluster.events.source_groups import SourceGroups
from zmqservices.cluster.events.source_journals import SourceJournals
from zmqservices.cluster.events.subscription import KINDS, LONGEST_NAME, NEW, STARTS, Subscription
from zmqservices.exceptions import BadRequest, GroupConflict
from zmqservices.journal import LostRange, StoredEvent
from zmqservices.transport.reactor import Reactor
from zmqservices.wire import codec, envelope, messages
from zmqservices.wire.quoting import quoted

_log = logging.getLogger(__name__)

#: Seconds after which a group that a journal could not add is tried again.
RETRY_INTERVAL = 1.0


class MemberLinks(Protocol):
    """Sends messages to the processes of members; a CallServer."""

    def send(self, client: ClientConnection, frames: bytes | tuple[bytes, bytes]) -> None:
        """Send an encoded message to the process of a member."""

    def request_flush(self, to_flush: GroupDelivery) -> None:
        """Call `to_flush.flush()` once all messages that arrived together have been handled."""


class SourceMembers:
    """The members of one source's groups. Everything here runs inside the reactor.

    `on_new_group` is called after a member has brought an unknown group, and `on_answer` after each answer and each departure.
    """

    def __init__(
        self,
        source: str,
        groups: SourceGroups,
        journals: SourceJournals,
        best_effort: BestEffort,
        claims: JournalClaims,
        links: MemberLinks,
        reactor: Reactor,
        ack_wait: float,
        on_new_group: Callable[[], None],
        on_answer: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._groups = groups
        self._journals = journals
        self._best_effort = best_effort
        self._claims = claims
        self._links = links
        self._reactor = reactor
        self._ack_wait = ack_wait
        self._on_new_group = on_new_group
        self._on_answer = on_answer
        self._clock = clock
        self._closed = False

    # --- subscribing -------------------------------------------------------------------------------------------------

    def subscribe(
        self, client: ClientConnection, message: messages.Subscribe, answers: Iterable[messages.Ack] = ()
    ) -> GroupMember:
        """Add a member. It gets SUBSCRIBED once events are kept for its group.

        `answers`: answers of its process to events of the group from before this link. Raises BadRequest if the subscription is
        refused.
        """
        want = self._requested(client, message)
        member = GroupMember(client, message)
        if message.reliable:
            for answer in answers:
                self.acked(member, answer.origin, (answer.seq, *(answer.also or ())), is_repeated=True)
            self._subscribe_reliable(member, want)
        else:
            self._best_effort.subscribe(member, want, self._groups.group_of(want))
        return member

    def _requested(self, client: ClientConnection, message: messages.Subscribe) -> Subscription:
        """The subscription that a SUBSCRIBE asks for. Raises BadRequest if it is malformed or contradicts its group."""
        options = message.options or {}
        start, most = options.get("start"), options.get("max_deliveries")
        want = Subscription.from_dict({
            "source": self._source,
            "pattern": message.pattern,
            "group": message.group,
            "kind": message.kind,
            "reliable": message.reliable,
            "start": start if start in STARTS else NEW,
            "max_deliveries": most if type(most) is int and most >= 0 else None,
        })  # fmt: skip
        process = process_of(client)
        if want is None or not message.member.startswith(process) or len(message.member) > LONGEST_NAME:
            raise BadRequest(
                f"a subscription of member {quoted(message.member)} at {quoted(message.group)} is not one: a kind out of "
                f"{', '.join(KINDS)}, texts of {LONGEST_NAME:,} characters at most without zero bytes, and a member named "
                f"after its node, {process}1 for example, are needed"
            )
        self._groups.check(want, self._groups.by_name if want.reliable else self._best_effort.consumer_groups)
        return want

    def _subscribe_reliable(self, member: GroupMember, want: Subscription) -> None:
        group = self._groups.group_of(want)
        own = self._journals.own
        is_new = group.name not in self._groups.by_name
        consumer_group = self._groups.put(group)
        former = consumer_group.members.get(member.name)
        consumer_group.members[member.name] = member
        if former is not None:
            self._left_deliveries(former)
        self._groups.allow(group.name)
        for served in self._journals.all:
            if served is own or served.knows_group(group.name) or want.start != NEW:
                served.with_delivery(group, partial(self._join, member, served))
        if own is None:
            self._confirm(member)
        elif is_new:
            self._on_new_group()

    def join_all(self, served: ServedJournal) -> None:
        """Deliver the events of a new served journal to the members of its groups."""
        for group in served.journal.groups():
            consumer_group = self._groups.by_name.get(group.name) or self._groups.put(group)
            for member in list(consumer_group.members.values()):
                served.with_delivery(consumer_group.group, partial(self._join, member, served))

    def _is_member(self, member: GroupMember) -> bool:
        consumer_group = self._groups.by_name.get(member.group)
        return consumer_group is not None and consumer_group.members.get(member.name) is member

    def _join(self, member: GroupMember, served: ServedJournal, delivery: GroupDelivery | Exception) -> None:
        if isinstance(delivery, Exception):
            # The member is not confirmed, and its handler's process logs that.
            _log.error("events for %s cannot be kept: %s", member.group, delivery)
            if not isinstance(delivery, GroupConflict):
                self._reactor.call_later(RETRY_INTERVAL, self._join_again, member, served)
            return
        if not self._is_member(member) or member.is_leaving:
            return
        delivery.joined(member.name, member.credit)
        if served is self._journals.own:
            self._confirm(member)
        delivery.flush()

    def _join_again(self, member: GroupMember, served: ServedJournal) -> None:
        if self._is_member(member) and served in self._journals.all and not self._closed:
            served.with_delivery(self._groups.by_name[member.group].group, partial(self._join, member, served))

    def _confirm(self, member: GroupMember) -> None:
        member.is_confirmed = True
        subscribed = messages.Subscribed(member.id, {"ack_wait": self._ack_wait})
        self._links.send(member.client, envelope.encode(subscribed))

    # --- leaving -----------------------------------------------------------------------------------------------------

    def unsubscribe(self, member: GroupMember) -> None:
        """Send the member no more events. It may still answer its events; if its link ends, they go to others."""
        member.is_leaving = True
        for delivery in self._journals.deliveries_of(member.group):
            delivery.retire(member.name)

    def left(self, member: GroupMember) -> None:
        """The member's link is lost, or it has answered all its events. Unanswered events go to others."""
        if self._is_member(member):
            del self._groups.by_name[member.group].members[member.name]
            self._left_deliveries(member)
        self._best_effort.left(member)
        self._on_answer()

    def _left_deliveries(self, member: GroupMember) -> None:
        for delivery in self._journals.deliveries_of(member.group):
            delivery.left(member.name)

    def close(self) -> None:
        """The source stops: try failed groups no more."""
        self._closed = True

    # --- credit and answers ------------------------------------------------------------------------------------------

    def granted(self, member: GroupMember, amount: int) -> None:
        """The member takes `amount` more events of each journal. 0 only shows that it is alive."""
        member.credit += amount
        for delivery in self._journals.deliveries_of(member.group):
            delivery.granted(member.name, amount)
            self._links.request_flush(delivery)

    def acked(self, member: GroupMember, origin: str, seqs: Iterable[int], is_repeated: bool = False) -> None:
        """The member, or another member of its process, has handled these events.

        `is_repeated`: the answers were given before this subscription, so they give no credit back.
        """
        process = process_of(member.client)
        for seq in seqs:
            served = self._journals.find(origin, seq)
            if served is None:
                self._claims.add(member.group, origin, seq, self._clock())
                continue
            is_older = origin != served.journal.origin
            delivery = served.deliveries.get(member.group)
            if delivery is not None:
                delivery.acked(member.name, seq, process, is_older, not is_repeated)
                self._links.request_flush(delivery)
            elif is_older:
                served.journal.acknowledge(member.group, seq)
        self._on_answer()

    def nacked(self, member: GroupMember, origin: str, seq: int, delay: float, error: dict[Any, Any] | None) -> None:
        """The member's handler failed with `error`, or it gives the event back unhandled (None).

        Deliver it again after `delay` seconds.
        """
        served = self._journals.find(origin, seq)
        delivery = None if served is None else served.deliveries.get(member.group)
        if delivery is not None:
            delivery.nacked(member.name, seq, delay, None if error is None else plain_error(error))
            self._links.request_flush(delivery)
        self._on_answer()

    # --- events ------------------------------------------------------------------------------------------------------

    def send(self, name: str, group: str, item: StoredEvent | LostRange, attempt: int) -> None:
        """Send an event, or a gap, to the member `name` of `group`."""
        consumer_group = self._groups.by_name.get(group)
        member = None if consumer_group is None else consumer_group.members.get(name)
        if member is None:
            return  # The member has left, which the schedule is told next.
        if isinstance(item, LostRange):
            own = self._journals.own
            gap = messages.Gap(group, "" if own is None else own.journal.origin, item.from_seq, item.to_seq, item.reason)
            self._links.send(member.client, envelope.encode(gap))
            return
        self._journals.note_sent(item.origin, item.seq)
        headers, serializer = codec.unpack(item.headers) if item.headers else (None, "msgpack")
        frames = envelope.encode_event(
            item.origin, item.seq, item.prev_seq, self._source, item.type, item.body, group, attempt, headers, item.key,
            serializer, item.at, member.id,
        )  # fmt: skip
        self._links.send(member.client, frames)


def process_of(client: ClientConnection) -> str:
    """The prefix that the names of all members of a client's process share."""
    return f"{client.node}."
