"""The events of one source in one process: what is dispatched, who gets it, and what is kept for those who are away.

What was not promised is in `best_effort`, journals that other processes left in `orphans`.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections import Counter
from collections.abc import Iterable
from functools import partial
from time import monotonic
from typing import Any

from gevent.event import Event as Flag

from zmqservices.cluster.events.best_effort import BestEffort, Packed
from zmqservices.cluster.events.commits import Commit, Commits
from zmqservices.cluster.events.consumer_group import ConsumerGroup, GroupMember
from zmqservices.cluster.events.group_delivery import GroupDelivery
from zmqservices.cluster.events.group_registrations import remembered
from zmqservices.cluster.events.orphans import Orphans
from zmqservices.cluster.events.served_journal import ServedJournal
from zmqservices.cluster.events.subscription import KINDS, LONGEST_NAME, NEW, STARTS, Subscription, publishing
from zmqservices.exceptions import BadRequest, ForkedProcessError, GroupConflict, JournalError, MessageTooLarge
from zmqservices.journal import Group, LostRange, NewEvent, StoredEvent
from zmqservices.transport.sockets import forked_error
from zmqservices.utils.native_threads import get_ident
from zmqservices.wire import codec, envelope, messages
from zmqservices.wire.quoting import quoted

_log = logging.getLogger(__name__)

#: Seconds after which a journal that failed to take up a group is asked again.
RETRY_INTERVAL = 1.0

#: Seconds for which a group that was removed is not taken up again from what other publishers say.
FORGOTTEN_FOR = 60.0

#: Bytes of an EVENT besides its body, headers and names.
OVERHEAD = 1024

#: Groups that a source keeps events for.
MOST_GROUPS = 10_000

#: Characters of each text of an error that are kept with a dead letter, and how many texts.
LONGEST_ERROR, MOST_ERROR_TEXTS = 20_000, 16


class Source:
    """Made by `EventPublisher.open`. Dispatching and opening are for greenlets, all else runs inside the reactor."""

    def __init__(self, publisher: Any, name: str, keeps: bool) -> None:
        self.name = name
        self.publisher = publisher
        self.settings = publisher.settings
        #: Whether it has a journal of its own: a relay serves those of others only.
        self.keeps = keeps
        self.own: ServedJournal | None = None
        self.served_journals: list[ServedJournal] = []
        self.dispatched = 0
        self.reactor = self._reactor = publisher.reactor
        self.best_effort = BestEffort(publisher, name)
        self.orphans = Orphans(self)
        self._consumer_groups: dict[str, ConsumerGroup] = {}
        self._origins: dict[str, ServedJournal] = {}
        self._forgotten: dict[str, float] = {}
        #: Groups that its journal knew when it was opened, and how long a member of each had been away.
        self._kept_before: dict[str, tuple[Subscription, float]] = {}
        self._commits = Commits(publisher.reactor)
        #: Groups of which a member is listed.
        self._live: set[str] = set()
        self._answered = Flag()
        self._closed = False
        self._thread = get_ident()
        self._pid = os.getpid()
        _sources.add(self)

    # --- opening -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the journal, learn who is to get events, and take over what others have left. Blocks the greenlet."""
        if self.keeps:
            own = self.new_outlet()
            own.open(self.name, self.tell)
            self.own = own
            self.served_journals.append(own)
            for group in own.journal.groups():
                self._consumer_group(group)
                own.with_delivery(group, self._ready)
            groups = own.journal.stats().groups
            wants = {want["group"]: Subscription.from_dict(want) for want in self.subscriptions()}
            self._kept_before = {name: (want, groups[name].idle) for name, want in wants.items() if want and name in groups}
            _log.info("events of %s are kept in %s", self.name, own.journal.path)
        self.learn()
        self._reactor.call_later(self.settings.wait_for_peers, self.best_effort.release)
        self.orphans.look()

    def new_outlet(self) -> ServedJournal:
        """One whose events leave from here, still to be opened."""
        return ServedJournal(self._reactor, self.settings, self._send, self.publisher.call_server.together)

    def learn(self) -> None:
        """The directory's view changed: groups that others know are ours to keep events for."""
        live = set()
        listed: Counter[tuple[str, str]] = Counter()
        view = self.publisher.directory.view()
        notes = remembered(view, self.name)
        for seen in view.records.values():
            record = seen.record
            is_publisher = record.service == publishing(self.name)
            for raw in record.subscriptions:
                found = Subscription.from_dict(raw)
                if found is None or found.source != self.name:
                    continue
                if not is_publisher and record.state != "DRAINING" and not seen.suspect:
                    if found.reliable:
                        live.add(found.group)
                    else:
                        listed[record.node, found.group] += 1
                if not found.reliable:
                    continue
                if self.own is not None and found.group not in self._consumer_groups:
                    if not is_publisher or self._may_take_up(found.group) and notes.get(found.group, found) is not None:
                        self._take_up(self._group(found))
        for want in notes.values():
            if want is not None and want.reliable and self.own is not None and self._may_take_up(want.group):
                self._take_up(self._group(want))
        self._live = live
        self.best_effort.listed(listed)

    def _may_take_up(self, group: str) -> bool:
        # The directory shows a moment later what was forgotten here.
        return monotonic() > self._forgotten.get(group, 0.0)

    def kept_before(self) -> dict[str, tuple[Subscription, float]]:
        """The groups that its journal knew when it was opened, and for how many seconds a member of each was away by then."""
        return self._kept_before

    def _take_up(self, group: Group) -> None:
        """Somebody else keeps events for it: from here on so do we."""
        if group.name not in self._consumer_groups:
            if len(self._consumer_groups) >= MOST_GROUPS:
                _log.warning("%s keeps no events for %s: %d groups are all that it does", self.name, group.name, MOST_GROUPS)
                return
            self._consumer_group(group)
            if self.own is not None:
                self.own.with_delivery(group, self._ready)
            self.publisher.amend_soon(self)

    def _ready(self, delivery: GroupDelivery | Exception) -> None:
        if isinstance(delivery, Exception):
            _log.error("a group of %s cannot be kept: %s", self.name, delivery)
        else:
            delivery.flush()

    def _group(self, want: Subscription) -> Group:
        most = self.settings.max_deliveries if want.max_deliveries is None else want.max_deliveries
        return Group(
            want.group, want.pattern, want.start, most, self.settings.expires_after, {"kind": want.kind, "source": self.name}
        )

    def _consumer_group(self, group: Group) -> ConsumerGroup:
        consumer_group = self._consumer_groups.get(group.name)
        if consumer_group is None:
            consumer_group = self._consumer_groups[group.name] = ConsumerGroup(group, str(group.details.get("kind", "")))
        elif consumer_group.group != group:
            consumer_group.group = group  # With other limits; its pattern is the same for as long as it lives.
        return consumer_group

    def subscriptions(self) -> list[dict[str, Any]]:
        """The groups that events are kept for, as a record says it."""
        return [
            Subscription(
                self.name,
                consumer_group.group.pattern,
                name,
                consumer_group.kind,
                True,
                NEW,
                consumer_group.group.max_deliveries,
            ).to_dict()
            for name, consumer_group in sorted(self._consumer_groups.items())
        ]

    def tell(self, notice: Any) -> None:
        """What a journal wants said aloud."""
        _log.warning("the journal of %s: %s", self.name, notice)

    # --- dispatching -------------------------------------------------------------------------------------------------

    def dispatch(
        self, type: str, body: Any, headers: dict[str, Any] | None, serializer: str | None, key: str | None, reliable: bool
    ) -> None:
        """Hand on one event. Reliable: returns once it is on disk, whoever is there to hear of it.

        Raises UnserializableValueError, MessageTooLarge, JournalFull and JournalError; then nobody gets it. And
        ForkedProcessError in a fork of the process that publishes, whose journal and links stay with the parent.
        """
        if self._closed:
            raise self._refusal()
        if get_ident() != self._thread:
            self.reactor.run_greenlet(self.dispatch, type, body, headers, serializer, key, reliable)
            return
        raw = body if serializer is not None else codec.pack(body)
        name = serializer or "msgpack"
        self.check_size(type, raw)
        if reliable:
            self._commits.wait(self._keep(type, raw, headers, name, key))
        else:
            self.best_effort.send_direct(self._consumer_groups.values(), type, raw, headers, name, key)
        self.dispatched += 1
        casual = self.best_effort
        if casual.consumer_groups or casual.early is not None:
            casual.broadcast(type, raw, headers, name, key)

    def dispatch_all(self, events: Iterable[Packed]) -> list[Exception | None]:
        """Hand on several in this order, reliably, with one wait for all. Answers the error of each; None: it is on disk.

        Raises ForkedProcessError as `dispatch` does.
        """
        if self._closed and isinstance(refusal := self._refusal(), ForkedProcessError):
            raise refusal
        if get_ident() != self._thread:
            outcomes: list[Exception | None] = self.reactor.run_greenlet(self.dispatch_all, list(events))
            return outcomes
        begun = [(event, self._begin(*event)) for event in events]
        return [begin if isinstance(begin, Exception) else self._end(event, begin) for event, begin in begun]

    def _begin(self, type: str, raw: bytes, headers: Any, serializer: str, key: str | None) -> Commit | Exception:
        if self._closed:
            return JournalError(str(self._refusal()))
        try:
            self.check_size(type, raw)
            return self._keep(type, raw, headers, serializer, key)
        except (MessageTooLarge, JournalError) as exc:
            return exc

    def _end(self, event: Packed, commit: Commit) -> Exception | None:
        try:
            self._commits.wait(commit)
        except JournalError as exc:
            return exc
        self.dispatched += 1
        casual = self.best_effort
        if casual.consumer_groups or casual.early is not None:
            casual.broadcast(*event)
        return None

    def _refusal(self) -> Exception:
        """Why nothing is taken any more."""
        if os.getpid() != self._pid:
            return forked_error(self._pid)
        return RuntimeError(f"{self.name!r} does not publish any more: its process is stopping")

    def check_size(self, type: str, raw: bytes) -> None:
        """Raise MessageTooLarge for an event that could not be sent."""
        size = len(raw) + len(type) + OVERHEAD
        if size > self.publisher.max_message_size:
            raise MessageTooLarge(
                f"the event {type!r} of {self.name!r} takes {size:,} bytes; max_message_size is "
                f"{self.publisher.max_message_size:,}"
            )

    def _keep(self, type: str, raw: bytes, headers: Any, serializer: str, key: str | None) -> Commit:
        if self.own is None:
            raise JournalError(f"{self.name!r} has no journal here: a relay dispatches nothing itself")
        return self._commits.append(self.own.journal, NewEvent(type, raw, codec.pack([headers, serializer]), key))

    # --- members -----------------------------------------------------------------------------------------------------

    def subscribe(self, client: Any, message: messages.Subscribe, answers: Iterable[messages.Ack] = ()) -> GroupMember:
        """A guest wants events; it is told once that is in effect.

        `answers` of its process to events of the group, from before this link. Raises BadRequest where it is refused.
        """
        want = self._wanted(client, message)
        member = GroupMember(client, message)
        if message.reliable:
            for answer in answers:
                self.acked(member, answer.journal, (answer.seq, *(answer.also or ())), is_told_again=True)
            self._subscribe_reliable(member, want)
        else:
            self.best_effort.subscribe(member, want, self._group(want))
        return member

    def _wanted(self, client: Any, message: messages.Subscribe) -> Subscription:
        """What is asked for. Raises BadRequest for what makes no sense, or is not what the group was declared with."""
        options = message.options or {}
        start, most = options.get("start"), options.get("max_deliveries")
        want = Subscription.from_dict({
            "source": self.name,
            "pattern": message.pattern,
            "group": message.group,
            "kind": message.kind,
            "reliable": message.reliable,
            "start": start if start in STARTS else NEW,
            "max_deliveries": most if type(most) is int and most >= 0 else None,
        })  # fmt: skip
        if want is None or not message.member.startswith(process_of(client)) or len(message.member) > LONGEST_NAME:
            raise BadRequest(
                f"a subscription of member {quoted(message.member)} at {quoted(message.group)} is not one: a kind out of "
                f"{', '.join(KINDS)}, texts of {LONGEST_NAME:,} characters at most without zero bytes, and a member named "
                f"after its node, {process_of(client)}1 for example, are needed"
            )
        consumer_groups = self._consumer_groups if want.reliable else self.best_effort.consumer_groups
        consumer_group = consumer_groups.get(want.group)
        if consumer_group is None and len(consumer_groups) >= MOST_GROUPS:
            raise BadRequest(f"{self.name!r} keeps events for {MOST_GROUPS:,} groups already, which is all that it does")
        if consumer_group is not None and not consumer_group.declares(want):
            raise BadRequest(
                f"group {quoted(want.group)} gets the events {quoted(consumer_group.group.pattern)} as "
                f"{quoted(consumer_group.kind)} for as "
                f"long as it lives, and not {quoted(want.pattern)} as {want.kind}; take another name, or let an operator end "
                "it with `zmqservices events forget`"
            )
        return want

    def _subscribe_reliable(self, member: GroupMember, want: Subscription) -> None:
        group = self._group(want)
        is_new = group.name not in self._consumer_groups
        consumer_group = self._consumer_group(group)
        former = consumer_group.members.get(member.name)
        consumer_group.members[member.name] = member
        if former is not None:
            self._left_deliveries(former)
        self._forgotten.pop(group.name, None)
        for served in self.served_journals:
            if served is self.own or served.knows_group(group.name) or want.start != NEW:
                served.with_delivery(group, partial(self._join, member, served))
        if self.own is None:
            self._confirm(member)
        if is_new and self.own is not None:
            self.publisher.amend_soon(self)

    def _join(self, member: GroupMember, served: ServedJournal, delivery: GroupDelivery | Exception) -> None:
        consumer_group = self._consumer_groups.get(member.group)
        if isinstance(delivery, Exception):
            # It is not confirmed, and its handler says so when it starts.
            _log.error("events for %s cannot be kept: %s", member.group, delivery)
            if not isinstance(delivery, GroupConflict):
                self._reactor.call_later(RETRY_INTERVAL, self._join_again, member, served)
            return
        if consumer_group is None or consumer_group.members.get(member.name) is not member or member.is_leaving:
            return
        delivery.joined(member.name, member.credit)
        if served is self.own:
            self._confirm(member)
        delivery.flush()

    def _join_again(self, member: GroupMember, served: ServedJournal) -> None:
        consumer_group = self._consumer_groups.get(member.group)
        if consumer_group is None or consumer_group.members.get(member.name) is not member:
            return
        if served in self.served_journals and not self._closed:
            served.with_delivery(consumer_group.group, partial(self._join, member, served))

    def _confirm(self, member: GroupMember) -> None:
        member.is_confirmed = True
        self.publisher.say(member.client, messages.Subscribed(member.id, {"ack_wait": self.settings.ack_wait}))

    def unsubscribe(self, member: GroupMember) -> None:
        """It wants no more; what it has is answered still, or goes to others when its link ends."""
        member.is_leaving = True
        for delivery in self._deliveries_of(member.group):
            delivery.retire(member.name)

    def left(self, member: GroupMember) -> None:
        """Its link is gone, or it is through with everything."""
        consumer_group = self._consumer_groups.get(member.group)
        if consumer_group is not None and consumer_group.members.get(member.name) is member:
            del consumer_group.members[member.name]
            self._left_deliveries(member)
        self.best_effort.left(member)
        self._answered.set()

    def _left_deliveries(self, member: GroupMember) -> None:
        for delivery in self._deliveries_of(member.group):
            delivery.left(member.name)

    def _deliveries_of(self, group: str) -> Iterable[GroupDelivery]:
        return [served.deliveries[group] for served in self.served_journals if group in served.deliveries]

    def granted(self, member: GroupMember, amount: int) -> None:
        member.credit += amount
        for delivery in self._deliveries_of(member.group):
            delivery.granted(member.name, amount)
            self.publisher.call_server.request_flush(delivery)

    def acked(self, member: GroupMember, origin: str, seqs: Iterable[int], is_told_again: bool = False) -> None:
        """The member, or another one of its process, handled the events, whether it is still thought to have them or not.

        `is_told_again`: they did not come for its subscription, and so cost no credit.
        """
        process = process_of(member.client)
        for seq in seqs:
            served = self._served_journal(origin, seq)
            if served is None:
                self.orphans.claims.keep(member.group, origin, seq, monotonic())
                continue
            is_older = origin != served.journal.origin
            delivery = served.deliveries.get(member.group)
            if delivery is not None:
                delivery.acked(member.name, seq, process, is_older, not is_told_again)
                self.publisher.call_server.request_flush(delivery)
            elif is_older:
                served.journal.acknowledge(member.group, seq)
        self._answered.set()

    def nacked(self, member: GroupMember, origin: str, seq: int, delay: float, error: dict[Any, Any] | None) -> None:
        served = self._served_journal(origin, seq)
        delivery = None if served is None else served.deliveries.get(member.group)
        if delivery is not None:
            delivery.nacked(member.name, seq, delay, None if error is None else described(error))
            self.publisher.call_server.request_flush(delivery)
        self._answered.set()

    def _served_journal(self, origin: str, seq: int) -> ServedJournal | None:
        # One that is not among these was sent by the process that left that journal, or by our own last start.
        return self._origins.get(origin) or next((one for one in self.served_journals if one.journal.knows(origin, seq)), None)

    def _send(self, name: str, group: str, item: StoredEvent | LostRange, attempt: int) -> None:
        consumer_group = self._consumer_groups.get(group)
        member = None if consumer_group is None else consumer_group.members.get(name)
        if member is None:
            return  # Its leaving is on the way to the schedule.
        if isinstance(item, LostRange):
            origin = self.own.journal.origin if self.own is not None else ""
            self.publisher.say(member.client, messages.Gap(group, origin, item.from_seq, item.to_seq, item.reason))
            return
        if item.origin not in self._origins:
            for served in self.served_journals:
                if served.journal.knows(item.origin, item.seq):
                    self._origins[item.origin] = served
        headers, serializer = codec.unpack(item.headers) if item.headers else (None, "msgpack")
        message = messages.Event(
            item.origin, item.seq, item.prev_seq, self.name, item.type, item.body, group, attempt, headers, item.key,
            serializer, item.at, member.id,
        )  # fmt: skip
        self.publisher.call_server.send(member.client, envelope.encode(message))

    # --- journals that others left ---------------------------------------------------------------------------------------

    def take_up_all(self, served: ServedJournal) -> None:
        """Its groups are ours to keep events for as well."""
        for group in served.journal.groups():
            self._take_up(group)

    def serve(self, served: ServedJournal) -> None:
        """From now on its events are delivered by us."""
        self.served_journals.append(served)
        for group in served.journal.groups():
            consumer_group = self._consumer_groups.get(group.name) or self._consumer_group(group)
            for member in list(consumer_group.members.values()):
                served.with_delivery(consumer_group.group, partial(self._join, member, served))
            served.with_delivery(consumer_group.group, self._ready)

    def serve_no_more(self, served: ServedJournal) -> None:
        """Nothing is in it any more."""
        self.served_journals.remove(served)
        self._origins = {origin: one for origin, one in self._origins.items() if one is not served}

    # --- groups, for operators ---------------------------------------------------------------------------------------

    def forget(self, name: str) -> bool:
        """Keep nothing for the group any more, and throw away what waits for it. Blocks the greenlet.

        Raises BadRequest while it has members.
        """
        consumer_group = self._consumer_groups.get(name)
        if consumer_group is not None and consumer_group.members:
            raise BadRequest(f"{name} has {len(consumer_group.members)} members; stop them first")
        now = monotonic()
        self._forgotten = {group: until for group, until in self._forgotten.items() if until > now}
        self._forgotten[name] = now + FORGOTTEN_FOR
        self._consumer_groups.pop(name, None)
        self.publisher.node.groups.forget(self.name, name)
        found = [served.forget(name) for served in self.served_journals]
        self.publisher.amend_soon(self)
        return any(found)

    @property
    def is_empty(self) -> bool:
        """Nothing waits in any journal for anybody."""
        return not any(group.waiting for served in self.served_journals for group in served.journal.stats().groups.values())

    def consumer_groups(self) -> dict[str, ConsumerGroup]:
        return self._consumer_groups

    # --- the end -----------------------------------------------------------------------------------------------------

    def drain(self, timeout: float, linger: float) -> None:
        """Take no more events; let those who are there handle what waits, for `linger` seconds, then what they have."""
        self._closed = True
        self.orphans.close()
        self.best_effort.release()
        self._wait(linger, lambda: all(served.is_done(self._live) for served in self.served_journals))
        for served in self.served_journals:
            served.pause()
        self._wait(timeout, lambda: not any(served.in_flight for served in self.served_journals))

    def _wait(self, timeout: float, is_over: Any) -> None:
        end = monotonic() + timeout
        while not is_over():
            left = end - monotonic()
            if left <= 0:
                return
            self._answered.clear()
            # Not only answers end it: what is written late, and members that leave, do as well.
            self._answered.wait(min(left, 0.05))

    def close(self) -> None:
        """Blocks the greenlet while journals are closed."""
        self._closed = True
        self.orphans.close()
        self.best_effort.close()
        for served in self.served_journals:
            served.close()


def process_of(client: Any) -> str:
    """What the names of all members of the guest's process begin with."""
    return f"{client.node}."


def described(error: dict[Any, Any]) -> dict[str, Any]:
    """An error as it is kept with a dead letter, whatever a member sent for one: texts, and not too long."""
    kept: dict[str, Any] = {"exc_type": "Unknown", "exc_path": "", "exc_args": [], "value": ""}
    for key, value in list(error.items())[:MOST_ERROR_TEXTS]:
        if type(key) is not str or len(key) > LONGEST_NAME:
            continue
        if key == "exc_args":
            values = value if isinstance(value, (list, tuple)) else [value]
            kept[key] = [_plain(one) for one in values[:MOST_ERROR_TEXTS]]
        else:
            kept[key] = _plain(value)
    return kept


def _plain(value: Any) -> Any:
    if value is None or type(value) in (bool, float) or (type(value) is int and -(2**63) <= value < 2**63):
        return value
    if type(value) is not str:
        # Never the repr of what a peer sent, which may be large, or nested deeply.
        return f"[a {type(value).__name__}]"
    text = value if len(value) <= LONGEST_ERROR else f"{value[:LONGEST_ERROR]}... ({len(value):,} characters)"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


#: All sources of this process.
_sources: weakref.WeakSet[Source] = weakref.WeakSet()


def _refuse_all() -> None:
    # So that a fork finds them closed, and is told why: a dispatch there would wait for the parent's threads for ever.
    # Looking at each dispatch for a fork costs more.
    for source in list(_sources):
        source._closed = True


os.register_at_fork(after_in_child=_refuse_all)
