"""This process's place in the cluster: one reactor, one directory, one caller and, once something is served, one call server.

Containers of one process with the same settings share a node, and the last one to leave closes it. Each container has its own
`Registration`, even if several run the same service.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import gevent

import discovery
from discovery.security.renewal import warn_of_end
from zmqservices.cluster.address_watch import AddressWatch
from zmqservices.cluster.calls.bounded import BoundedCallServer, BoundedGuardedCallServer
from zmqservices.cluster.calls.caller import Caller
from zmqservices.cluster.calls.guarded import GuardedCallServer
from zmqservices.cluster.calls.identity import Authorizer
from zmqservices.cluster.calls.server import CallServer
from zmqservices.cluster.events.group_registrations import GroupRegistrations
from zmqservices.cluster.events.subscriber import EventSubscriber
from zmqservices.cluster.keys_watch import PolicyWatch
from zmqservices.cluster.node_addresses import NodeAddresses
from zmqservices.cluster.own_records import OwnRecords
from zmqservices.cluster.registration import Registration, Registrations, new_id
from zmqservices.cluster.settings import Settings
from zmqservices.exceptions import ConfigurationError
from zmqservices.probes import Measure, Watched
from zmqservices.transport import BroadcastPublisher, Sockets
from zmqservices.transport.broadcast import BroadcastPublisherListener
from zmqservices.transport.hub import HubReactor
from zmqservices.utils.concurrency import in_thread

if TYPE_CHECKING:
    from zmqservices.cluster.events.publisher import EventPublisher

_log = logging.getLogger(__name__)

#: The most seconds that a leaving node waits until the directory has its changes.
WITHDRAW_TIMEOUT = 1.0


def open_directory(settings: Settings) -> discovery.Directory:
    """Start a directory client for these settings. It shows no services yet: each part adds the services that it needs.

    Raises ConfigurationError for an unknown kind of URL.
    """
    try:
        directory = discovery.open_directory(
            settings.directory,
            namespace=settings.namespace,
            cache_dir=settings.directory_cache,
            ttl=settings.directory_ttl,
            services=(),
            keys=settings.keys,
        )
        directory.start()
    except discovery.DirectoryError as exc:
        raise ConfigurationError(str(exc)) from exc
    return directory


class Node(Watched):
    """The node of one process. Call `Node.join(settings)` to get it, and `leave()` once for each join."""

    _nodes: ClassVar[dict[Any, Node]] = {}

    def __init__(self, settings: Settings) -> None:
        self.watch()
        self.watched: Watched = self
        self.settings = settings
        self.id = new_id()
        self._members = 0
        self.call_server: CallServer | None = None
        self._publisher: EventPublisher | None = None
        self._subscriber: EventSubscriber | None = None
        self.reactor = HubReactor()
        if settings.keys is not None:
            warn_of_end(settings.keys, time.time())
        self._sockets = Sockets(settings.sockets)
        #: Authorizes peers; None without SECURITY.
        self.guard = None if settings.keys is None else Authorizer(settings.keys, settings.policy)
        try:
            self.directory = open_directory(settings)
        except Exception:
            self.reactor.close()
            self._sockets.close()
            self.unwatch()
            raise
        self.addresses = NodeAddresses(settings, self.directory.capabilities)
        #: The records of this node's instances.
        self.records = OwnRecords(self.directory)
        self._registrations = Registrations(self)
        #: Checks for changes of this host's address from the first registration on; None if the address cannot change.
        self._address_watch: AddressWatch | None = None
        self.caller = Caller(self.reactor, self._sockets, self.directory, settings, self.id)
        if self.guard is not None and self.caller.keys_watch is not None:
            self.caller.keys_watch.on_change.append(self._keys_changed)
            if settings.policy_file:
                watch = PolicyWatch(settings.policy_file, self.guard.replace_policy)
                self.caller.keys_watch.also.append(watch.look)
        #: The consumer groups that this node registers in the directory.
        self.groups = GroupRegistrations(self.directory, self.reactor, settings.events.expires_after)

    @classmethod
    def join(cls, settings: Settings) -> Node:
        """The node of this thread's hub with these settings. It is made if there is none."""
        key = (os.getpid(), gevent.get_hub(), settings)
        node = cls._nodes.get(key)
        if node is None:
            node = cls._nodes[key] = cls(settings)
        node._members += 1
        return node

    def leave(self, at_once: bool = False) -> None:
        """Leave the node. The last one to leave closes it, and waits until its last messages are sent.

        With `at_once` it does not wait for answers to its events.
        """
        self._members -= 1
        if self._members:
            return
        for key, node in list(self._nodes.items()):
            if node is self:
                del self._nodes[key]
        self.unwatch()
        if self._address_watch is not None:
            self._address_watch.close()
        if self._publisher is not None:
            try:
                self._publisher.stop(at_once)
            except Exception:
                _log.exception("a journal could not be closed in good order")
        if self.call_server is not None:
            self.call_server.draining.wait_until_read()
        if self._subscriber is not None:
            self._subscriber.close()
        self.groups.close()
        self.caller.close()
        if self.call_server is not None:
            self.call_server.close()
        self.reactor.close()
        # Both wait in native threads, so that other greenlets go on.
        ends = [gevent.spawn(in_thread, self.directory.stop, WITHDRAW_TIMEOUT), gevent.spawn(in_thread, self._sockets.close)]
        gevent.joinall(ends, raise_error=True)

    # --- events ------------------------------------------------------------------------------------------------------

    @property
    def publisher(self) -> EventPublisher:
        """The publisher of this node. It is made at the first use."""
        if self._publisher is None:
            # Imported here, so that only processes that publish load SQLite.
            from zmqservices.cluster.events.publisher import EventPublisher

            self._publisher = EventPublisher(self)
        return self._publisher

    @property
    def subscriber(self) -> EventSubscriber:
        """The subscriber of this node. It is made at the first use."""
        if self._subscriber is None:
            self._subscriber = EventSubscriber(
                self.caller, self._sockets, self.id, has_broadcasts=self.guard is None
            )
        return self._subscriber

    def open_broadcast(self, listener: BroadcastPublisherListener) -> tuple[BroadcastPublisher, str]:
        """A publisher of broadcasts, and the address at which others reach it."""
        broadcast = BroadcastPublisher(self.reactor, self._sockets, self.addresses.to_bind_broadcasts(), listener)
        return broadcast, self.addresses.advertised(broadcast.endpoint, keep_port=True)

    # --- keys --------------------------------------------------------------------------------------------------------

    def _keys_changed(self, is_own: bool) -> None:
        if self.call_server is not None:
            self.call_server.connections.keys_changed(is_own)
        if is_own and self.settings.keys is not None:
            self.groups.certificate_changed(self.settings.keys.pair.public)

    # --- serving -----------------------------------------------------------------------------------------------------

    def open_call_server(self) -> CallServer:
        """The call server. It is opened at the first call."""
        if self.call_server is None:
            self.call_server = self._server_class()(
                self.reactor,
                self._sockets,
                self.addresses.to_bind(),
                self.id,
                self.settings.namespace,
                self.settings.max_message_size,
                guard=self.guard,
                limits=self.settings.limits,
            )
            self.call_server.records = self.records.described
            self.records.on_change = self.call_server.connections.welcome_asking
        return self.call_server

    def _server_class(self) -> type[CallServer]:
        """The class of the call server. Each further check has a separate class, so that unused checks cost nothing."""
        is_bounded = self.settings.limits.max_calls_per_client is not None
        if self.guard is None:
            return BoundedCallServer if is_bounded else CallServer
        return BoundedGuardedCallServer if is_bounded else GuardedCallServer

    def register(self, service: str, instance: str | None = None) -> Registration:
        """A registration for another instance of `service`, with the id `instance` or a new one.

        It is listed once it announces something.
        """
        if self._address_watch is None and self.addresses.may_change:
            self._address_watch = AddressWatch(self, self.addresses.hosts, self.settings.look_interval)
            self._address_watch.start()
        return self._registrations.new(service, instance)

    # --- another address (see AddressWatch) --------------------------------------------------------------------------

    def listen_at(self, host: str) -> None:
        """Also accept calls and listeners at this address of the host. Raises ConfigurationError if it cannot be bound."""
        self.addresses.check(host)
        if self.call_server is not None:
            self.call_server.listen_at(host)
        if self._publisher is not None:
            self._publisher.listen_at(host)

    def move(self, former: str, host: str) -> None:
        """Announce `host` in all endpoints that were announced at `former`."""
        if self._publisher is not None:
            self._publisher.move(former, host)
        self._registrations.move(former, host)

    # --- measures ----------------------------------------------------------------------------------------------------

    def measure(self) -> Iterator[Measure]:
        """Measures: how much of the cluster the directory shows, and how fresh its view is."""
        view = self.directory.view()
        yield Measure("directory_fresh", float(view.fresh), {})
        yield Measure("directory_stale_seconds", view.stale_for, {})
        states = Counter("suspect" if seen.suspect else seen.record.state.lower() for seen in view.records.values())
        for state in ("starting", "up", "draining", "suspect"):
            yield Measure("directory_records", states[state], {"state": state})
