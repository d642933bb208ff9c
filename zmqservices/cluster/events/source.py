"""The events of one source in one process. A Source opens and closes these parts:

    groups       the consumer groups for which events are kept
    journals     the source's own journal, and adopted orphans
    members      the members of the groups, which subscribe, get events and answer them
    best_effort  events without a journal
    orphans      the search for journals of ended processes
    dispatching  the dispatches of this process
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from gevent.event import Event as Flag

import discovery
from zmqservices.cluster.events.best_effort import BestEffort, BestEffortOwner
from zmqservices.cluster.events.group_delivery import GroupDelivery
from zmqservices.cluster.events.orphans import Fingerprint, Orphans
from zmqservices.cluster.events.served_journal import ServedJournal
from zmqservices.cluster.events.source_dispatch import HubLike, SourceDispatch
from zmqservices.cluster.events.source_groups import SourceGroups
from zmqservices.cluster.events.source_journals import SourceJournals
from zmqservices.cluster.events.source_members import MemberLinks, SourceMembers
from zmqservices.cluster.events.subscription import Subscription
from zmqservices.cluster.settings import EventSettings
from zmqservices.journal import Group, Notice
from zmqservices.probes import Watched
from zmqservices.utils.waiting import wait_until
from zmqservices.wire.headers import HeaderLimits

_log = logging.getLogger(__name__)

#: Seconds between two checks of a drain, because late writes and leaving members can end it without waking it.
DRAIN_INTERVAL = 0.05


class SourceLinks(MemberLinks, Protocol):
    """Sends messages to members; a CallServer."""

    def together(self, work: Callable[..., None], *args: object) -> None:
        """Call `work(*args)`, and send its messages to each client as one message."""


class SourceDirectory(Protocol):
    """The part of a directory that a source reads."""

    def view(self) -> discovery.View:
        """All that the directory lists now."""


class SourceOwner(BestEffortOwner, Protocol):
    """The publisher that a source belongs to; an EventPublisher."""

    settings: EventSettings
    max_message_size: int
    header_limits: HeaderLimits
    #: The object that probes watch; the publisher.
    watched: Watched
    #: The orphans that were found empty, with the state of their files at that time.
    empty_orphans: dict[Path, Fingerprint]

    @property
    def reactor(self) -> HubLike: ...

    @property
    def directory(self) -> SourceDirectory: ...

    @property
    def call_server(self) -> SourceLinks: ...

    def announce_soon(self, source: Source) -> None:
        """The groups of `source` changed: announce them in the directory soon."""

    def unregister_group(self, source: str, group: str) -> None:
        """Remove the group from the directory, because an operator has removed it."""

    def spawn(self, function: Callable[[], None]) -> None:
        """Run `function` in a greenlet that ends with the publisher."""


class Source:
    """One source, made by `EventPublisher.open`. Greenlets dispatch, open and close; the rest runs inside the reactor."""

    def __init__(
        self, owner: SourceOwner, name: str, has_journal: bool, clock: Callable[[], float] = monotonic
    ) -> None:
        """`has_journal`: whether the source has its own journal. A relay has none, and only serves orphans."""
        settings = owner.settings
        self.name = name
        self.reactor = owner.reactor
        self.groups = SourceGroups(name, settings.max_deliveries, settings.expires_after, settings.max_groups)
        self.journals = SourceJournals()
        self.best_effort = BestEffort(owner, name)
        self.orphans = Orphans(self, settings.folder, owner.empty_orphans, owner.spawn, owner.reactor, clock)
        self._owner = owner
        self._has_journal = has_journal
        self._clock = clock
        #: The names of groups that have a listed member.
        self._with_members: set[str] = set()
        self._answered = Flag()
        self.members = SourceMembers(
            name,
            self.groups,
            self.journals,
            self.best_effort,
            self.orphans.claims,
            owner.call_server,
            owner.reactor,
            settings.ack_wait,
            partial(owner.announce_soon, self),
            self._answered.set,
            clock,
        )
        self.dispatching = SourceDispatch(
            name, self.groups, self.journals, self.best_effort, owner.reactor, owner.max_message_size, owner.watched,
            owner.header_limits,
        )  # fmt: skip
        # Attributes, so that a dispatch needs no further call.
        self.dispatch = self.dispatching.dispatch
        self.dispatch_all = self.dispatching.dispatch_all
        self.check_size, self.check_headers = self.dispatching.check_size, self.dispatching.check_headers

    # --- opening -----------------------------------------------------------------------------------------------------

    def open(self) -> dict[str, tuple[Subscription, float]]:
        """Open the journal, read the groups, and look for orphans. Blocks the greenlet.

        Returns the groups that the journal had, each with the seconds since a member was last connected. Raises JournalError if
        the journal cannot be used.
        """
        known = self._open_journal() if self._has_journal else {}
        self.update()
        self.reactor.call_later(self._owner.settings.wait_for_peers, self.best_effort.release)
        self.orphans.look()
        return known

    def _open_journal(self) -> dict[str, tuple[Subscription, float]]:
        own = self.new_served_journal()
        own.open(self.name, self.log_notice)
        self.journals.add_own(own)
        for group in own.journal.groups():
            self.groups.put(group)
            own.with_delivery(group, self._ready)
        _log.info("events of %s are kept in %s", self.name, own.journal.path)
        stats = own.journal.stats().groups
        wants = {want["group"]: Subscription.from_dict(want) for want in self.groups.subscriptions()}
        return {name: (want, stats[name].idle) for name, want in wants.items() if want and name in stats}

    def new_served_journal(self) -> ServedJournal:
        """Make a ServedJournal whose events go to members of this source. The caller opens it."""
        owner = self._owner
        return ServedJournal(
            self.reactor, owner.settings, self.members.send, owner.call_server.together, self._clock, owner.watched, self.name
        )

    def log_notice(self, notice: Notice) -> None:
        """Log a journal's notice to operators."""
        _log.warning("the journal of %s: %s", self.name, notice)

    # --- groups ------------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """The directory has changed: also keep events for groups that are known elsewhere."""
        listed = self.groups.listed(self._owner.directory.view(), self._clock())
        if self.journals.own is not None:
            self._take_up(listed.to_take_up)
        self._with_members = listed.with_members
        self.best_effort.expect(listed.best_effort)

    def take_up_groups(self, served: ServedJournal) -> None:
        """Also keep events for the groups of an adopted journal."""
        self._take_up(served.journal.groups())

    def _take_up(self, groups: list[Group]) -> None:
        for group in groups:
            if group.name in self.groups.by_name:
                continue
            if self.groups.is_full:
                _log.warning("%s keeps no events for %s: events_max_groups is %d", self.name, group.name, self.groups.most)
                continue
            self.groups.put(group)
            if self.journals.own is not None:
                self.journals.own.with_delivery(group, self._ready)
            self._owner.announce_soon(self)

    def _ready(self, delivery: GroupDelivery | Exception) -> None:
        if isinstance(delivery, Exception):
            _log.error("a group of %s cannot be kept: %s", self.name, delivery)
        else:
            delivery.flush()

    def serve(self, served: ServedJournal) -> None:
        """Deliver the events of an adopted journal from now on."""
        self.journals.add(served)
        self.members.join_all(served)
        for group in served.journal.groups():
            served.with_delivery(self.groups.by_name[group.name].group, self._ready)

    def remove_group(self, name: str) -> bool:
        """Stop keeping events for the group, and delete its waiting events. Blocks the greenlet.

        Returns whether a journal knew the group. Raises BadRequest while it has members.
        """
        self.groups.remove(name, self._clock())
        self._owner.unregister_group(self.name, name)
        was_known = self.journals.remove_group(name)
        self._owner.announce_soon(self)
        return was_known

    def subscriptions(self) -> list[dict[str, Any]]:
        """The groups for which events are kept, in the form of a directory record."""
        return self.groups.subscriptions()

    @property
    def is_empty(self) -> bool:
        """Whether no event waits for any group."""
        return self.journals.is_empty

    # --- the end -----------------------------------------------------------------------------------------------------

    def drain(self, timeout: float, linger: float) -> None:
        """Accept no more events.

        Wait up to `linger` seconds for waiting events, then up to `timeout` seconds for events in flight.
        """
        self._stop()
        self.best_effort.release()
        journals = self.journals
        wait_until(lambda: journals.is_done(self._with_members), self._answered, linger, DRAIN_INTERVAL, self._clock)
        journals.pause()
        wait_until(lambda: not journals.in_flight, self._answered, timeout, DRAIN_INTERVAL, self._clock)

    def close(self) -> None:
        """Close the journals. Blocks the greenlet."""
        self._stop()
        self.best_effort.close()
        self.journals.close()

    def _stop(self) -> None:
        self.dispatching.close()
        self.members.close()
        self.orphans.close()
