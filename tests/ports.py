"""Ports for servers that tests start."""

import itertools
import os
import random
import socket

#: Below the range from which systems take the ports of outgoing connections: none of them has such a port by chance.
FIRST, LAST = 20_000, 32_000
#: Processes that run tests side by side have a part of the range each.
PARTS = 8

_part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0) % PARTS
_size = (LAST - FIRST) // PARTS
_numbers = itertools.count(random.randrange(_size))


def free_port():
    """A loopback port at which nobody listens. One that was handed out comes again after more than a thousand others."""
    for _ in range(_size):
        port = FIRST + _part * _size + next(_numbers) % _size
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("no free port was found")
