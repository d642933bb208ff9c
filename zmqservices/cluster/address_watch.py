"""Notices when the address of this process changes: after a new DHCP lease, a sleep, or a moved container."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from gevent.event import Event

from zmqservices.cluster.node_addresses import Hosts
from zmqservices.exceptions import ConfigurationError
from zmqservices.utils.concurrency import spawn

_log = logging.getLogger(__name__)

#: The address of a node without a route to others.
LOOPBACK = "127.0.0.1"


class Movable(Protocol):
    """Reacts to a change of address; a Node. Both methods run on its hub."""

    def listen_at(self, host: str) -> None:
        """Also accept connections at this address of the host. Raises ConfigurationError if it cannot be bound."""

    def move(self, former: str, host: str) -> None:
        """Announce `host` in all endpoints that were announced at `former`."""


class AddressWatch:
    """Calls `look` in a greenlet every `interval` seconds from `start` on, and tells `node` of changes."""

    def __init__(self, node: Movable, look: Callable[[], Hosts], interval: float) -> None:
        self._node = node
        self._look = look
        self._interval = interval
        self._is_over = Event()
        self._former: Hosts | None = None
        self._warning = ""

    def start(self) -> None:
        """Begin with a first look, to which later ones are compared."""
        spawn(self._run)

    def close(self) -> None:
        """Stop looking."""
        self._is_over.set()

    def _run(self) -> None:
        while True:
            hosts = self._look()
            if self._is_over.is_set():
                return
            try:
                self.found(hosts)
            except ConfigurationError as exc:
                # The next look tries again.
                if str(exc) != self._warning:
                    self._warning = str(exc)
                    _log.warning("this process should be reached at %s from now on, but cannot be: %s", hosts.advertised, exc)
            if self._is_over.wait(self._interval):
                return

    def found(self, hosts: Hosts) -> None:
        """Tell the node of changes between the last addresses and these. An address that is unknown now counts as unchanged."""
        if self._former is None:
            self._former = Hosts(hosts.listen or LOOPBACK, hosts.advertised or LOOPBACK)
            return
        listen, advertised = self._former.listen, self._former.advertised
        if hosts.listen is not None and hosts.listen != listen:
            self._node.listen_at(hosts.listen)
            listen = hosts.listen
        # Set before the second address, so that an error there does not repeat the first step.
        self._former = Hosts(listen, advertised)
        if advertised is not None and hosts.advertised is not None and hosts.advertised != advertised:
            _log.info("this process is reached at %s from now on, no longer at %s", hosts.advertised, advertised)
            self._node.move(advertised, hosts.advertised)
            self._former = Hosts(listen, hosts.advertised)
