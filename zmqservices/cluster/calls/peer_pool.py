"""Who is there: the services that are called from here, their instances as the directory lists them, and a link to each node.

Runs inside the reactor of its owner, as everything of a caller does.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from discovery import Directory, Record, View
from zmqservices.cluster.calls.instances import Instance, ServicePool
from zmqservices.cluster.calls.peer import NewLink, Peer, PeerOwner
from zmqservices.transport import DealerLink, Sockets, UnusableEndpoint
from zmqservices.transport.reactor import Reactor

_log = logging.getLogger(__name__)

#: Descriptors that a link takes: its socket's, its connection's, and two for what is told of that.
DESCRIPTORS_PER_LINK = 4

#: The part of this process's descriptors that links may take.
MOST_DESCRIPTORS = 0.5

#: Links that there may be to one service in any case, so that many instances of another do not keep them from it.
LEAST_LINKS = 4

#: Seconds after which links that do not stand give place to instances that have none: while nobody can be asked, and else.
URGENT_TURN, TURN = 0.1, 5.0

#: Records that were passed over are told of up to so many within so many seconds, each once; whoever announces many must not
#: fill a log with them.
MOST_TOLD, TOLD_INTERVAL = 50, 60.0


class PeerPoolOwner(PeerOwner, Protocol):
    """Receives changes of the pool and, as a PeerOwner, those of each peer; a Caller."""

    def refresh(self, pool: ServicePool) -> None:
        """The instances of `pool` may be others now, or others of them may be asked."""

    def updated(self) -> None:
        """All that the directory had to tell was taken in."""


class PeerPool:
    """`directory` is a started `discovery.Directory`; `node` is this process's own id."""

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
    ) -> None:
        self._owner = owner
        self._clock = clock
        self._new_link = new_link
        self._reactor = reactor
        self._sockets = sockets
        self._directory = directory
        self._namespace = namespace
        self._node = node
        #: By service. Whoever calls looks here first, and asks `expect` where nothing is found.
        self.pools: dict[str, ServicePool] = {}
        #: By endpoint, and the node that is expected there.
        self.peers: dict[tuple[str, str], Peer] = {}
        self._has_news = False
        self._is_closed = False
        self._most_links = most_links()
        self._turn_is_due = False
        #: What was passed over, by instance and endpoint: told of once.
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
            pool = self.pools[service] = ServicePool(service)
            self._update_pool(pool)
        return pool

    # --- what the directory lists ------------------------------------------------------------------------------------

    def _hear_news(self, view: View) -> None:
        # On the directory's thread. Posted once for all news: a client that makes no call takes nothing in.
        if not self._has_news:
            self._has_news = True
            self._reactor.post(self.update)

    def update(self) -> None:
        """The directory's view changed."""
        self._has_news = False
        if self._is_closed:
            return
        for pool in self.pools.values():
            self._update_pool(pool)
        self._drop_unused_peers()
        self._owner.updated()

    def _update_pool(self, pool: ServicePool) -> None:
        # One without this endpoint is listed for something else, and has no methods to call (any more).
        listed = {
            seen.record.instance: seen.record
            for seen in self._directory.service(pool.service)
            if seen.record.endpoints.get("rpc")
        }
        pool.unlinked = {key: record for key, record in pool.unlinked.items() if key in listed}
        for key, record in listed.items():
            instance = pool.instances.get(key)
            if instance is None:
                self._link(pool, record)
            else:
                instance.record = record
                instance.listed = True
        for key, instance in list(pool.instances.items()):
            if key not in listed:
                instance.listed = False
                self._drop_instance_if_gone(instance)
        self._owner.refresh(pool)
        if pool.unlinked:
            self._turn_soon(pool)

    def _link(self, pool: ServicePool, record: Record) -> None:
        """Take `record` in, or pass it over by itself: whatever is wrong with it, the others are not to suffer."""
        endpoint = record.endpoints["rpc"]
        if (endpoint, record.node) not in self.peers and self._is_full(pool):
            if not pool.unlinked:
                self._tell_once(
                    record.service, "", f"{self._most_links} links are made at most, which is half of this process's descriptors "
                    f"(`ulimit -n`): not all instances of {record.service!r} are connected to",
                )  # fmt: skip
            pool.unlinked[record.instance] = record
            return
        pool.unlinked.pop(record.instance, None)
        try:
            peer = self._peer(endpoint, record.node)
        except UnusableEndpoint as exc:
            self._tell_once(
                record.instance, endpoint, f"instance {record.instance[:100]} of {record.service!r} is passed over: {exc}"
            )
            return
        instance = pool.instances[record.instance] = Instance(record, peer, pool)
        peer.instances.append(instance)

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
        """Links that do not stand give place to instances that have none: those may be the ones that are there."""
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

    def _peer(self, endpoint: str, node: str) -> Peer:
        peer = self.peers.get((endpoint, node))
        if peer is None:
            peer = self.peers[endpoint, node] = Peer(
                self._owner, self._reactor, self._sockets, endpoint, node, self._namespace, self._node, self._clock,
                self._new_link,
            )  # fmt: skip
        return peer

    # --- who is gone -------------------------------------------------------------------------------------------------

    def drop_if_gone(self, peer: Peer) -> None:
        """The link to `peer` is lost: forget those of its instances that are not listed any more."""
        for instance in list(peer.instances):
            self._drop_instance_if_gone(instance)
        if not peer.instances:
            self._reactor.post(self._drop_unused_peers)

    @staticmethod
    def _drop_instance_if_gone(instance: Instance) -> None:
        # Connections decide: one that the directory no longer lists is used for as long as its link stands.
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
        """Close the links. Whoever begins a call from now on finds no pool, and `expect` tells why."""
        self._is_closed = True
        self._unsubscribe()
        for peer in self.peers.values():
            peer.close()
        self.peers.clear()
        self.pools.clear()


def most_links() -> int:
    """How many links one caller may have, by the descriptors that this process may open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return 1_000_000
    return max(int(limit * MOST_DESCRIPTORS) // DESCRIPTORS_PER_LINK, LEAST_LINKS)
