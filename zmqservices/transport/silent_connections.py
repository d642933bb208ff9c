"""Ends the connections of a RouterSocket that do not become clients in time, so that they do not use up the descriptors.

An accepted connection is silent until its peer is greeted, and again once the peer is given up, blocked, or cut off. Who is
greeted is decided above the socket. The descriptor of a client's connection is a property of its first message, so nothing is
asked for later messages, and nothing is done while no connection is silent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from discovery.accepted import (
    MOST_SILENT,
    AcceptedConnection,
    AcceptedConnections,
    EndReport,
    inode_of,
    share_of_descriptors,
    shut_down,
)
from zmqservices.transport import addresses
from zmqservices.transport.reactor import DRAIN_QUOTA, Reactor, ReactorTimer

_log = logging.getLogger(__name__)

#: Seconds in a row in which a socket hands over waiting messages before connections are ended: the greeting of one may be there.
READING_TIME = 0.005
#: Seconds for others between two such times.
READING_PAUSE = 0.005


class SilentConnections:
    """The connections of one socket bound to `endpoint`, and the routing ids of the clients at their other ends.

    `timeout`: seconds for which a connection may be silent. `read_events()` reads the socket's monitor until it is empty.
    `drain()` hands over waiting messages. Returns how many if there may be more; 0 if there are none.
    """

    def __init__(
        self, reactor: Reactor, endpoint: str, timeout: float, read_events: Callable[[], None], drain: Callable[[], int]
    ) -> None:
        self._reactor = reactor
        self._port = addresses.parse(endpoint)[1]
        self._read_events = read_events
        self._drain = drain
        self._connections = AcceptedConnections[bytes](timeout, share_of_descriptors(MOST_SILENT))
        #: The descriptor over which the first message of each routing id came.
        self._descriptors: dict[bytes, int] = {}
        #: The last routing id of each descriptor.
        self._routing_ids: dict[int, bytes] = {}
        #: Clients that have another connection than before. Their next message tells which.
        self._moved: set[bytes] = set()
        self._timer: ReactorTimer | None = None
        self._is_closed = False
        self._report = EndReport(endpoint, timeout, "hello_timeout")

    # --- what the socket's monitor reports ---------------------------------------------------------------------------

    def accepted(self, descriptor: int) -> None:
        """A connection was accepted."""
        inode = inode_of(descriptor)
        if inode is not None:
            self._connections.accepted(descriptor, inode)
            self._set_timer()

    def ended(self, descriptor: int) -> bytes | None:
        """A connection has ended. Returns the routing id of its client; None if it had none."""
        return self._connections.ended(descriptor)

    def unlocated(self, descriptor: int) -> bytes | None:
        """After `ended`: a peer that is no client had this connection. `located` must be called for its next message, if any."""
        routing_id = self._routing_ids.pop(descriptor, None)
        if routing_id is None or self._descriptors.get(routing_id) != descriptor:
            return None
        del self._descriptors[routing_id]
        return routing_id

    # --- what the socket's owner knows of the peers ----------------------------------------------------------------

    def located(self, routing_id: bytes, descriptor: int) -> None:
        """The first message of `routing_id`, or the first one after `moved`, came over the connection with this descriptor."""
        self._descriptors[routing_id] = descriptor
        self._routing_ids[descriptor] = routing_id
        if routing_id in self._moved:
            self.greeted(routing_id)

    def greeted(self, routing_id: bytes) -> None:
        """The peer is a client from now on."""
        self._moved.discard(routing_id)
        # ZeroMQ reports a connection before its first message, but on another socket.
        self._read_events()
        descriptor = self._descriptors.get(routing_id)
        if descriptor is None:
            self._moved.add(routing_id)  # The connection has just ended. The client may come again.
        else:
            self._connections.show(descriptor, routing_id)

    def moved(self, routing_id: bytes) -> None:
        """The client was greeted again, perhaps over another connection. `located` must be called for its next message."""
        self._moved.add(routing_id)

    def heard(self, routing_id: bytes) -> None:
        """The peer is no client, but shows that it is there."""
        self._connections.heard(self._descriptors[routing_id])

    def forget(self, routing_id: bytes) -> None:
        """The peer is no client any more. Its connection may go on."""
        self._moved.discard(routing_id)
        if self._descriptors.pop(routing_id, None) is not None:
            self._connections.hide(routing_id)
            self._set_timer()

    # --- the end of silent connections -------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if self._timer is None and self._connections.silent and not self._is_closed:
            self._timer = self._reactor.call_later(self._connections.interval, self._look)

    def _look(self) -> None:
        is_crowded = self._connections.is_crowded
        overdue = self._connections.overdue()
        # After a long pause of this process, the greetings of peers still wait in its socket. ZeroMQ hands over one message of
        # each connection in turn, and one more of a connection that was empty meanwhile. So even if messages never end, all
        # greetings are among so many; the rest are messages of connections that begin meanwhile.
        self._read_and_end(overdue, is_crowded, 2 * len(self._connections) + DRAIN_QUOTA if overdue else 0)

    def _read_and_end(self, overdue: list[AcceptedConnection[bytes]], is_crowded: bool, most: int) -> None:
        """End those that are still silent when the socket is empty, or has handed over `most` messages."""
        # Until the look is over, the timer that has fired stays in its place, so that no message that is read sets another one.
        left = 0
        try:
            left = self._read(most)
            if not left:
                self._end_silent(overdue, is_crowded)
        finally:
            self._timer = None
            if left and not self._is_closed:
                self._timer = self._reactor.call_later(READING_PAUSE, self._read_and_end, overdue, is_crowded, left)
            self._set_timer()

    def _read(self, most: int) -> int:
        """Hand over messages for READING_TIME, so many at most. Returns how many of them are still to be read."""
        end = monotonic() + READING_TIME
        while most > 0:
            count = self._drain()
            if not count:
                return 0
            most -= count
            if monotonic() > end:
                break
        return max(most, 0)

    def _end_silent(self, overdue: list[AcceptedConnection[bytes]], is_crowded: bool) -> None:
        if overdue:
            self._read_events()
        try:
            for connection in overdue:
                if not self._is_closed and self._connections.is_silent(connection):
                    self._end(connection, is_crowded)
        except OSError:
            pass  # No descriptor is free for a moment.

    def _end(self, connection: AcceptedConnection[bytes], is_crowded: bool) -> None:
        host = shut_down(connection.descriptor, connection.inode, self._port)
        self._connections.ended(connection.descriptor)
        if host is None:
            return
        line = self._report.ended(host, is_crowded, monotonic())
        if line:
            # A client in a plain thread may leave a link ungreeted between its calls, so that a single line is no alarm.
            _log.log(logging.WARNING if is_crowded else logging.INFO, "%s", line)

    def close(self) -> None:
        """The socket is about to be closed."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
