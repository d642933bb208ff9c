"""Who is there: the services that are called from here, their instances as the directory lists them, and a link to each node.

Runs inside the reactor of its owner, as everything of a caller does.
"""

from __future__ import annotations

from typing import Any, Protocol

from zmqservices.cluster.instances import Instance, ServicePool
from zmqservices.cluster.peer import Peer
from zmqservices.transport import Sockets
from zmqservices.transport.reactor import Reactor


class RosterOwner(Protocol):
    """Who is told; a Caller. The peers tell it, too: see `Peer`."""

    def refresh(self, pool: ServicePool) -> None:
        """The instances of `pool` may be others now, or others of them may be asked."""

    def updated(self) -> None:
        """All that the directory had to tell was taken in."""


class Roster:
    """`directory` is a started `discovery.Directory`; `node` is this process's own id."""

    def __init__(
        self, owner: RosterOwner, reactor: Reactor, sockets: Sockets, directory: Any, namespace: str, node: str
    ) -> None:
        self._owner = owner
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

    def _hear_news(self, view: Any) -> None:
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
        for key, record in listed.items():
            instance = pool.instances.get(key)
            if instance is None:
                peer = self._peer(record.endpoints["rpc"], record.node)
                instance = pool.instances[key] = Instance(record, peer, pool)
                peer.instances.append(instance)
            instance.record = record
            instance.listed = True
        for key, instance in list(pool.instances.items()):
            if key not in listed:
                instance.listed = False
                self._drop_instance_if_gone(instance)
        self._owner.refresh(pool)

    def _peer(self, endpoint: str, node: str) -> Peer:
        peer = self.peers.get((endpoint, node))
        if peer is None:
            peer = self.peers[endpoint, node] = Peer(
                self._owner, self._reactor, self._sockets, endpoint, node, self._namespace, self._node
            )
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
