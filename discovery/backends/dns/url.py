"""The URLs of nodes that DNS names: `dns://NAME:PORT` and `dns+srv://_SERVICE._PROTO.NAME`, `[?server=IP:PORT,...][#KEY,...]`."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from urllib.parse import parse_qsl

from discovery.client.seeds import split_tcp
from discovery.exceptions import DirectoryConfigurationError
from discovery.native import getaddrinfo
from discovery.security.keys import Keys

#: The most keys that nodes behind one name may hold: each key is tried with each node.
MAX_KEYS = 16
_KEY = re.compile("[0-9a-f]{64}")
_MEND = "dns://NAME:PORT is needed, such as dns://shop.default.svc.cluster.local:4000"
_SRV_MEND = "dns+srv://_SERVICE._PROTO.NAME is needed, such as dns+srv://_calls._tcp.shop.default.svc.cluster.local"


@dataclass(frozen=True, slots=True)
class DnsUrl:
    """The parts of a URL. `port` is 0 if SRV records name it. `servers`: empty for the servers in resolv.conf.

    `keys`: the public keys that nodes behind the name may hold; empty without encryption.
    """

    url: str
    name: str
    port: int
    servers: tuple[tuple[str, int], ...]
    keys: tuple[bytes, ...] = ()


def parse_dns_url(url: str, has_port: bool) -> DnsUrl:
    """The parts of a URL. `has_port`: True for dns:, False for dns+srv:. DirectoryConfigurationError for a wrong URL."""
    mend = _MEND if has_port else _SRV_MEND
    before, has_keys, fragment = url.partition("#")
    rest, _, query = before.partition("://")[2].partition("?")
    asked = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(asked.keys() - {"server"})
    if unknown:
        raise DirectoryConfigurationError(f"the directory URL {url[:300]!r} has the option {unknown[0]!r}; server is known")
    try:
        name, port = split_tcp(f"tcp://{rest}" if has_port else f"tcp://{rest}:1")
        servers = tuple(_server(one.strip()) for one in asked["server"].split(",")) if "server" in asked else ()
    except DirectoryConfigurationError as exc:
        raise DirectoryConfigurationError(
            f"the directory URL is {url[:300]!r}; {mend}, and ?server=IP:PORT where another server than those of "
            "resolv.conf is to be asked"
        ) from exc
    if not all(0 < len(label.encode()) < 64 for label in name.rstrip(".").split(".")) or len(name.encode()) > 253 or ":" in name:
        raise DirectoryConfigurationError(f"the directory URL is {url[:300]!r}, and {name[:100]!r} is no name of DNS; {mend}")
    if not has_port and not (name.startswith("_") and "._" in name):
        raise DirectoryConfigurationError(f"the directory URL is {url[:300]!r}; {mend}")
    return DnsUrl(url, name, port if has_port else 0, servers, _keys(fragment, url) if has_keys else ())


def _keys(fragment: str, url: str) -> tuple[bytes, ...]:
    named = tuple(dict.fromkeys(key.strip() for key in fragment.split(",")))
    for key in named:
        if not _KEY.fullmatch(key):
            raise DirectoryConfigurationError(
                f"the directory URL {url[:300]!r} names the key {key[:80]!r}; 64 hex digits are needed, as "
                "`zmqservices keys show --key DIR` prints them, at the end of the URL, after its options"
            )
    if len(named) > MAX_KEYS:
        raise DirectoryConfigurationError(
            f"the directory URL {url[:100]!r}... names {len(named)} keys, and each may have to be tried with each node; "
            f"{MAX_KEYS} are the most: give nodes that hold other keys a name of their own"
        )
    return tuple(bytes.fromhex(key) for key in named)


def _server(text: str) -> tuple[str, int]:
    host, port = split_tcp(f"tcp://{text}:53" if text.endswith("]") or ":" not in text else f"tcp://{text}")
    try:
        getaddrinfo(host, port, 0, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST)
    except OSError as exc:
        raise DirectoryConfigurationError(f"{host!r} is no IP address") from exc
    return host, port


def refuse_unless_safe(url: DnsUrl, keys: Keys | None) -> None:
    """Raise DirectoryConfigurationError if only one end of a connection would be encrypted."""
    if keys is not None and not url.keys:
        raise DirectoryConfigurationError(
            f"the directory URL {url.url[:300]!r} names no key. With SECURITY a connection needs the key of the node before it "
            "begins, and DNS tells none: add #KEY at the end, as `zmqservices keys show --key DIR` prints it; two keys are "
            "separated by a comma"
        )
    if keys is None and url.keys:
        raise DirectoryConfigurationError(
            f"the directory URL {url.url[:300]!r} names keys, so its nodes take encrypted connections only; set SECURITY to the "
            "folder of this process's keys"
        )
