"""Finds out whether a process of this host has died although the directory still lists it."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from discovery import Record

#: The state shown for an instance whose process has ended although its lease has not expired.
DEAD = "DEAD"
#: Seconds in which the port of a process must accept a connection.
TIMEOUT = 0.5


def is_dead(record: Record) -> bool:
    """True only if the process is of this host, does not run, and nothing listens at its addresses.

    A process in a container may have the name of this host and a process id that is unknown here, but its port is open.
    """
    if not record.pid or record.host != platform.node() or _runs(record.pid):
        return False
    return not any(listens(endpoint) for endpoint in record.endpoints.values())


def address_of(endpoint: str) -> tuple[str, int] | None:
    """Host and port of an announced endpoint; None if it cannot be parsed."""
    try:
        parts = urlsplit(endpoint)
        return parts.hostname or "", parts.port or 0
    except ValueError:
        return None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def listens(endpoint: str) -> bool:
    """False only if the connection to an announced endpoint is refused."""
    import socket  # Imported here: most commands need no sockets.

    address = address_of(endpoint)
    if address is None:
        return True
    try:
        with socket.create_connection(address, TIMEOUT):
            return True
    except ConnectionRefusedError:
        return False
    except (OSError, ValueError):
        return True
