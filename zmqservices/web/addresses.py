"""Reads WEB_SERVER_ADDRESS and binds it. Each error says what the operator can do.

Internal. Services use `zmqservices.web.handlers`.
"""

from __future__ import annotations

import errno
import re
import socket
from typing import Any, NamedTuple

from gevent import socket as green

from zmqservices.exceptions import ConfigurationError

#: The most connections that may wait to be accepted.
BACKLOG = 1024

_ADDRESS = re.compile(r"(?:(?P<address>[^:\[\]]+|\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]):)?(?P<port>\d{1,5})")
_MEND = "[address:]port is needed, such as 0.0.0.0:8000, [::1]:8000, *:8000 (IPv4 and IPv6) or 8000"

#: What the operator can do about an address that cannot be bound.
_MENDS = {
    errno.EADDRINUSE: (
        "it is taken, most likely by another process; choose another port (0 is any free one), or set "
        "WEB_SERVER_REUSE_PORT: true for all processes that share it"
    ),
    errno.EACCES: "this user may not listen there; ports from 1024 up are open to everybody",
    errno.EADDRNOTAVAIL: "this host has no such address; 0.0.0.0 is every IPv4 address that it has, * every one of IPv6 as well",
}


class BindAddress(NamedTuple):
    """A host ("" for all IPv4 addresses of this machine, "*" for all of IPv6 as well), and a port (0 for any free one)."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def parse_address(address_string: str | int) -> BindAddress:
    """Parse `[address:]port`. Raises ConfigurationError, which quotes the value, for anything else."""
    text = str(address_string) if type(address_string) is int else address_string
    match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match["port"]) > 65535:
        raise ConfigurationError(f"WEB_SERVER_ADDRESS is {address_string!r}; {_MEND}")
    return BindAddress((match["address"] or "").strip("[]"), int(match["port"]))


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def listen(bind_addr: BindAddress, reuse_port: bool) -> Any:
    """A listening gevent socket. If it cannot listen, raises ConfigurationError, which says what can be done."""
    try:
        # None means every address, unlike "". "::" also accepts IPv4; see below.
        host = "::" if bind_addr.address == "*" and _has_ipv6() else bind_addr.address.replace("*", "")
        found = green.getaddrinfo(host or None, bind_addr.port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
    except OSError as exc:
        raise ConfigurationError(f"WEB_SERVER_ADDRESS is {bind_addr}, which cannot be resolved: {exc}") from exc
    # "" means all IPv4 addresses, as in Nameko.
    family, kind, protocol, _name, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    sock = green.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # Set explicitly, because its default differs between hosts.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as exc:
        sock.close()
        why = _MENDS.get(exc.errno or 0, str(exc))
        raise ConfigurationError(f"cannot listen at WEB_SERVER_ADDRESS {bind_addr}: {why}") from exc
    return sock
