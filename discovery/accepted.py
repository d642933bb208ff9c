"""The accepted connections of one bound socket: which of them have shown no client, and how one of them is ended.

Internal.

Rule 1: the table has no clock. Its owner calls `overdue` at regular intervals, and ages are counted in these calls. So nobody is
late because this process was stopped or busy: a pause of any length is one interval.
Rule 2: a connection is known by its descriptor and its inode. ZeroMQ closes descriptors in a thread of its own, so a number may
belong to another file at any time.

ZeroMQ cannot end one connection of a ROUTER or an XPUB. It notices at once, however, that the system has shut one down. For that
the descriptor is duplicated, and only the duplicate is checked and shut down: nobody else can close it, so that it cannot
become another file between the check and the shutdown. A duplicate kept from the start would save the check, but it would
cost a descriptor for each new connection, and the other end would not learn that ZeroMQ has closed its own descriptor.
"""

from __future__ import annotations

import math
import os
import resource
import socket
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from discovery.native import original

#: Not gevent's: that one would make a hub in a native thread.
_socket: type[socket.socket] = original("socket", "socket")

#: Seconds between two calls of `overdue`, at most.
LOOK_INTERVAL = 1.0
#: The part of this process's descriptors that connections without a client may take. Beyond it the oldest are ended early.
MOST_SILENT = 0.25
#: Seconds for which even then a connection is kept: an honest client needs less for a handshake and its first message.
LEAST_TIME = 3.0
#: Seconds between two log lines about ended connections.
LOG_INTERVAL = 60.0


#: What a client is known by.
Owner = TypeVar("Owner", bound=Hashable)


@dataclass(slots=True, eq=False)
class AcceptedConnection(Generic[Owner]):
    """One connection. `since`: the number of the call of `overdue` before which it had no client for the first time."""

    descriptor: int
    inode: int
    since: int = 0
    owner: Owner | None = None


class AcceptedConnections(Generic[Owner]):
    """The connections of one socket. `timeout`: seconds for which a connection may be without a client.

    `most`: the number of connections without a client beyond which the oldest are ended after LEAST_TIME.
    """

    def __init__(self, timeout: float, most: int) -> None:
        #: Seconds between two calls of `overdue`.
        self.interval = min(LOOK_INTERVAL, timeout / 4)
        self._timeout = math.ceil(timeout / self.interval)
        self._least = min(self._timeout, math.ceil(LEAST_TIME / self.interval))
        self._most = most
        self._looks = 0
        self._all: dict[int, AcceptedConnection[Owner]] = {}
        self._of_owner: dict[Owner, AcceptedConnection[Owner]] = {}
        #: The connections without a client, in the order of `since`.
        self._silent: dict[int, AcceptedConnection[Owner]] = {}

    def __len__(self) -> int:
        return len(self._all)

    @property
    def silent(self) -> int:
        """The number of connections without a client."""
        return len(self._silent)

    def accepted(self, descriptor: int, inode: int) -> None:
        """A connection was accepted."""
        self.ended(descriptor)
        self._all[descriptor] = connection = AcceptedConnection[Owner](descriptor, inode)
        self._silence(connection)

    def ended(self, descriptor: int) -> Owner | None:
        """The connection has ended. Returns its client; None if it had none."""
        connection = self._all.pop(descriptor, None)
        if connection is None:
            return None
        self._silent.pop(descriptor, None)
        if connection.owner is not None:
            del self._of_owner[connection.owner]
        return connection.owner

    def show(self, descriptor: int, owner: Owner) -> None:
        """`owner` is a client, and a message of it came over this connection."""
        self.hide(owner)
        connection = self._all.get(descriptor)
        if connection is None:
            return
        # A number may have come to this connection while messages of the former one still waited: the last owner is right.
        if connection.owner is not None:
            del self._of_owner[connection.owner]
        connection.owner = owner
        self._of_owner[owner] = connection
        self._silent.pop(descriptor, None)

    def hide(self, owner: Owner) -> None:
        """`owner` is no client any more, though its connection may go on."""
        connection = self._of_owner.pop(owner, None)
        if connection is not None:
            connection.owner = None
            self._silence(connection)

    def shows(self, owner: Owner) -> bool:
        """Whether `owner` is a client whose connection is known and goes on."""
        return owner in self._of_owner

    def heard(self, descriptor: int) -> None:
        """A peer that needs to be no client showed that it is there: its time begins anew."""
        connection = self._silent.pop(descriptor, None)
        if connection is not None:
            self._silence(connection)

    def is_silent(self, connection: AcceptedConnection[Owner]) -> bool:
        """Whether the connection goes on and has no client."""
        return self._silent.get(connection.descriptor) is connection

    def overdue(self) -> list[AcceptedConnection[Owner]]:
        """The connections to end now, oldest first. To be called every `interval` seconds while there are `silent` ones."""
        self._looks += 1
        excess = len(self._silent) - self._most
        found: list[AcceptedConnection[Owner]] = []
        for connection in self._silent.values():
            age = self._looks - connection.since
            if age <= self._timeout and (age <= self._least or len(found) >= excess):
                break
            found.append(connection)
        return found

    @property
    def is_crowded(self) -> bool:
        """Whether more connections have no client than may have none for the whole time."""
        return len(self._silent) > self._most

    def _silence(self, connection: AcceptedConnection[Owner]) -> None:
        connection.since = self._looks
        self._silent[connection.descriptor] = connection


class EndReport:
    """Counts the connections of `endpoint` that were ended for their silence, and makes a log line once a minute."""

    def __init__(self, endpoint: str, timeout: float, setting: str) -> None:
        self._endpoint = endpoint
        self._why = f"within {timeout:g} s ({setting})"
        self.count = 0
        self._told_at = -LOG_INTERVAL

    def ended(self, host: str, is_crowded: bool, now: float) -> str:
        """A connection of `host` was ended. Returns the log line; "" if none is due."""
        self.count += 1
        if now - self._told_at < LOG_INTERVAL:
            return ""
        self._told_at = now
        why = "while there were too many of them" if is_crowded else self._why
        what = f"ended {self.count} connection(s) to {self._endpoint} so far"
        return f"{what} over which no valid greeting came {why}; the last was from {host}"


def share_of_descriptors(part: float) -> int:
    """A part of the descriptors that this process may have open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000_000 if limit == resource.RLIM_INFINITY else max(1, int(limit * part))


def inode_of(descriptor: int) -> int | None:
    """The inode of an open descriptor; None if it has been closed."""
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return None


def host_of(descriptor: int) -> str:
    """The host at the other end of a connection; "?" if it has ended."""
    try:
        found = _socket(fileno=descriptor)
    except OSError:
        return "?"
    try:
        return str(found.getpeername()[0])
    except (OSError, IndexError):
        return "?"
    finally:
        found.detach()


def shut_down(descriptor: int, inode: int, port: int) -> str | None:
    """End the connection with this descriptor and inode to a port of this process. Returns the host of its other end.

    None if it has ended already. OSError (EMFILE, ENFILE) if there is no free descriptor for a moment; then try again later.
    """
    if inode_of(descriptor) != inode:
        return None
    duplicate = os.dup(descriptor)
    try:
        found = _socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        return None
    with found:
        try:
            if os.fstat(duplicate).st_ino != inode or found.getsockname()[1] != port:
                return None
            host = str(found.getpeername()[0])
            found.shutdown(socket.SHUT_RDWR)
        except (OSError, IndexError):
            return None
        return host
