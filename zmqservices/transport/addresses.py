"""Where to bind and what to tell others: `tcp://HOST:PORT` in, `tcp://IP:PORT` out.

Endpoints that are handed to ZeroMQ hold IP addresses: it would look a name up once and use the first answer for ever.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from zmqservices.exceptions import ConfigurationError

ANY_HOST = ("*", "0.0.0.0", "::", "[::]")


def parse(address: str, key: str = "address") -> tuple[str, int]:
    """Host and port of `tcp://HOST:PORT` or `HOST:PORT`; port 0 means any. Raises ConfigurationError."""
    text = address if "://" in address else f"tcp://{address}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit("tcp://"), None
    host = parts.hostname or ("*" if parts.netloc.startswith("*") else "")
    if parts.scheme != "tcp" or not host or port is None:
        raise ConfigurationError(f"{key} is {address!r}; 'tcp://HOST:PORT' is needed, with port 0 for any free one")
    return host, port


def join(host: str, port: int) -> str:
    """`tcp://HOST:PORT`, with brackets round an IPv6 host."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def resolve(host: str) -> str:
    """The IP address of a host, IPv4 where it has one. Raises ConfigurationError when the name is unknown."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise ConfigurationError(f"host name {host!r} cannot be resolved: {exc}") from exc
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return str(found[0][4][0])


def bindable(address: str, key: str = "BIND_ADDRESS") -> str:
    """What ZeroMQ can bind for a configured address: names resolved, `*` kept for any host."""
    host, port = parse(address, key)
    if host in ANY_HOST:
        return f"tcp://*:{port}"
    return join(resolve(host), port)


def source_address(host: str, port: int) -> str | None:
    """This host's own address on the route to `host`, or None without a route. Nothing is sent."""
    try:
        target = resolve(host)
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, port or 9))
            return str(probe.getsockname()[0])
    except (OSError, ConfigurationError):
        return None
