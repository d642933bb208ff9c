"""The services that a caller calls, their instances as the directory lists them, and a link to each node.

Runs inside the reactor of its owner.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Protocol

from discovery import Directory, Record, View
from discovery.model import is_name
from discovery.security.keys import Keys
from zmqservices.cluster.calls.identity import public_key_of
from zmqservices.cluster.calls.instances import EQUALS, Instance, ServicePool
from zmqservices.cluster.calls.peer import NewLink, Peer, PeerOwner
from zmqservices.probes import ProbePoints
from zmqservices.resilience.preferences import Preferences
from zmqservices.transport import DealerLink, Sockets, UnusableEndpoint
from zmqservices.transport.reactor import Reactor
from zmqservices.transport.sockets import refuse_unless_safe

_log = logging.getLogger(__name__)

#: The descriptors of one link: one for its socket, one for its connection, and two for its monitor.
DESCRIPTORS_PER_LINK = 4

#: The part of this process's descriptors that links may use.
MOST_DESCRIPTORS = 0.5

#: The links that each service may have in any case, so that many instances of one service do not shut out another service.
LEAST_LINKS = 4

#: Seconds after which unconnected links are given to instances without one: if no instance can be asked, and otherwise.
URGENT_TURN, TURN = 0.1, 5.0

#: The most skipped records that are logged within TOLD_INTERVAL seconds, each once, so that many bad records cannot fill the log.
MOST_TOLD, TOLD_INTERVAL = 50, 60.0

#: The most services without an instance that are remembered.
MOST_ABSENT = 1000


class PeerPoolOwner(PeerOwner, Protocol):
    """Receives changes of the pool and, as a PeerOwner, those of each peer; a Caller."""

    def refresh(self, pool: ServicePool) -> None:
        """The instances of `pool`, or those of them that can be asked, have changed."""

    def updated(self) -> None:
        """All changes of the directory so far were applied."""


class PeerPool:
    """The pools and peers of one caller. `directory`: a started `discovery.Directory`; `node`: the id of this process's node."""

    def __init__(
        self,
        owner: PeerPoolOwner,
        reactor: Reactor,
        sockets: Sockets,
        directory: Directory,
        namespace: str,
        node: str,
        clock: Callable[[], float] = monotonic,
        new_link: NewLink = DealerLink,
        preferences: Preferences = EQUALS,
        keys: Keys | None = None,
    ) -> None:
        self._keys = keys
        self._owner = owner
        self._clock = clock
        self._new_link = new_link
        self._preferences = preferences
        self._reactor = reactor
        self._sockets = sockets
        self._directory = directory
        #: Whether peers pass lists of revoked certificates on, as the directory does not.
        self._exchanges_lists = keys is not None and not directory.capabilities.carries_revocations
        self._namespace = namespace
        self._node = node
        #: The pool of each service. A call looks here first, and calls `expect` if the service is missing.
        self.pools: dict[str, ServicePool] = {}
        #: The peers, by the endpoint, the node's id and its public key that the directory lists.
        self.peers: dict[tuple[str, str, str | None], Peer] = {}
        self._most_pools = MOST_ABSENT
        self._has_news = False
        self._is_closed = False
        self._most_links = most_links()
        self._turn_is_due = False
        #: Instance and endpoint of skipped records, so that each is logged once.
        self._told: set[tuple[str, str]] = set()
        self._tells_anew_at = 0.0
        self._unsubscribe = directory.subscribe(self._hear_news)

    def expect(self, service: str) -> ServicePool:
        """Connect to the instances of `service` now. Raises RuntimeError once closed, ForkedProcessError in a fork."""
        pool = self.pools.get(service)
        if pool is None:
            self._sockets.check_process()
            if self._is_closed:
                raise RuntimeError("this client was stopped and can no longer be used")
            if len(self.pools) >= self._most_pools:
                self._drop_absent()
            pool = self.pools[service] = ServicePool(service, self._preferences)
            if is_name(service):
                # If the directory has not heard of the service yet, calls are held until it has.
                self._directory.add_interest([service])
            self._update_pool(pool)
        return pool

    def is_unknown(self, pool: ServicePool) -> bool:
        """Whether the directory has answered that it lists no instance of this service. False while it has not answered."""
        if pool.instances or pool.unlinked or not is_name(pool.service):
            return False
        # In this order, because an answer is complete once it is ready. A record may be listed before `update` has made its
        # instance.
        return self._directory.wait_ready(0.0, pool.service) and not self._directory.service(pool.service)

    def _drop_absent(self) -> None:
        """Forget services that were never listed. Some callers get the names of services from their own callers."""
        for service in [service for service, pool in self.pools.items() if pool.is_absent]:
            del self.pools[service]
        self._most_pools = len(self.pools) + MOST_ABSENT

    # --- what the directory lists ------------------------------------------------------------------------------------

    def _hear_news(self, view: View) -> None:
        # Runs on the directory's thread. One post covers all changes, because a client that makes no call applies none.
        if not self._has_news:
            self._has_news = True
            self._reactor.post(self.update)

    def update(self) -> None:
        """Apply the changes of the directory's view."""
        self._has_news = False
        if self._is_closed:
            return
        for pool in self.pools.values():
            self._update_pool(pool)
        self._drop_unused_peers()
        self._owner.updated()

    def _update_pool(self, pool: ServicePool) -> None:
        # A record without this endpoint has no methods to call.
        listed = {
            seen.record.instance: seen.record
            for seen in self._directory.service(pool.service)
            if seen.record.endpoints.get("rpc")
        }
        pool.unlinked = {key: record for key, record in pool.unlinked.items() if key in listed}
        if self._owner.probes is not None:
            self._tell_changes(self._owner.probes, pool, listed)
        for key, record in listed.items():
            instance = pool.instances.get(key)
            if instance is None:
                self._link(pool, record)
            else:
                instance.record = record
                instance.listed = True
                self._follow(instance)
        for key, instance in list(pool.instances.items()):
            if key not in listed:
                instance.listed = False
                self._drop_instance_if_gone(instance)
        self._owner.refresh(pool)
        if pool.unlinked:
            self._turn_soon(pool)

    @staticmethod
    def _tell_changes(probes: ProbePoints, pool: ServicePool, listed: dict[str, Record]) -> None:
        known = {key: instance.record for key, instance in pool.instances.items() if instance.listed}
        if probes.instance_listed is not None:
            for key, record in listed.items():
                if key not in known or known[key].state != record.state:
                    probes.instance_listed(pool.service, key, record.state)
        if probes.instance_unlisted is not None:
            for key, record in known.items():
                if key not in listed:
                    where = f"process {record.pid} on {record.host}" if record.pid else record.host
                    probes.instance_unlisted(pool.service, key, record.state, where)

    def _link(self, pool: ServicePool, record: Record) -> None:
        """Apply `record`, or skip it if it is bad, so that it does not keep the others out."""
        endpoint = record.endpoints["rpc"]
        if (endpoint, record.node, record.public_key) not in self.peers and self._is_full(pool):
            if not pool.unlinked:
                self._tell_once(
                    record.service, "", f"{self._most_links} links are made at most, which is half of this process's descriptors "
                    f"(`ulimit -n`): not all instances of {record.service!r} are connected to",
                )  # fmt: skip
            pool.unlinked[record.instance] = record
            return
        pool.unlinked.pop(record.instance, None)
        try:
            peer = self._peer(endpoint, record)
        except UnusableEndpoint as exc:
            self._tell_once(
                record.instance, endpoint, f"instance {record.instance[:100]} of {record.service!r} is passed over: {exc}"
            )
            return
        instance = pool.instances[record.instance] = Instance(record, peer, pool)
        peer.instances.append(instance)
        peer.judge(instance)

    def _is_full(self, pool: ServicePool) -> bool:
        return len(self.peers) >= self._most_links and len(pool.instances) >= LEAST_LINKS

    def _tell_once(self, instance: str, endpoint: str, text: str) -> None:
        if (instance, endpoint) in self._told:
            return
        if len(self._told) >= MOST_TOLD and self._clock() >= self._tells_anew_at:
            self._told.clear()
        if not self._told:
            self._tells_anew_at = self._clock() + TOLD_INTERVAL
        if len(self._told) < MOST_TOLD:
            self._told.add((instance, endpoint))
            _log.warning("%s", text)

    def _turn_soon(self, pool: ServicePool) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._reactor.call_later(TURN if pool.ready else URGENT_TURN, self._turn)

    def _turn(self) -> None:
        """Close unconnected links, so that instances without a link, which may be reachable, can have them."""
        self._turn_is_due = False
        if self._is_closed:
            return
        now = self._clock()
        for pool in [pool for pool in self.pools.values() if pool.unlinked]:
            following = list(pool.unlinked.values())
            useless = [one for one in pool.instances.values() if not one.peer.is_up and one.peer.expected_until <= now]
            for instance in useless[: len(following)]:
                self._drop_instance(instance)
                if instance.listed:
                    pool.unlinked[instance.record.instance] = instance.record
            self._drop_unused_peers()
            for record in following:
                self._link(pool, record)
            self._owner.refresh(pool)
            if pool.unlinked:
                self._turn_soon(pool)
        self._owner.updated()

    def _peer(self, endpoint: str, record: Record) -> Peer:
        key = (endpoint, record.node, record.public_key)
        peer = self.peers.get(key)
        if peer is None:
            new_link: Any = self._new_link
            server_key = public_key_of(record.public_key)
            refuse_unless_safe(self._keys, server_key)
            if server_key is not None:
                new_link = partial(new_link, server_key=server_key)
            peer = self.peers[key] = Peer(
                self._owner, self._reactor, self._sockets, endpoint, record.node, self._namespace, self._node, self._clock,
                new_link, self._keys, server_key or b"", self._exchanges_lists,
            )  # fmt: skip
        return peer

    def keys_changed(self, is_own: bool) -> None:
        """The accepted certificates, or this node's own one, have changed: see `Peer.keys_changed`."""
        for peer in list(self.peers.values()):
            peer.keys_changed(is_own)

    # --- instances that go -------------------------------------------------------------------------------------------------

    def drop_if_gone(self, peer: Peer) -> None:
        """The link to `peer` is lost: drop its instances that are no longer listed."""
        for instance in list(peer.instances):
            self._drop_instance_if_gone(instance)
            if self._follow(instance):
                self._owner.refresh(instance.pool)
        if not peer.instances:
            self._reactor.post(self._drop_unused_peers)

    def _follow(self, instance: Instance) -> bool:
        """Connect to the present address of the record, unless the link to the former address is connected."""
        # A connected link is used, whatever the record says.
        if not instance.listed or instance.peer.is_up or instance.record.endpoints["rpc"] == instance.peer.endpoint:
            return False
        self._drop_instance(instance)
        self._link(instance.pool, instance.record)
        return True

    @staticmethod
    def _drop_instance_if_gone(instance: Instance) -> None:
        # An instance that is no longer listed is used as long as its link is connected.
        if not instance.listed and (not instance.peer.is_up or instance.left) and not instance.load.in_flight:
            PeerPool._drop_instance(instance)

    @staticmethod
    def _drop_instance(instance: Instance) -> None:
        instance.pool.instances.pop(instance.record.instance, None)
        if instance in instance.peer.instances:
            instance.peer.instances.remove(instance)

    def _drop_unused_peers(self) -> None:
        for key, peer in list(self.peers.items()):
            if not peer.instances:
                del self.peers[key]
                peer.close()

    def close(self) -> None:
        """Close the links. From now on a call finds no pool, and `expect` raises the reason."""
        self._is_closed = True
        self._unsubscribe()
        for peer in self.peers.values():
            peer.close()
        self.peers.clear()
        self.pools.clear()


def most_links() -> int:
    """The most links of one caller, by the limit of descriptors of this process."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return 1_000_000
    return max(int(limit * MOST_DESCRIPTORS) // DESCRIPTORS_PER_LINK, LEAST_LINKS)
