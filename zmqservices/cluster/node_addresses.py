"""The addresses of one node: where it listens, and where it tells others to connect.

Rule 1: without a setting, a node listens as widely as its directory reaches, and no wider.
Rule 2: a node listens beyond loopback only with SECURITY, or if INSECURE allows it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from gevent import socket as network

import discovery
from discovery.model import shown_url
from discovery.security import exposure
from zmqservices.cluster.settings import Settings
from zmqservices.exceptions import ConfigurationError
from zmqservices.transport import addresses

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hosts:
    """The present addresses of this host, without ports. None for an address that is unknown or cannot change.

    `listen`: where the node must listen. `advertised`: where others reach it.
    """

    listen: str | None
    advertised: str | None


class NodeAddresses:
    """Finds the addresses of a node. The route to one of the directory's servers is taken for the route to peers.

    `capabilities`: those of the directory.
    """

    def __init__(self, settings: Settings, capabilities: discovery.Capabilities) -> None:
        self._settings = settings
        self._servers = capabilities.servers
        self._needs_fixed_port = capabilities.needs_fixed_port
        self._has_warned = False

    def to_bind(self) -> str:
        """The address to which the call server binds.

        Raises ConfigurationError if the directory needs a port and none is set, and if other hosts could reach the server, or the
        publisher of broadcasts, without a key.
        """
        broadcasts = self._settings.events.bind_address
        if broadcasts is not None:
            # Checked now, because the first subscriber causes it to be bound, which is too late to tell an operator.
            self._permitted(addresses.bindable(broadcasts, "EVENTS_BIND_ADDRESS"))
        bind_address = self._settings.bind_address
        if self._needs_fixed_port and not (bind_address and addresses.parse(bind_address, "BIND_ADDRESS")[1]):
            raise ConfigurationError(
                f"BIND_ADDRESS is {bind_address!r}, and DIRECTORY is {shown_url(self._settings.directory)!r}, with which "
                "others find this process at a port that they know; give BIND_ADDRESS that port, such as tcp://0.0.0.0:4000"
            )
        if bind_address:
            return self._permitted(addresses.bindable(bind_address))
        host = addresses.towards(self._servers)
        return self._permitted(addresses.join(host or "127.0.0.1", 0))

    def to_bind_broadcasts(self) -> str:
        """The address to which the publisher of broadcasts binds: on the call server's interface unless set otherwise."""
        bound = self._settings.events.bind_address
        if bound is None:
            host, _ = addresses.parse(self.to_bind())
            bound = addresses.join(host, 0)
        return self._permitted(addresses.bindable(bound, "EVENTS_BIND_ADDRESS"))

    def check(self, host: str) -> None:
        """Raise ConfigurationError if the node must not listen at this address of its host."""
        self._permitted(addresses.join(host, 0))

    def _permitted(self, address: str) -> str:
        host, _ = addresses.parse(address)
        is_encrypted = self._settings.keys is not None
        objection = exposure.objection(host, "this process", address, is_encrypted, self._settings.insecure)
        if objection:
            raise ConfigurationError(objection)
        warning = exposure.warning(host, "this process", address, is_encrypted)
        if warning and not self._has_warned:
            self._has_warned = True
            _log.warning("%s", warning)
        return address

    @property
    def may_change(self) -> bool:
        """Whether an address depends on a route to another host, or on a name."""
        bound, advertised = self._settings.bind_address, self._settings.advertise_address
        follows_route = any(not addresses.is_loopback(host) for host, _ in self._servers)
        if bound is None:
            return follows_route
        host, _ = addresses.parse(bound, "BIND_ADDRESS")
        if advertised is not None:
            host_of_others, _ = addresses.parse(advertised, "ADVERTISE_ADDRESS")
            return addresses.is_name(host) or addresses.is_name(host_of_others)
        return follows_route if host in addresses.ANY_HOST else addresses.is_name(host)

    def hosts(self) -> Hosts:
        """Look up the present addresses. Looking up names and routes may take seconds, while other greenlets go on."""
        bound, advertised = self._settings.bind_address, self._settings.advertise_address
        host = None if bound is None else addresses.parse(bound, "BIND_ADDRESS")[0]
        route = None
        if host is None or host in addresses.ANY_HOST:
            route = addresses.towards(self._servers, host == addresses.IPV4_ALONE, network)
        listen = route if host is None else addresses.resolved(host, network)
        reached = route if host is None or host in addresses.ANY_HOST else listen
        if advertised is not None:
            reached = addresses.resolved(addresses.parse(advertised, "ADVERTISE_ADDRESS")[0], network)
        return Hosts(listen, None if reached is None or addresses.is_of_one_link(reached) else reached)

    def advertised(self, bound: str, keep_port: bool = False) -> str:
        """The address to announce for the bound address `bound`."""
        return addresses.advertised(bound, self._servers, self._settings.advertise_address, keep_port)
