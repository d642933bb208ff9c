"""The consumer groups for which one source keeps events. They come from subscriptions and from the directory.

Rule 1: no sockets, no greenlets, no clock here; `now` is always an argument, in monotonic seconds.
Rule 2: the pattern and the kind of a group never change; its limits may change.
Rule 3: the directory shows a removal with a delay, so a removed group is not taken from the directory again for a while.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import discovery
from zmqservices import constants
from zmqservices.cluster.events.consumer_group import ConsumerGroup
from zmqservices.cluster.events.group_registrations import remembered
from zmqservices.cluster.events.subscription import NEW, Subscription, publishing
from zmqservices.exceptions import BadRequest
from zmqservices.journal import Group
from zmqservices.wire.quoting import quoted

#: Seconds for which a removed group is not taken from the directory again, as another publisher may still list it.
REMOVED_FOR = 60.0


@dataclass(slots=True)
class ListedGroups:
    """The groups of one source, as a view of the directory lists them."""

    #: Groups that other publishers or subscribers have and this source does not. A group may be listed twice.
    to_take_up: list[Group] = field(default_factory=list)
    #: Names of reliable groups that have a listed member.
    with_members: set[str] = field(default_factory=set)
    #: Number of listed best-effort handlers for each (node, group).
    best_effort: Counter[tuple[str, str]] = field(default_factory=Counter)


class SourceGroups:
    """The reliable groups of the source `source`. `max_deliveries` and `expires_after` are the publisher's defaults."""

    def __init__(
        self,
        source: str,
        max_deliveries: int,
        expires_after: float | None,
        most_groups: int = constants.DEFAULT_EVENTS_MAX_GROUPS,
    ) -> None:
        #: The most groups for which the source keeps events.
        self.most = most_groups
        self._source = source
        self._max_deliveries = max_deliveries
        self._expires_after = expires_after
        self._removed_until: dict[str, float] = {}
        self.by_name: dict[str, ConsumerGroup] = {}

    def group_of(self, want: Subscription) -> Group:
        """The group that a subscription declares, in the journal's form."""
        most = self._max_deliveries if want.max_deliveries is None else want.max_deliveries
        return Group(want.group, want.pattern, want.start, most, self._expires_after, {"kind": want.kind, "source": self._source})

    def put(self, group: Group) -> ConsumerGroup:
        """Add the group, or give a known one the limits of `group`."""
        consumer_group = self.by_name.get(group.name)
        if consumer_group is None:
            consumer_group = self.by_name[group.name] = ConsumerGroup(group, str(group.details.get("kind", "")))
        elif consumer_group.group != group:
            consumer_group.group = group
        return consumer_group

    def remove(self, name: str, now: float) -> None:
        """Remove the group, and ignore the directory's entries about it for `REMOVED_FOR` seconds.

        Raises BadRequest while the group has members.
        """
        consumer_group = self.by_name.get(name)
        if consumer_group is not None and consumer_group.members:
            raise BadRequest(f"{name} has {len(consumer_group.members)} members; stop them first")
        self._removed_until = {group: until for group, until in self._removed_until.items() if until > now}
        self._removed_until[name] = now + REMOVED_FOR
        self.by_name.pop(name, None)

    def allow(self, name: str) -> None:
        """A member subscribed, so an earlier removal of the group no longer counts."""
        self._removed_until.pop(name, None)

    @property
    def is_full(self) -> bool:
        """Whether no further group is accepted."""
        return len(self.by_name) >= self.most

    def check(self, want: Subscription, groups: dict[str, ConsumerGroup]) -> None:
        """Raise BadRequest if `want` contradicts the group of its name in `groups`, or if there are too many groups."""
        consumer_group = groups.get(want.group)
        if consumer_group is None:
            if len(groups) >= self.most:
                raise BadRequest(f"{self._source!r} keeps events for {self.most:,} groups already, its events_max_groups")
        elif not consumer_group.declares(want):
            raise BadRequest(
                f"group {quoted(want.group)} gets the events {quoted(consumer_group.group.pattern)} as "
                f"{quoted(consumer_group.kind)} for as "
                f"long as it lives, and not {quoted(want.pattern)} as {want.kind}; take another name, or let an operator end "
                "it with `zmqservices events forget`"
            )

    def subscriptions(self) -> list[dict[str, Any]]:
        """The groups in the form of a directory record."""
        return [
            Subscription(
                self._source, found.group.pattern, name, found.kind, True, NEW, found.group.max_deliveries
            ).to_dict()
            for name, found in sorted(self.by_name.items())
        ]  # fmt: skip

    def listed(self, view: discovery.View, now: float) -> ListedGroups:
        """What the directory lists for this source: groups to take up, groups with members, and best-effort handlers."""
        listed = ListedGroups()
        registered = remembered(view, self._source)
        for seen in view.records.values():
            record = seen.record
            is_publisher = record.service == publishing(self._source)
            for raw in record.subscriptions:
                want = Subscription.from_dict(raw)
                if want is None or want.source != self._source:
                    continue
                if not is_publisher and record.state != "DRAINING" and not seen.suspect:
                    if want.reliable:
                        listed.with_members.add(want.group)
                    else:
                        listed.best_effort[record.node, want.group] += 1
                # Another publisher's record may be older than a removal. A subscriber's own record is not.
                if want.reliable and (
                    not is_publisher or self._may_take_up(want.group, now) and registered.get(want.group, want) is not None
                ):
                    self._add(listed.to_take_up, want)
        for want in registered.values():
            if want is not None and want.reliable and self._may_take_up(want.group, now):
                self._add(listed.to_take_up, want)
        return listed

    def _may_take_up(self, name: str, now: float) -> bool:
        return now > self._removed_until.get(name, 0.0)

    def _add(self, groups: list[Group], want: Subscription) -> None:
        if want.group not in self.by_name:
            groups.append(self.group_of(want))
