"""The connections of a registry's socket. Those over which no client makes a valid request in time are ended.

Internal. Used by the thread that owns the socket.
"""

from __future__ import annotations

import zmq

from discovery import sockets
from discovery.accepted import (
    MOST_SILENT,
    AcceptedConnections,
    EndReport,
    inode_of,
    share_of_descriptors,
    shut_down,
)
from discovery.native import Log
from discovery.server.handshakes import FailedHandshakes

_log = Log(__name__)

#: The most events that are read at once, before the registry goes on.
BATCH = 500


class RegistryConnections:
    """The connections of one bound socket. To be closed before the socket.

    `timeout`: seconds for which a connection may be without a client. `is_encrypted`: failed handshakes are logged.
    """

    def __init__(self, socket: zmq.Socket[bytes], url: str, timeout: float, is_encrypted: bool) -> None:
        self._socket = socket
        self._port = int(url.rpartition(":")[2])
        self._connections = AcceptedConnections[bytes](timeout, share_of_descriptors(MOST_SILENT))
        self._failed = FailedHandshakes(url) if is_encrypted else None
        self._report = EndReport(url, timeout, "hello_timeout")
        self._look_at = 0.0
        #: Becomes readable when there is something to `read`.
        self.monitor = sockets.server_monitor_of(socket)

    def read(self, now: float) -> bool:
        """Reads what ZeroMQ reports about connections. Returns whether there may be more."""
        failures, found = 0, None
        for _ in range(BATCH):
            found = sockets.monitored(self.monitor)
            if found is None:
                break
            event, value = found
            if event == sockets.ACCEPTED:
                inode = inode_of(value)
                if inode is not None:
                    self._connections.accepted(value, inode)
            elif event == sockets.DISCONNECTED:
                # If the client comes again with the same routing id, its next request shows its new connection.
                self._connections.ended(value)
            else:
                failures += 1
        if failures and self._failed is not None:
            self._failed.saw(failures, now)
        return found is not None

    def show(self, client: bytes, first: zmq.Frame, now: float) -> None:
        """A valid request of the client with this routing id has come. `first`: the first frame of it."""
        if self._connections.shows(client):
            return
        # ZeroMQ reports a connection before its first message, but on another socket.
        while self.read(now):
            pass
        self._connections.show(sockets.descriptor_of(first), client)

    def hide(self, client: bytes) -> None:
        """The client has gone or was refused."""
        self._connections.hide(client)

    def end_silent(self, now: float) -> None:
        """Ends connections that have been without a client for too long. Called when all messages that had come are handled."""
        if not self._connections.silent or now < self._look_at:
            return
        self._look_at = now + self._connections.interval
        self.read(now)
        is_crowded = self._connections.is_crowded
        for connection in self._connections.overdue():
            try:
                host = shut_down(connection.descriptor, connection.inode, self._port)
            except OSError:
                return  # No descriptor is free for a moment.
            self._connections.ended(connection.descriptor)
            if host is not None and (line := self._report.ended(host, is_crowded, now)):
                _log.warning("%s", line)

    def close(self) -> None:
        """Ends the monitor. ZeroMQ must not send to a monitor that nobody reads."""
        self._socket.disable_monitor()
        self.monitor.close(0)
