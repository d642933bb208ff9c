"""This process's place in the cluster: one reactor, one directory, one caller and, once something is served, one door.

Containers of one process that have the same settings share a node; the last to leave closes it. Each of them has its own
`Registration`, also where several of them run the same service.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from typing import Any, ClassVar

import gevent

import discovery
from zmqservices.cluster.calls.caller import Caller
from zmqservices.cluster.calls.server import CallServer
from zmqservices.cluster.events.group_registrations import GroupRegistrations
from zmqservices.cluster.events.subscriber import EventSubscriber
from zmqservices.cluster.registration import Registration, new_id
from zmqservices.cluster.settings import Settings
from zmqservices.exceptions import ConfigurationError
from zmqservices.transport import BroadcastPublisher, Sockets, addresses
from zmqservices.transport.hub import HubReactor
from zmqservices.utils.concurrency import in_thread

_log = logging.getLogger(__name__)

#: Seconds that a leaving node gives its directory to take note.
WITHDRAW_TIMEOUT = 1.0


def open_directory(settings: Settings) -> Any:
    """A started directory client for these settings. Raises ConfigurationError for a URL that means nothing."""
    try:
        directory = discovery.open_directory(
            settings.directory,
            namespace=settings.namespace,
            cache_dir=settings.directory_cache,
            ttl=settings.directory_ttl,
        )
        directory.start()
    except discovery.DirectoryError as exc:
        raise ConfigurationError(str(exc)) from exc
    return directory


class Node:
    """Use `Node.join(settings)`, and `leave()` once for each join."""

    _nodes: ClassVar[dict[Any, Node]] = {}

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.id = new_id()
        self._incarnation = 0
        self._members = 0
        self._registrations: list[Registration] = []
        self.call_server: CallServer | None = None
        self._publisher: Any = None
        self._subscriber: EventSubscriber | None = None
        self.reactor = HubReactor()
        self._sockets = Sockets(settings.sockets)
        try:
            self.directory = open_directory(settings)
        except Exception:
            self.reactor.close()
            self._sockets.close()
            raise
        self.caller = Caller(self.reactor, self._sockets, self.directory, settings, self.id)
        #: What the directory is to remember of groups that handle events.
        self.groups = GroupRegistrations(self.directory, self.reactor, settings.events.expires_after)

    @classmethod
    def join(cls, settings: Settings) -> Node:
        """The node of this thread's hub with these settings, made where there is none."""
        key = (os.getpid(), gevent.get_hub(), settings)
        node = cls._nodes.get(key)
        if node is None:
            node = cls._nodes[key] = cls(settings)
        node._members += 1
        return node

    def leave(self, at_once: bool = False) -> None:
        """One member less; the last one closes the node and waits until its last words have left.

        With `at_once` it does not wait for answers to its events.
        """
        self._members -= 1
        if self._members:
            return
        for key, node in list(self._nodes.items()):
            if node is self:
                del self._nodes[key]
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
        # Both wait in native threads, so that other greenlets run on meanwhile.
        ends = [gevent.spawn(in_thread, self.directory.stop, WITHDRAW_TIMEOUT), gevent.spawn(in_thread, self._sockets.close)]
        gevent.joinall(ends, raise_error=True)

    # --- events ------------------------------------------------------------------------------------------------------

    @property
    def publisher(self) -> Any:
        """The publishing half of events (`zmqservices.cluster.events.publisher`), made when it is first asked for."""
        if self._publisher is None:
            from zmqservices.cluster.events.publisher import EventPublisher  # SQLite comes with it: for those who publish only

            self._publisher = EventPublisher(self)
        return self._publisher

    @property
    def subscriber(self) -> EventSubscriber:
        """The handling half of events, made when it is first asked for."""
        if self._subscriber is None:
            self._subscriber = EventSubscriber(self.caller, self._sockets, self.id)
        return self._subscriber

    def open_broadcast(self, listener: Any) -> tuple[BroadcastPublisher, str]:
        """A publisher of broadcasts, and the address by which others reach it."""
        bound = self.settings.events.bind_address
        if bound is None:
            host, _ = addresses.parse(self._bind_address())
            bound = addresses.join(host, 0)
        broadcast = BroadcastPublisher(self.reactor, self._sockets, addresses.bindable(bound), listener)
        return broadcast, self.advertised(broadcast.endpoint, keep_port=True)

    # --- serving -----------------------------------------------------------------------------------------------------

    def open_call_server(self) -> CallServer:
        """The call server, opened if it is not open yet."""
        if self.call_server is None:
            self.call_server = CallServer(
                self.reactor,
                self._sockets,
                self._bind_address(),
                self.id,
                self.settings.namespace,
                self.settings.max_message_size,
            )
        return self.call_server

    def register(self, service: str) -> Registration:
        """A place for one more instance of `service`; nothing is announced of it until it has something to announce."""
        taken = {other.number for other in self._registrations if other.service == service}
        number = next(number for number in itertools.count(1) if number not in taken)
        # Later ones are younger, however coarse the clock is: the eldest is the leader.
        self._incarnation = max(self._incarnation + 1, time.time_ns() // 1000)
        registration = Registration(self, service, number, self._incarnation)
        self._registrations.append(registration)
        return registration

    def unregister(self, registration: Registration) -> None:
        """Its number is free again."""
        if registration in self._registrations:
            self._registrations.remove(registration)

    # --- addresses ---------------------------------------------------------------------------------------------------

    def _bind_address(self) -> str:
        if self.settings.bind_address:
            return addresses.bindable(self.settings.bind_address)
        # Without a word from the operator: as far as the directory reaches, and no farther.
        host = addresses.towards(self.directory.capabilities.servers)
        return addresses.join(host or "127.0.0.1", 0)

    def advertised(self, bound: str, keep_port: bool = False) -> str:
        """What others are told to connect to where `bound` is what was bound."""
        servers = self.directory.capabilities.servers
        return addresses.advertised(bound, servers, self.settings.advertise_address, keep_port)
