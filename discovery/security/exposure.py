"""Whether a socket may listen where it was told to: beyond loopback only with keys, or where somebody said that it may. Pure.

Internal.
"""

from __future__ import annotations

import ipaddress

#: What offers both ways out.
MEND = (
    "make keys with `zmqservices keys init` and set SECURITY (docs/security.rst), or, on a network whose every host you trust, "
    "set INSECURE: true (ZMQSERVICES_INSECURE=true, --insecure)"
)


def is_within_this_host(host: str) -> bool:
    """Whether an IP address, or `*`, is reached from this host alone."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def objection(host: str, what: str, address: str, is_encrypted: bool, is_insecure: bool) -> str | None:
    """Why `what` must not listen at `address`, whose host is `host`; None where it may."""
    if is_encrypted or is_insecure or is_within_this_host(host):
        return None
    return f"{what} would listen at {address[:100]}, beyond this host, where whoever reaches it may do everything: {MEND}"


def warning(host: str, what: str, address: str, is_encrypted: bool) -> str | None:
    """What is to be said, once, of a socket that is open to others; None where it is not."""
    if is_encrypted or is_within_this_host(host):
        return None
    return f"{what} listens at {address[:100]} without encryption, as INSECURE says: whoever reaches it may do everything"

