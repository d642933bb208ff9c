"""Finds out that others reach this process at another address than before: after a DHCP lease, a sleep, a moved container."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from gevent.event import Event

from zmqservices.cluster.node_addresses import Hosts
from zmqservices.exceptions import ConfigurationError
from zmqservices.utils.concurrency import spawn

_log = logging.getLogger(__name__)

#: What a node uses as long as it has no way to others.
LOOPBACK = "127.0.0.1"


class Movable(Protocol):
    """What has to be done after a change; a Node. Both methods run on its hub."""

    def listen_at(self, host: str) -> None:
        """Accept connections at this address of the host as well. Raises ConfigurationError where that cannot be."""

    def move(self, former: str, host: str) -> None:
        """Say that what was to be reached at the host `former` is to be reached at `host`."""


class AddressWatch:
    """Calls `look` in a greenlet every `interval` seconds, from `start` on, and tells `node` what has changed."""

    def __init__(self, node: Movable, look: Callable[[], Hosts], interval: float) -> None:
        self._node = node
        self._look = look
        self._interval = interval
        self._is_over = Event()
        self._former: Hosts | None = None
        self._warning = ""

    def start(self) -> None:
        """Looks for the first time at once, and has nothing to compare that with."""
        spawn(self._run)

    def close(self) -> None:
        """Nothing is told from now on."""
        self._is_over.set()

    def _run(self) -> None:
        while True:
            hosts = self._look()
            if self._is_over.is_set():
                return
            try:
                self.found(hosts)
            except ConfigurationError as exc:
                # It is tried again with the next look.
                if str(exc) != self._warning:
                    self._warning = str(exc)
                    _log.warning("this process is to be reached at %s from now on, and is not: %s", hosts.advertised, exc)
            if self._is_over.wait(self._interval):
                return

    def found(self, hosts: Hosts) -> None:
        """The address is looked up: tell the node of changes. What is not known now has not changed."""
        if self._former is None:
            self._former = Hosts(hosts.listen or LOOPBACK, hosts.advertised or LOOPBACK)
            return
        listen, advertised = self._former.listen, self._former.advertised
        if hosts.listen is not None and hosts.listen != listen:
            self._node.listen_at(hosts.listen)
            listen = hosts.listen
        # Now, so that a second address that cannot be bound is not asked for twice.
        self._former = Hosts(listen, advertised)
        if advertised is not None and hosts.advertised is not None and hosts.advertised != advertised:
            _log.info("this process is reached at %s from now on, not at %s any more", hosts.advertised, advertised)
            self._node.move(advertised, hosts.advertised)
            self._former = Hosts(listen, hosts.advertised)
