"""Decides whether a socket may listen at an address: beyond loopback only with keys, or with INSECURE. Pure.

Internal.
"""

from __future__ import annotations

import ipaddress

#: The end of a refusal: the two things that a user can do.
MEND = (
    "make keys with `zmqservices keys init` and set SECURITY (docs/security.rst), or, on a network whose every host you trust, "
    "set INSECURE: true (ZMQSERVICES_INSECURE=true, --insecure)"
)


def is_within_this_host(host: str) -> bool:
    """Whether an IP address, or `*`, can be reached only from this host."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def objection(host: str, what: str, address: str, is_encrypted: bool, is_insecure: bool) -> str | None:
    """Why `what` must not listen at `address`, whose host is `host`; None if it may."""
    if is_encrypted or is_insecure or is_within_this_host(host):
        return None
    return f"{what} would listen at {address[:100]}, beyond this host, where every peer that reaches it may do everything: {MEND}"


def warning(host: str, what: str, address: str, is_encrypted: bool) -> str | None:
    """A warning for a socket that other hosts can reach without encryption; None for any other socket."""
    if is_encrypted or is_within_this_host(host):
        return None
    return f"{what} listens at {address[:100]} without encryption, as INSECURE says: every peer that reaches it may do everything"

