"""The registration of one instance of a service in this process: serves its methods, and announces its record.

A node has one registration for each instance that it hosts, also of the same service. Each has its own id, and all have the
node's endpoint. An instance is listed while it has methods to call (`serve`), subscriptions (`amend`), other entrypoints
(`describe`), or is a candidate for leadership (`campaign`).
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Sized
from typing import Any, Protocol

import gevent
from gevent.event import Event

import discovery
from discovery.model import shown_url
from discovery.security.envelopes import own_id
from zmqservices.cluster.calls.caller import Caller
from zmqservices.cluster.calls.incoming import IncomingCall, Served
from zmqservices.cluster.calls.server import CallServer
from zmqservices.cluster.events.group_registrations import GroupRegistrations
from zmqservices.cluster.instance_record import InstanceRecord, Reason
from zmqservices.cluster.leadership import candidacies_of, leader, with_candidacies
from zmqservices.cluster.node_addresses import NodeAddresses
from zmqservices.cluster.own_records import OwnRecords
from zmqservices.cluster.settings import Settings
from zmqservices.constants import LISTED_ENTRYPOINTS_TAG
from zmqservices.exceptions import ConfigurationError
from zmqservices.probes import ProbePoints, Watched
from zmqservices.transport import addresses
from zmqservices.utils.waiting import wait_until

_log = logging.getLogger(__name__)

#: Seconds between two checks whether a registry has answered, at the start of a candidacy that needs a lock.
STAND_INTERVAL = 0.05
#: The key of a record's endpoint for calls.
RPC = "rpc"


def new_id() -> str:
    """A new id: 12 hex digits, different in every process and at every start."""
    return os.urandom(6).hex()


class RegistrationNode(Protocol):
    """The node that a registration belongs to; a Node."""

    id: str
    settings: Settings
    directory: discovery.Directory
    records: OwnRecords
    addresses: NodeAddresses
    caller: Caller
    groups: GroupRegistrations
    #: The object that probes watch; the node.
    watched: Watched
    probes: ProbePoints | None

    def open_call_server(self) -> CallServer:
        """The call server, opened if it is not open yet."""


class Registration:
    """The registration of one container, made by `Registrations.new`. `close` frees its number."""

    def __init__(
        self,
        node: RegistrationNode,
        service: str,
        number: int,
        incarnation: int,
        on_close: Callable[[Registration], None],
        id: str | None = None,
    ) -> None:
        self.service = service
        #: The smallest free number, from 1 on, among the instances of the service in this process.
        self.number = number
        settings = node.settings
        #: The id of the instance, in the directory and wherever it is named.
        self.id = own_id(settings.keys, id or new_id())
        self._listed = InstanceRecord(
            node.records, service, self.id, node.id, incarnation, settings.namespace, settings.directory_ttl, node.watched,
            settings.resilience.preferences.zone, settings.resilience.weight, settings.keys,
        )  # fmt: skip
        self._node = node
        self._on_close = on_close
        self._served: Served | None = None
        self._stands_again: gevent.Greenlet | None = None
        #: The names for which this instance is a candidate, and the locks that it wants as the first candidate.
        self._campaigns: set[str] = set()
        self._locks: dict[str, discovery.DirectoryLock] = {}

    @property
    def record(self) -> discovery.Record | None:
        """The announced record; None while the instance is not listed."""
        return self._listed.current

    # --- methods to call ---------------------------------------------------------------------------------------------

    def serve(
        self,
        methods: dict[str, dict[str, Any]],
        take: Callable[[IncomingCall], None],
        flush: Callable[[], None],
        cancel: Callable[[Any, str], None],
        queue: Sized = (),
    ) -> None:
        """Serve these methods and announce the instance as UP; see `CallServer.serve`. Opens the call server if necessary.

        `methods` has their descriptions in the form of a record.
        """
        call_server = self._node.open_call_server()
        self._served = call_server.serve(self.service, self.id, take, flush, cancel, _idempotent(methods), queue)
        endpoints = {**self._listed.endpoints, RPC: self._node.addresses.advertised(call_server.endpoint)}
        record = self._listed.announce(Reason.METHODS, state="UP", methods=methods, endpoints=endpoints)
        _log.info("serving %s as instance %s at %s", self.service, self.id, record.endpoints[RPC])

    def drain(self, timeout: float | None) -> bool:
        """Tell all callers that the instance stops, and return when its calls have ended; see `Drain.drain`."""
        if self.record is None or self._served is None:
            return True
        probes, began = self._node.probes, time.monotonic()
        if probes is not None and probes.drain_began is not None:
            probes.drain_began(self.service, self.id)
        if self.record.state == "UP":
            self._listed.announce(state="DRAINING")
        is_complete = bool(self._node.open_call_server().draining.drain(self._served, timeout))
        if probes is not None and probes.drain_ended is not None:
            probes.drain_ended(self.service, self.id, time.monotonic() - began, is_complete)
        return is_complete

    def drop(self) -> None:
        """Stop serving at once. Running calls are answered with an error."""
        if self._served is not None:
            self._node.open_call_server().draining.drop(self._served)

    def withdraw(self) -> None:
        """Announce that the instance has no methods to call any more."""
        served, self._served = self._served, None
        if served is not None:
            self._node.open_call_server().leave(served)
        endpoints = {name: address for name, address in self._listed.endpoints.items() if name != RPC}
        # DRAINING, so that no call is sent if the instance stays listed for another reason.
        self._listed.remove(Reason.METHODS, endpoints=endpoints, methods={}, state="DRAINING")

    # --- other parts of the record -----------------------------------------------------------------------------------

    def amend(self, **changes: object) -> None:
        """Change fields of the record. Lists the instance, without calls, if it was not listed.

        It stays listed until `retract`.
        """
        self._listed.announce(Reason.SUBSCRIPTIONS, **changes)

    def describe(self, entrypoints: list[dict[str, Any]], endpoints: dict[str, str]) -> None:
        """Add entrypoints other than @rpc methods to the record. Lists the instance if it was not listed.

        It stays listed for them until `conceal`.
        """
        reason = Reason.ENTRYPOINTS if self.record is None else None
        tags = {**self._listed.tags, LISTED_ENTRYPOINTS_TAG: entrypoints}
        self._listed.announce(reason, tags=tags, endpoints={**self._listed.endpoints, **endpoints})

    def conceal(self) -> None:
        """Remove the entrypoints that `describe` added."""
        self._listed.remove(Reason.ENTRYPOINTS)

    def retract(self) -> None:
        """Remove the subscriptions that `amend` added."""
        self._node.groups.release(self.id)
        self._listed.remove(Reason.SUBSCRIPTIONS, subscriptions=[])

    def settle(self, timeout: float) -> bool:
        """Wait until the directory shows the announced record. Returns False after `timeout` seconds.

        A registry reports changes in order, so the directory then also shows everything that others announced before.
        """
        record, directory, caller = self.record, self._node.directory, self._node.caller
        if record is None or not directory.capabilities.can_announce:
            return True  # A fixed list never changes.
        end = time.monotonic() + timeout
        # A client only gets its own announcements back from the directory if it is interested in their service.
        directory.add_interest([self.service])
        # First wait for the answers about all services of this client's interest.
        if not directory.wait_ready(timeout):
            return False

        def is_shown() -> bool:
            return any(
                seen.is_listed and seen.record.instance == record.instance and seen.record.version >= record.version
                for seen in directory.service(self.service)
            )

        changed = Event()
        caller.on_change.append(changed.set)
        try:
            if not wait_until(is_shown, changed, end - time.monotonic()):
                return False
        finally:
            caller.on_change.remove(changed.set)
        caller.update()
        return True

    # --- leadership: work that one instance of a service does for all -----------------------------------------------------

    def campaign(self, name: str) -> None:
        """Make the instance a candidate for leading `name`. It is then listed even without methods to call.

        Raises ConfigurationError if the directory is a fixed list.
        """
        if not self._node.directory.capabilities.can_announce:
            raise ConfigurationError(
                f"DIRECTORY is {shown_url(self._node.settings.directory)!r}, where instances cannot tell each other that "
                f"they are there; {self.service}.{name}, which one of them does for all, needs local:, tcp://, etcd://, "
                "zookeeper:// or consul://"
            )
        has_locks = self._node.directory.capabilities.locks
        if has_locks and not self._campaigns:
            self._node.caller.on_change.append(self._stand)
        self._campaigns.add(name)
        # The other candidates are instances of the service itself.
        self._node.directory.add_interest([self.service])
        candidacies = [] if self.record is None else candidacies_of(self.record)
        self._listed.announce(tags=with_candidacies(self._listed.tags, {*candidacies, name}))
        if has_locks:
            self._stand()

    def resign(self, name: str) -> None:
        """Withdraw the candidacy. Another candidate leads as soon as it knows of that."""
        self._campaigns.discard(name)
        self._unlock(name)
        if self._stand in self._node.caller.on_change and not self._campaigns:
            self._node.caller.on_change.remove(self._stand)
        if self.record is not None:
            candidacies = [one for one in candidacies_of(self.record) if one != name]
            self._listed.remove(tags=with_candidacies(self._listed.tags, candidacies))

    def has_leader(self, name: str) -> bool:
        """Whether a registry has answered and lists a candidate.

        If this instance is the first, whether it has the lock that it needs.
        """
        first = self._first(name)
        return first is not None and (first != self.id or self.is_leader(name))

    def is_leader(self, name: str) -> bool:
        """Whether this instance leads `name`, by the list known here and, in a directory with locks, by the lock."""
        if self.record is None or self._first(name) != self.id:
            return False
        return not self._node.directory.capabilities.locks or self.fencing_token(name) is not None

    def fencing_token(self, name: str) -> int | None:
        """The fencing token of the lock with which this instance leads `name`; None without a lock."""
        lock = self._locks.get(name)
        return None if lock is None else lock.token

    def _first(self, name: str) -> str | None:
        """The instance that leads `name` by the directory's list; None before a registry has answered."""
        directory = self._node.directory
        if not directory.wait_ready(0, self.service):
            return None
        return leader(directory.service(self.service), name)

    def _stand(self) -> None:
        """Called after each change of the directory: want the locks for which this instance is the first candidate, no others.

        So few instances wait for a lock, and a new one does not get it before its turn.
        """
        for name in self._campaigns:
            first = self._first(name)
            if first is None:
                self._stand_later()
            if first == self.id and name not in self._locks:
                self._locks[name] = self._node.directory.lock(f"leader/{self.service}/{name}")
            elif first not in (self.id, None):
                self._unlock(name)

    def _stand_later(self) -> None:
        """Try again until a registry has answered. Its first answer need not be a change, which would be reported."""
        later = self._stands_again
        if later is None or later.ready() or later is gevent.getcurrent():
            self._stands_again = gevent.spawn_later(STAND_INTERVAL, self._stand)

    def _unlock(self, name: str) -> None:
        lock = self._locks.pop(name, None)
        if lock is not None:
            lock.release()

    def move(self, former: str, host: str) -> None:
        """Announce `host` in the endpoints that were announced at `former`."""
        endpoints = {kind: addresses.moved(one, former, host) for kind, one in self._listed.endpoints.items()}
        if endpoints != self._listed.endpoints:
            self._listed.announce(endpoints=endpoints)

    def close(self) -> None:
        """The instance has ended: free its number."""
        for name in list(self._campaigns):
            self.resign(name)
        if self._stands_again is not None:
            self._stands_again.kill(block=False)
        self._on_close(self)


class Registrations:
    """The registrations of one node. Each has a number within its service, and is younger than all before it."""

    def __init__(self, node: RegistrationNode) -> None:
        self._node = node
        self._incarnation = 0
        self._open: list[Registration] = []

    def new(self, service: str, id: str | None = None) -> Registration:
        """A registration for another instance of `service`, with this id or a new one.

        It is listed once it announces something.
        """
        taken = {other.number for other in self._open if other.service == service}
        number = next(number for number in itertools.count(1) if number not in taken)
        # Each is younger than the one before even with a coarse clock, because the eldest candidate leads.
        self._incarnation = max(self._incarnation + 1, time.time_ns() // 1000)
        registration = Registration(self._node, service, number, self._incarnation, self._remove, id)
        self._open.append(registration)
        return registration

    def move(self, former: str, host: str) -> None:
        """Announce `host` in all endpoints that were announced at `former`."""
        for registration in list(self._open):
            registration.move(former, host)

    def _remove(self, registration: Registration) -> None:
        if registration in self._open:
            self._open.remove(registration)


def _idempotent(methods: dict[str, dict[str, Any]]) -> Iterable[str]:
    return [name for name, entry in methods.items() if entry.get("idempotent")]
