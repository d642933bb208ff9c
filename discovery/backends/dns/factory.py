"""Opens `dns:` and `dns+srv:` URLs."""

from __future__ import annotations

from discovery.backend import Capabilities, Kind, Options
from discovery.backends.dns.lookup import Lookup
from discovery.backends.dns.seed import DnsSeed
from discovery.backends.dns.url import DnsUrl, parse_dns_url, refuse_unless_safe
from discovery.exceptions import DirectoryConfigurationError

EXTRA = "zmqservices[dns]"


def open_dns(url: str, options: Options) -> Kind:
    """The factory of `dns:`."""
    return _open(parse_dns_url(url, has_port=True), options)


def open_dns_srv(url: str, options: Options) -> Kind:
    """The factory of `dns+srv:`."""
    return _open(parse_dns_url(url, has_port=False), options)


def _open(url: DnsUrl, options: Options) -> Kind:
    refuse_unless_safe(url, options.keys)
    try:
        lookup = Lookup(url)
    except ImportError as exc:
        raise DirectoryConfigurationError(
            f"the directory URL is {url.url!r}, and dnspython, by which names are looked up, is not installed; "
            f"`pip install {EXTRA}` brings it"
        ) from exc
    # A process listens at the address from which it reaches a peer, or else a DNS server.
    named = ((url.name, url.port),) if url.port and not url.servers else ()
    capabilities = Capabilities(
        can_announce=False, stores_notes=False, needs_fixed_port=True, servers=named + lookup.servers, carries_revocations=True
    )
    seed = DnsSeed(url.url, lookup, keys=options.keys, named=url.keys)
    # In a closed cluster a node proves its records by the connection, and a file proves nothing: so they are not cached.
    return Kind(url.url, (seed,), capabilities, options.ttl / 3, keeps_records=options.keys is None)
