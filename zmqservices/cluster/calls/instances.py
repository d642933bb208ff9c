"""The instances of a service as one process sees them: listed in the directory, or with a connected link."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from math import inf
from random import shuffle
from typing import Any, Protocol

from discovery import Record
from zmqservices.cluster.calls.call import PendingCall
from zmqservices.resilience.balance import Load, choose, count_others, weigh
from zmqservices.resilience.budget import RetryBudget
from zmqservices.resilience.hashing import KINDS, as_bytes, choose_by_key
from zmqservices.resilience.outliers import Health
from zmqservices.resilience.preferences import Preferences, choose_preferred

#: No preferences: instances differ by their announced weights only.
EQUALS = Preferences()


#: An instance that is greeted within this many seconds of the first greeting counts as old as the first one.
FIRST_GREETINGS = 5.0


class InstancePeer(Protocol):
    """The properties of a node on which the choice of an instance depends; a Peer."""

    endpoint: str
    is_up: bool
    is_full: bool
    is_suspect: bool
    tells_waiting: bool
    expected_until: float
    idempotent: dict[str, frozenset[str]]

    def condition(self, instance: Instance) -> str:
        """A phrase that describes the state of an instance there, for error texts."""


class Instance:
    """One instance of one service, reached over the link of its node."""

    __slots__ = ("record", "peer", "load", "health", "listed", "left", "ready_since", "pool")

    def __init__(self, record: Record, peer: InstancePeer, pool: ServicePool) -> None:
        self.record = record
        #: A Peer.
        self.peer: Any = peer
        self.pool = pool
        self.load = Load()
        self.health = Health()
        #: When the instance could first be asked; None before that.
        self.ready_since: float | None = None
        #: Whether the directory lists the instance. An unlisted instance is used as long as its link is connected.
        self.listed = True
        #: Whether the instance said BYE. Then no more calls are sent to it.
        self.left = False

    @property
    def id(self) -> str:
        return self.record.instance

    @property
    def may_be_asked(self) -> bool:
        return self.peer.is_up and not self.peer.is_full and not self.left and self.record.state == "UP"

    def may_come(self, now: float) -> bool:
        """Whether the instance cannot be asked yet, but probably can very soon."""
        peer = self.peer
        if peer.is_up or self.left or not self.listed or self.record.state != "UP":
            return False
        return bool(peer.expected_until > now)

    def keyed(self) -> Iterator[tuple[str, tuple[str, int]]]:
        """Each method that has a key, with the name and the position of the key's argument, from the record."""
        for method, entry in self.record.methods.items():
            match entry.get("key"):
                case [str(name), int(position)]:
                    yield method, (name, position)

    def hedged(self) -> Iterator[str]:
        """The methods that declare that their calls may be hedged."""
        return (method for method, entry in self.record.methods.items() if entry.get("hedge") is True)

    def is_idempotent(self, method: str) -> bool:
        entry = self.record.methods.get(method)
        if entry is None:
            return method in self.peer.idempotent.get(self.record.service, ())
        return bool(entry.get("idempotent"))


class ServicePool:
    """The instances of one service, and the calls that wait for one."""

    __slots__ = (
        "service", "calls", "instances", "ready", "only", "ejected", "suspects", "tiers", "coming", "is_cold", "unlinked",
        "waiting", "keyed", "has_queues",
        "may_hedge", "hedges_all", "hedged_methods", "hedged", "hedges_won", "refused_until",
        "budget", "_weighed_until", "_preferences", "_choose", "_served_since",
    )  # fmt: skip

    def __init__(self, service: str, preferences: Preferences = EQUALS) -> None:
        self.service = service
        self._preferences = preferences
        #: When any instance could first be asked.
        self._served_since: float | None = None
        #: The function that chooses an instance: among equals, or by preference.
        self._choose = choose
        #: The number of calls of this service so far.
        self.calls = 0
        self.instances: dict[str, Instance] = {}
        #: The instances that may be asked. Rebuilt after each change, so that a call only has to choose.
        self.ready: list[Instance] = []
        #: The only instance that may be asked, if there is just one.
        self.only: Instance | None = None
        #: Ejected instances. They are asked only if no instance is ready.
        self.ejected: list[Instance] = []
        #: Instances of suspect nodes. They are asked only if there are no others.
        self.suspects: list[Instance] = []
        #: These three lists, in the order in which they are asked.
        self.tiers = (self.ready, self.ejected, self.suspects)
        #: Instances whose first greeting is awaited while the pool is cold. A burst of calls leaves them their share.
        self.coming: list[Instance] = []
        #: Whether, since the last time that no instance could be asked, some known instances are neither greeted nor given up.
        self.is_cold = True
        #: The records of listed instances that have no link because there are too many. The one that waits longest comes first.
        self.unlinked: dict[str, Record] = {}
        self.waiting: deque[Any] = deque()
        #: The methods whose calls are routed by an argument, with its name and its position.
        self.keyed: dict[str, tuple[str, int]] = {}
        #: Whether calls of some methods may be hedged: of all idempotent methods, or of those that declare it.
        self.may_hedge = self.hedges_all = False
        self.hedged_methods: frozenset[str] = frozenset()
        #: The second attempts so far, and those of them that were answered first.
        self.hedged = self.hedges_won = 0
        #: The time until which no call is hedged, because an instance is full.
        self.refused_until = 0.0
        #: The retry budget; None until it is needed.
        self.budget: RetryBudget | None = None
        #: Whether recent answers said that calls wait at an instance.
        self.has_queues = False
        #: The time until which the weights of each method may be used.
        self._weighed_until: dict[str, float] = {}

    @property
    def is_absent(self) -> bool:
        """Whether no instance is or ever was known, and no call waits for one."""
        return self._served_since is None and not (self.instances or self.unlinked or self.waiting)

    def refresh(self, now: float) -> None:
        """Sort the instances again after a change of a link, a record or a suspicion."""
        able = [instance for instance in self.instances.values() if instance.may_be_asked]
        healthy = [instance for instance in able if not instance.peer.is_suspect]
        self.ready = [instance for instance in healthy if not instance.health.ejected_until]
        self.ejected = [instance for instance in healthy if instance.health.ejected_until]
        self.suspects = [instance for instance in able if instance.peer.is_suspect]
        self.tiers = (self.ready, self.ejected, self.suspects)
        # Shuffled, so that not all clients try them in the same order.
        shuffle(self.ready)
        self._weighed_until.clear()
        self._prefer(now)
        self.keyed = {}
        for instance in able:
            self.keyed.update(instance.keyed())
        self.hedged_methods = frozenset(method for instance in able for method in instance.hedged())
        self.may_hedge = self.hedges_all or bool(self.hedged_methods)
        self._expect_others(now)

    def _prefer(self, now: float) -> None:
        able = self.ready + self.ejected
        if self._served_since is None and able:
            self._served_since = now
        # The first instances are not taken for new ones, nor those greeted soon after: perhaps only this process is new.
        is_young = self._served_since is not None and now - self._served_since < FIRST_GREETINGS
        is_uneven = False
        for instance in able:
            if instance.ready_since is None:
                instance.ready_since = -inf if is_young else now
            record = instance.record
            if self._preferences.apply(instance.load, record.zone, record.weight, now - instance.ready_since):
                is_uneven = True
        self._choose = choose_preferred if is_uneven else choose

    def _expect_others(self, now: float) -> None:
        if not self.ready:
            self.is_cold = True
        if self.is_cold:
            self.coming = [instance for instance in self.instances.values() if instance.may_come(now)]
            self.is_cold = not self.ready or bool(self.coming)
        # While others are ejected, answers must be counted. Otherwise rare failures would look like failures in a row.
        self.only = self.ready[0] if len(self.ready) == 1 and not self.coming and not self.ejected else None

    def states(self) -> dict[str, int]:
        """The number of instances in each state: ready, ejected, suspect, and unable to be asked."""
        asked = len(self.ready) + len(self.ejected) + len(self.suspects)
        return {
            "ready": len(self.ready),
            "ejected": len(self.ejected),
            "suspect": len(self.suspects),
            "unavailable": len(self.instances) - asked,
        }

    @property
    def can_be_asked(self) -> bool:
        return bool(self.ready or self.ejected or self.suspects)

    def key_of(self, call: PendingCall) -> bytes | None:
        """The key that the call was given, or the argument that its method declares as key; None if the load decides."""
        if call.history is not None and call.history.key is not None:
            return call.history.key
        named = self.keyed.get(call.method)
        if named is None:
            return None
        name, position = named
        found = call.args[position] if 0 <= position < len(call.args) else (call.kwargs or {}).get(name)
        return as_bytes(found) if isinstance(found, KINDS) else None

    def _pick_by_key(self, key: bytes, avoid: Collection[Instance], may_wait: bool, now: float) -> Instance | None:
        if may_wait and self.coming:
            self._expect_others(now)
            if self.coming:
                return None  # The key may belong to one of them.
        for candidates in self.tiers:
            able = [instance for instance in candidates if instance not in avoid]
            if able:
                return choose_by_key(able, key)
        return None

    def pick(
        self,
        now: float,
        method: str,
        avoid: Collection[Instance] = (),
        may_wait: bool = False,
        key: bytes | None = None,
    ) -> Instance | None:
        """The instance to ask; None if there is none besides those to avoid.

        With `may_wait`, also None if that instance already has its share of the calls, and others will be greeted very soon.
        """
        if key is not None:
            return self._pick_by_key(key, avoid, may_wait, now)
        for candidates in self.tiers:
            if avoid:
                candidates = [instance for instance in candidates if instance not in avoid]
            if candidates:
                if now >= self._weighed_until.get(method, 0.0):
                    self._weighed_until[method] = weigh(self.ready or candidates, method, now)
                    if self._preferences.slow_start:
                        self._prefer(now)
                if self.has_queues:
                    self.has_queues = count_others([*self.ready, *self.ejected, *self.suspects], now)
                chosen = self._choose(candidates, method)
                return None if may_wait and self.coming and self._has_its_share(chosen, now) else chosen
        return None

    def pick_second(self, first: Instance, method: str, now: float) -> Instance | None:
        """The instance for the second attempt of a call that `first` has not answered; None if no other is less busy."""
        candidates = [
            other for other in self.ready
            if other.peer is not first.peer and other.load.in_flight < first.load.in_flight
            and not (other.load.queue.others and other.load.queue.is_recent(now)) and other.is_idempotent(method)
        ]  # fmt: skip
        return self._choose(candidates, method) if candidates else None

    def heard(self, instance: Instance, waiting: int | None, took: float, now: float) -> None:
        """An answer of `instance` took `took` seconds. `waiting`: the calls that wait there, None if the answer does not say."""
        if waiting is not None or instance.peer.tells_waiting:
            instance.load.queue.heard(waiting or 0, instance.load.in_flight, took, now)
            self.has_queues = self.has_queues or bool(waiting)

    def _has_its_share(self, chosen: Instance, now: float) -> bool:
        if not all(instance.peer.expected_until > now for instance in self.coming):
            self._expect_others(now)
        calls = len(self.waiting) + sum(instance.load.in_flight for instance in self.instances.values()) + 1
        return bool(self.coming) and chosen.load.in_flight * (len(self.ready) + len(self.coming)) >= calls

    def why_nobody(self) -> str:
        """Why none of the known instances can be asked, for an error text."""
        parts = []
        for instance in self.instances.values():
            record = instance.record
            parts.append(f"{record.instance} at {instance.peer.endpoint} is {instance.peer.condition(instance)}")
        unlinked = f"; and {len(self.unlinked)} without a link, because there are too many" if self.unlinked else ""
        return "; ".join(parts[:5]) + (f"; and {len(parts) - 5} more" if len(parts) > 5 else "") + unlinked
