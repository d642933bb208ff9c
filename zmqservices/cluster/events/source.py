"""The events of one source in one process: the parts that publish them, and the life of these parts.

    groups       the consumer groups that events are kept for
    journals     the source's own journal, and those that other processes left
    members      the members of the groups: they subscribe, get events, answer them
    best_effort  events that are in no journal
    orphans      the search for journals that other processes left
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

_log = logging.getLogger(__name__)

#: Seconds between two checks of a drain: late writes and members that leave end it too, and do not wake it.
DRAIN_INTERVAL = 0.05


class SourceLinks(MemberLinks, Protocol):
    """How messages leave this process; a CallServer."""

    def together(self, work: Callable[..., None], *args: object) -> None:
        """Call `work(*args)`; messages that it sends to one client leave as one."""


class SourceDirectory(Protocol):
    """The part of a directory that a source reads."""

    def view(self) -> discovery.View:
        """All that is listed now."""


class SourceOwner(BestEffortOwner, Protocol):
    """The publisher that a source belongs to; an EventPublisher."""

    settings: EventSettings
    max_message_size: int
    #: What probes watch: the publisher.
    watched: Watched
    #: Journals that were found to hold no events, with the state of their files at that time.
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
        """An operator removed the group: the directory shall not bring it back."""

    def spawn(self, function: Callable[[], None]) -> None:
        """Run `function` in a greenlet that ends with the publisher."""


class Source:
    """Made by `EventPublisher.open`. Dispatching and opening are for greenlets; the rest runs inside the reactor."""

    def __init__(
        self, owner: SourceOwner, name: str, has_journal: bool, clock: Callable[[], float] = monotonic
    ) -> None:
        """`has_journal`: whether it has a journal of its own. A relay has none, and only serves those of others."""
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
        #: Names of groups that have a listed member.
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
            name, self.groups, self.journals, self.best_effort, owner.reactor, owner.max_message_size, owner.watched
        )
        # Handed on as attributes, so that a dispatch costs no further call.
        self.dispatch = self.dispatching.dispatch
        self.dispatch_all = self.dispatching.dispatch_all
        self.check_size = self.dispatching.check_size

    # --- opening -----------------------------------------------------------------------------------------------------

    def open(self) -> dict[str, tuple[Subscription, float]]:
        """Open the journal, read who gets events, and look for orphans. Blocks the greenlet.

        Returns the groups that the journal knew already, each with the seconds since a member of it was last there.
        Raises JournalError where the journal cannot be used.
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
        """A journal whose events go to members of this source, still to be opened."""
        owner = self._owner
        return ServedJournal(
            self.reactor, owner.settings, self.members.send, owner.call_server.together, self._clock, owner.watched, self.name
        )

    def log_notice(self, notice: Notice) -> None:
        """Log a journal's notice to operators."""
        _log.warning("the journal of %s: %s", self.name, notice)

    # --- groups ------------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """The directory's view changed: keep events for the groups that are known elsewhere, too."""
        listed = self.groups.listed(self._owner.directory.view(), self._clock())
        if self.journals.own is not None:
            self._take_up(listed.to_take_up)
        self._with_members = listed.with_members
        self.best_effort.expect(listed.best_effort)

    def take_up_groups(self, served: ServedJournal) -> None:
        """Keep events for the groups of an adopted journal, too."""
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
        """Keep no events for the group any more, and delete those that wait for it. Blocks the greenlet.

        Returns whether a journal knew the group. Raises BadRequest while it has members.
        """
        self.groups.remove(name, self._clock())
        self._owner.unregister_group(self.name, name)
        was_known = self.journals.remove_group(name)
        self._owner.announce_soon(self)
        return was_known

    def subscriptions(self) -> list[dict[str, Any]]:
        """The groups that events are kept for, as a record of the directory lists them."""
        return self.groups.subscriptions()

    @property
    def is_empty(self) -> bool:
        """Whether no event waits for any group."""
        return self.journals.is_empty

    # --- the end -----------------------------------------------------------------------------------------------------

    def drain(self, timeout: float, linger: float) -> None:
        """Accept no more events. Let members handle waiting events for `linger` seconds, then those in flight for `timeout`."""
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
