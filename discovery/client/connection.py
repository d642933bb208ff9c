"""What the thread of a directory needs of a connection, be it to a registry or to an engine, and what it is told by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import zmq

from discovery import protocol

#: The states of a connection. Where `open` succeeds it goes from the first to the last.
WAITING, CONNECTING, SUBSCRIBING, UP = "waiting", "connecting", "subscribing", "up"

#: Hands a function to the directory's own thread, from whatever thread; it is called there with the time.
Post = Callable[[Callable[[float], None]], None]


class DirectoryConnection(Protocol):
    """A connection to one registry or engine, as the directory's thread uses it. `state`: see above."""

    def __hash__(self) -> int: ...

    address: str
    state: str
    error: str | None
    boot_id: str | None
    is_warming: bool
    last_contact: float
    opened_at: float
    retry_at: float
    failures: int

    def open(self, now: float) -> None:
        """Begins an attempt; `retry_at` has come."""

    def close(self, now: float, error: str | None, rest: float = 0.0) -> None:
        """Ends the connection or the attempt."""

    def register_with(self, poller: zmq.Poller) -> None:
        """Adds what the thread should wait for."""

    def next_deadline(self) -> float:
        """When `check` has something to do."""

    def send(self, message: protocol.Message) -> bool:
        """True when the connection took it."""

    def handle(self, ready: dict[Any, int], now: float) -> None:
        """Takes what the poll found."""

    def check(self, now: float) -> None:
        """Gives up what took too long."""


class DirectoryListener(Protocol):
    """Receives the events of a connection."""

    def on_up(self, connection: DirectoryConnection, snapshot: list[protocol.Snapshot], now: float) -> None:
        """The registry sent a complete snapshot; after a gap it sends another one."""

    def on_message(self, connection: DirectoryConnection, message: protocol.Message, now: float) -> None:
        """The registry sent an Update, Drop, Heartbeat, NotesChanged, Ack, Refused or Unknown, in order and without a gap."""

    def on_down(self, connection: DirectoryConnection, now: float) -> None:
        """The connection ended, or an attempt failed; `connection.error` says why."""
