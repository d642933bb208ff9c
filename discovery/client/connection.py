"""The interface of a connection to a registry or an engine, and of the listener that it reports to."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import zmq

from discovery import protocol
from discovery.interest import EVERYTHING, Interest

#: The states of a connection. An attempt that succeeds goes from the first to the last.
WAITING, CONNECTING, SUBSCRIBING, UP = "waiting", "connecting", "subscribing", "up"

#: Has the directory's own thread call a function with the time. Callable from any thread.
Post = Callable[[Callable[[float], None]], None]


#: Seconds of the longest pause after the first failed attempt, and after many.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 3.0


def pause_after(failures: int, longest: float = LONGEST_PAUSE) -> float:
    """Seconds until the next attempt after so many failures: doubled each time, with jitter, at most `longest`."""
    return random.uniform(0.25, 1.0) * min(longest, FIRST_PAUSE * 2 ** min(failures, 10))


class DirectoryConnection(ABC):
    """A connection to one registry or engine, as the directory's thread uses it. `state`: see above."""

    def __init__(self, address: str, listener: DirectoryListener, longest_pause: float) -> None:
        self.address = address
        self.state = WAITING
        #: Why the connection ended, or the last attempt failed.
        self.error: str | None = None
        #: An id of the stored data, which changes when the registry or engine has lost everything.
        self.boot_id: str | None = None
        #: Whether the other side is the node of all that it tells, and has proven it: nothing of that need be signed.
        self.is_own_word = False
        self.is_warming = False
        self.last_contact = float("-inf")
        self.opened_at = float("-inf")
        #: When the next attempt may begin.
        self.retry_at = float("-inf")
        self.failures = 0
        #: Whether the attempt goes on with another connection, so that the address has not failed yet.
        self.goes_on = False
        #: When the first of the failed attempts ended, and whether the log has told of them.
        self.failing_since = float("inf")
        self.is_outage_told = False
        #: The interest that was asked for in this conversation, and the part that has been answered. EVERYTHING if the other
        #: side does not know interests.
        self.asked: Interest = EVERYTHING
        self.answered: Interest = EVERYTHING
        self._listener = listener
        self._longest_pause = min(LONGEST_PAUSE, longest_pause)

    @abstractmethod
    def open(self, now: float) -> None:
        """Begin an attempt. Called once `retry_at` has come."""

    @abstractmethod
    def _close(self) -> None:
        """Close what an attempt has opened."""

    def close(self, now: float, error: str | None, rest: float = 0.0) -> None:
        """End the connection or the attempt. The next one may begin at `retry_at`, at least `rest` seconds from now."""
        was_up = self.state == UP
        self.goes_on = False
        self._close()
        self.state = WAITING
        self.error = error
        self.failures = 0 if was_up else self.failures + 1
        if was_up:
            self.failing_since, self.is_outage_told = now, False
        self.failing_since = min(self.failing_since, now)
        self.retry_at = now + rest + pause_after(self.failures, self._longest_pause)
        self._listener.on_down(self, now)

    @abstractmethod
    def register_with(self, poller: zmq.Poller) -> None:
        """Add the sockets that the thread should wait for."""

    @abstractmethod
    def next_deadline(self) -> float:
        """The time at which `check` or `open` is next needed."""

    @abstractmethod
    def send(self, message: protocol.Message) -> bool:
        """Send a message. False if the connection has no room for it now."""

    def extend(self, keys: Interest, now: float) -> None:
        """Ask for the records under these keys as well. `on_extended`, or `on_up` again, follows when all have been sent.

        Called while the connection is up, and only for keys that are not in `asked`.
        """
        raise NotImplementedError(f"{type(self).__name__} tells of everything")

    @abstractmethod
    def handle(self, ready: dict[Any, int], now: float) -> None:
        """Read from the sockets that the poll found ready."""

    @abstractmethod
    def check(self, now: float) -> None:
        """End an attempt or a connection that takes too long."""


class DirectoryListener(Protocol):
    """Receives the events of connections, and knows what to ask for."""

    @property
    def interest(self) -> Interest:
        """The records that are wanted now."""

    def on_up(self, connection: DirectoryConnection, snapshot: list[protocol.Snapshot], now: float) -> None:
        """The registry sent a complete snapshot; after a gap it sends another one."""

    def on_message(self, connection: DirectoryConnection, message: protocol.Message, now: float) -> None:
        """The registry sent an Update, Drop, Heartbeat, NotesChanged, Ack, Refused or Unknown, in order and without a gap."""

    def on_extended(self, connection: DirectoryConnection, now: float) -> None:
        """All records have come that an `extend` asked for; `connection.answered` has grown."""

    def on_unreadable(self, instance: str, tell: Callable[[], None]) -> None:
        """A record of a snapshot was decoded and is bad. Called on any thread; `tell` must be called on the directory's."""

    def on_down(self, connection: DirectoryConnection, now: float) -> None:
        """The connection ended, or an attempt failed; `connection.error` says why."""
