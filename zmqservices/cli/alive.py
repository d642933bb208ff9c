"""Whether a process of this host that the directory still lists has died, as far as that can be seen from beside it."""

from __future__ import annotations

import os
import platform
from typing import Any
from urllib.parse import urlsplit

#: The state of an instance whose process is gone although its lease lives.
DEAD = "DEAD"
#: Seconds that its port gets to answer.
TIMEOUT = 0.5


def is_dead(record: Any) -> bool:
    """True only where nothing speaks for it: no such process here, and nobody listens where it did.

    A process in a container may have this host's name and a process number that means nothing here; its port answers.
    """
    if not record.pid or record.host != platform.node() or _runs(record.pid):
        return False
    return not any(_listens(endpoint) for endpoint in record.endpoints.values())


def address_of(endpoint: str) -> tuple[str, int] | None:
    """Host and port of what an instance announced; None where that cannot be told."""
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


def _listens(endpoint: str) -> bool:
    import socket  # For those who look, and not for every command.

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
