"""The addresses of one node: where it listens, and where others are told to connect.

Rule 1: without a setting a node listens as far as its directory reaches, and no farther.
"""

from __future__ import annotations

from collections.abc import Sequence

from zmqservices.cluster.settings import Settings
from zmqservices.transport import addresses


class NodeAddresses:
    """`servers`: host and port of each server of the directory. The route to one of them is the route to the peers."""

    def __init__(self, settings: Settings, servers: Sequence[tuple[str, int]]) -> None:
        self._settings = settings
        self._servers = tuple(servers)

    def to_bind(self) -> str:
        """Where the call server listens."""
        if self._settings.bind_address:
            return addresses.bindable(self._settings.bind_address)
        host = addresses.towards(self._servers)
        return addresses.join(host or "127.0.0.1", 0)

    def to_bind_broadcasts(self) -> str:
        """Where the publisher of broadcasts listens: at the call server's interface unless set otherwise."""
        bound = self._settings.events.bind_address
        if bound is None:
            host, _ = addresses.parse(self.to_bind())
            bound = addresses.join(host, 0)
        return addresses.bindable(bound)

    def advertised(self, bound: str, keep_port: bool = False) -> str:
        """The address that others are told to connect to, where `bound` is the one that was bound."""
        return addresses.advertised(bound, self._servers, self._settings.advertise_address, keep_port)
