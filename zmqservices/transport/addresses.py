"""Turns configured addresses, `tcp://HOST:PORT`, into addresses to bind and to announce, `tcp://IP:PORT`.

ZeroMQ is only given IP addresses, because it would look a name up once and use the first answer for ever.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from zmqservices.exceptions import ConfigurationError

#: Names for every address of this host: `*` and `::` mean IPv4 and IPv6, `0.0.0.0` means IPv4 only.
ANY_HOST = ("*", "0.0.0.0", "::")  # nosec B104  # compared with
IPV4_ALONE = "0.0.0.0"  # nosec B104  # compared with
_MEND = "'tcp://HOST:PORT' is needed, with port 0 for any free one, and an IPv6 address in brackets: 'tcp://[fd00::5]:0'"


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
        raise ConfigurationError(f"{key} is {address[:100]!r}; {_MEND}")
    return host, port


def join(host: str, port: int) -> str:
    """`tcp://HOST:PORT`, with brackets around an IPv6 host."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def needs_ipv6(address: str) -> bool:
    """Whether a socket must have IPv6 enabled to bind or connect to `tcp://IP:PORT`. For `*` it must."""
    return address.startswith(("tcp://[", "tcp://*:"))


def resolve(host: str, network: object = socket) -> str:
    """The IP address of a host: IPv4 if it has one. Raises ConfigurationError for an unknown name.

    `network`, here and below: the module whose sockets and look-ups are used. With `gevent.socket`, other greenlets go on.
    """
    return _resolve_all(host, network)[0]


def _resolve_all(host: str, network: Any) -> list[str]:
    try:
        return [_plain(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        found = network.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise ConfigurationError(f"host name {host!r} cannot be resolved: {exc}") from exc
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    # ::ffff:10.0.0.5 is an IPv4 address, which a socket without IPv6 can reach.
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def is_name(host: str) -> bool:
    """Whether `host` is a name that must be looked up."""
    if host in ANY_HOST:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def is_loopback(host: str) -> bool:
    """Whether `host` is an address of the loopback interface. Names are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def resolved(host: str, network: object = socket) -> str | None:
    """The present IP address of a host; None for a name that is not found, and for `*`."""
    try:
        return None if host in ANY_HOST else resolve(host, network)
    except ConfigurationError:
        return None


def moved(endpoint: str, former: str, host: str) -> str:
    """`tcp://FORMER:PORT` with `host` in place of FORMER; any other endpoint unchanged."""
    if not endpoint.startswith(join(former, 0)[:-1]):
        return endpoint
    return join(host, parse(endpoint)[1])


def is_of_one_link(host: str) -> bool:
    """Whether `host` is a link-local IPv6 address (fe80::...), which is valid on one network interface only."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.version == 6 and address.is_link_local


def advertisable(host: str, port: int, key: str) -> str:
    """`tcp://HOST:PORT` for other hosts to connect to. Raises ConfigurationError if they cannot use `host`."""
    if host in ANY_HOST:
        raise ConfigurationError(f"{key} is {join(host, port)!r}, every address of this host; others need one of them")
    if is_of_one_link(host) or "%" in host:
        raise ConfigurationError(
            f"this process would be announced at {host!r}, an address of one network interface that other hosts cannot "
            "use; give ADVERTISE_ADDRESS or BIND_ADDRESS one that they can, such as tcp://[fd00::5]:0"
        )
    return join(host, port)


def bindable(address: str, key: str = "BIND_ADDRESS") -> str:
    """The address that ZeroMQ can bind for a configured one: names are resolved, and `*` stays."""
    host, port = parse(address, key)
    return join(host if host in ANY_HOST else resolve(host), port)


def source_address(host: str, port: int, ipv4_alone: bool = False, network: Any = socket) -> str | None:
    """This host's own address on the route to `host`; None if there is no route. Sends nothing.

    If a name has several addresses, the first one with a route decides. `ipv4_alone`: look at IPv4 addresses only.
    """
    try:
        targets = _resolve_all(host, network)
    except ConfigurationError:
        return None
    for target in targets:
        if ":" in target and ipv4_alone:
            continue
        try:
            with network.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect((target, port or 9))
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return None


def towards(servers: Iterable[tuple[str, int]], ipv4_alone: bool = False, network: object = socket) -> str | None:
    """This host's address on the route to the first reachable server (host, port) of the directory; None if none is."""
    routes = (source_address(host, port, ipv4_alone, network) for host, port in servers)
    return next(filter(None, routes), None)


def advertised(
    bound: str, servers: Iterable[tuple[str, int]], advertise_address: str | None, keep_port: bool = False
) -> str:
    """The endpoint to announce for the bound address `bound`.

    It is `advertise_address` if the operator has set that, and otherwise this host's address on the route to the directory's
    `servers`. `keep_port`: announce the bound port, even if `advertise_address` has another one. Raises ConfigurationError for an
    address that other hosts cannot use.
    """
    host, port = parse(bound)
    if advertise_address:
        host, advertised_port = parse(advertise_address, "ADVERTISE_ADDRESS")
        if host not in ANY_HOST:
            host = resolve(host)
        port = port if keep_port else advertised_port or port
        return advertisable(host, port, "ADVERTISE_ADDRESS")
    if host in ANY_HOST:
        host = towards(servers, host == IPV4_ALONE) or "127.0.0.1"
    return advertisable(host, port, "BIND_ADDRESS")
