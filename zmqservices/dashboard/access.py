"""Who may read the page and who may change something: rules for the headers of a request.

Rule 1: pure.
Rule 2: a browser tells what page a request comes from; pages of other sites get nothing, whatever name they use for this
machine (DNS rebinding) and whatever they make a browser send (cross-site request forgery).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

#: A header that no form can send: a page of another site cannot make a browser send it.
HEADER = "X-Zmqservices-Dashboard"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach this address or name."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refusal(host: str | None, origin: str | None, site: str | None, is_local: bool, names: Collection[str]) -> str:
    """Why a request is refused; empty if it is not.

    `host`, `origin`, `site`: its headers Host, Origin and Sec-Fetch-Site. `is_local`: the server is reached from this machine
    only. `names`: other names under which it may be reached.
    """
    name = host_name(host)
    if name is None or not _is_own(name, is_local, names):
        return (
            f"the request is for the host {host!r:.100}, which is no name of this server; open it by its address, or start "
            "it with --allowed-host NAME"
        )
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        return f"the request comes from a page of {origin!r:.100}; only pages of this server may send it"
    # "none" is somebody who types the address. A link on another site opens the page, which tells that site nothing.
    if site is not None and site not in ("same-origin", "none"):
        return "the request comes from a page of another site; open the address by itself"
    return ""


def host_name(host: str | None) -> str | None:
    """The name or address in a Host header; None where there is none."""
    try:
        return None if not host else urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_own(name: str, is_local: bool, names: Collection[str]) -> bool:
    if is_loopback(name) or name.lower() in names:
        return True
    if is_local:
        return False
    try:
        # An address is no name that somebody else could point here.
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
