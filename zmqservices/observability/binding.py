"""Reads METRICS_ADDRESS, where the page of metrics is served, and binds a socket to it."""

from __future__ import annotations

import socket
from pathlib import Path

from zmqservices.exceptions import ConfigurationError

#: The most connections that may wait to be accepted.
BACKLOG = 64


def parse(address: object) -> tuple[str, int]:
    """The host and the port of a text HOST:PORT. Raises ConfigurationError, which quotes the value, for anything else."""
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"METRICS_ADDRESS is {address!r:.200}; HOST:PORT is needed, such as '127.0.0.1:9464'")
    return host.removeprefix("[").removesuffix("]"), int(port)


def bind(address: str) -> socket.socket:
    """A socket that listens at HOST:PORT, or at the path of a UNIX socket. Raises ConfigurationError if it cannot."""
    if address.startswith("/"):
        Path(address).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(address)
    else:
        host, port = parse(address)
        try:
            family, kind, protocol, _, found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
            listener = socket.socket(family, kind, protocol)
        except OSError as error:
            raise ConfigurationError(f"METRICS_ADDRESS is {address!r}, which cannot be resolved: {error}") from error
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(found)
        except OSError as error:
            listener.close()
            raise ConfigurationError(f"cannot bind METRICS_ADDRESS {address}: {error.strerror}") from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener
