"""Bounds the connections of a socket for broadcasts, so that they do not use up the descriptors of the process.

It cannot be known here who has subscribed: the thread that relays broadcasts passes subscriptions on without their connection,
and anybody may subscribe to anything. So connections are counted. Beyond the bound, the host with the most of them loses its
oldest ones: an attacker takes no place from listeners on other hosts. An honest listener that is hit connects again.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from time import monotonic

from discovery.accepted import LOG_INTERVAL, LOOK_INTERVAL, host_of, inode_of, share_of_descriptors, shut_down
from zmqservices.transport import addresses
from zmqservices.transport.monitor import ACCEPTED
from zmqservices.transport.reactor import Reactor, ReactorTimer

_log = logging.getLogger(__name__)

#: The part of this process's descriptors that connections for broadcasts may take.
MOST_LISTENERS = 0.5


def crowded(hosts: dict[int, str], excess: int) -> list[int]:
    """So many of the connections: each time the oldest of the host that then has the most. Pure. `hosts`: oldest first."""
    # Of hosts with equally many, the one that came first. A heap, because each connection may be of a host of its own.
    heap = [(-count, number, host) for number, (host, count) in enumerate(Counter(hosts.values()).items())]
    heapq.heapify(heap)
    taken: Counter[str] = Counter()
    for _ in range(min(excess, len(hosts))):
        count, number, host = heap[0]
        heapq.heapreplace(heap, (count + 1, number, host))
        taken[host] += 1
    found = []
    for connection, host in hosts.items():
        if taken[host]:
            taken[host] -= 1
            found.append(connection)
    return found


class BroadcastConnections:
    """The connections of one socket bound to `endpoint`. `on_event` receives the events of its monitor."""

    def __init__(self, reactor: Reactor, endpoint: str) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._port = addresses.parse(endpoint)[1]
        self._most = share_of_descriptors(MOST_LISTENERS)
        #: The inode and the host of each open connection by descriptor, oldest first.
        self._open: dict[int, tuple[int, str]] = {}
        self._timer: ReactorTimer | None = None
        self.count = 0
        self._told_at = -LOG_INTERVAL

    def on_event(self, event: int, value: int) -> None:
        """A connection was accepted, or has ended."""
        self._open.pop(value, None)
        if event != ACCEPTED:
            return
        inode = inode_of(value)
        if inode is not None:
            self._open[value] = inode, host_of(value)
            if len(self._open) > self._most and self._timer is None:
                # Not at once: the end of others may not have been reported yet, and many are accepted together.
                self._timer = self._reactor.call_later(LOOK_INTERVAL, self._look)

    def _look(self) -> None:
        self._timer = None
        # A connection of which ZeroMQ never reported the end is not counted.
        self._open = {one: known for one, known in self._open.items() if inode_of(one) == known[0]}
        excess = len(self._open) - self._most
        if excess <= 0:
            return
        host = None
        try:
            for one in crowded({one: host for one, (_, host) in self._open.items()}, excess):
                ended = shut_down(one, self._open[one][0], self._port)
                del self._open[one]
                if ended is not None:
                    host = ended
                    self.count += 1
        except OSError:
            pass  # No descriptor is free for a moment. The next connection leads to another look.
        now = monotonic()
        if host is not None and now - self._told_at >= LOG_INTERVAL:
            self._told_at = now
            _log.warning(
                "ended %d connection(s) to %s for broadcasts so far, the last one of %s: there may be %d, half of this process's "
                "descriptors (`ulimit -n`)",
                self.count, self._endpoint, host, self._most,
            )  # fmt: skip

    def close(self) -> None:
        """The socket is about to be closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
