"""Decides from the headers of a request whether it may read the page, or change something.

Rule 1: pure.
Rule 2: a browser says which page sends a request. A request of another site's page is refused, whatever name it uses for this
machine (DNS rebinding) and whatever it makes the browser send (cross-site request forgery).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

#: A header that no form can set, so a page of another site cannot make a browser send it.
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
    """Why a request is refused; empty if it is allowed.

    `host`, `origin`, `site`: its headers Host, Origin and Sec-Fetch-Site. `is_local`: the server is reached from this machine
    only. `names`: host names in the URL of the page, besides localhost and IP addresses.
    """
    name = host_name(host)
    if name is None or not _is_own(name, is_local, names):
        return (
            f"the request is for the host {host!r:.100}, which is no name of this server; open the page by its IP address, or "
            "start the dashboard with --allowed-host NAME"
        )
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        return f"the request comes from a page of {origin!r:.100}; only pages of this server may send it"
    # "none": the user typed the address.
    if site is not None and site not in ("same-origin", "none"):
        return "the request comes from a page of another site; open the dashboard in a tab of its own"
    return ""


def host_name(host: str | None) -> str | None:
    """The name or address in a Host header; None if there is none."""
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
        # An IP address cannot be rebound by DNS, as a name can.
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
