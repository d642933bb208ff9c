"""The interface of everything that can be measured: our own services, bare pyzmq, and other products.

Rule 1: this module and those of the subjects import nothing but the standard library at their top. What a subject
        needs is imported where it is used: the bench runs in one environment, each peer in another.
Rule 2: every server listens on loopback only.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol


class Broker(Protocol):
    """A program that a subject needs besides its server: a message broker, or our registry."""

    #: `host:port`, for servers and clients alike.
    address: str

    def pids(self) -> list[int]:
        """Its processes, whose CPU counts into every call."""


class Subject(Protocol):
    """One way to call `add(a, b)` and `echo(blob)` in another process."""

    #: As it is called on the command line.
    name: str
    #: What it is, in a few words, for the table.
    about: str
    #: What pip installs for it, into an environment of its own. Nothing: it runs in the environment of the bench.
    requirements: tuple[str, ...] = ()
    #: "3.11" where it does not run on newer ones.
    python: str | None = None
    #: Programs that must be there, and the Debian package that brings each.
    programs: tuple[tuple[str, str], ...] = ()
    #: What is imported before a client is ready, so that "start to first answer" counts the server's imports only.
    modules: tuple[str, ...] = ()
    #: How a client has many calls in flight: a name of `styles.STYLES`.
    style: str = "threads"
    #: All calls in flight share one connection; else each has its own.
    is_shared: bool = True
    #: It can serve from several processes.
    scales: bool = False
    #: Why `echo` of large payloads is not measured; "" when it is.
    no_payloads: str = ""

    def broker(self, folder: Path) -> AbstractContextManager[Broker] | None:
        """A context in which the broker runs, its files in `folder`; None where there is none."""
        return None

    def command(self, address: str, processes: int) -> list[str]:
        """What starts the server, after the interpreter. `address` is the broker's, or a free one to bind."""
        return ["-m", "bench.serve", self.name, address]

    def said_when_up(self) -> str:
        """What each of several server processes writes to its log once it serves; "" where there is only ever one."""
        return ""

    def environ(self, address: str) -> dict[str, str]:
        """Variables for the server's environment."""
        return {}

    def serve(self, address: str) -> None:
        """Serve until a signal ends the process. Runs in the server process; not used where `command` is another."""
        raise RuntimeError(f"{self.name} is started by its own command")

    def connect(self, address: str) -> Any:
        """A connection: see `styles` for what each style asks of it. Runs in the client process.

        Raises whatever it likes while the server is not there yet; it is then called again.
        """
        raise RuntimeError(f"{self.name} has no client")


def parse(address: str) -> tuple[str, int]:
    """The host and the port of `host:port`."""
    host, port = address.rsplit(":", 1)
    return host, int(port)


def answer(method: str, args: Any) -> Any:
    """Run `add` or `echo`, for servers that get the name of the method."""
    if method == "add":
        return args[0] + args[1]
    if method == "echo":
        return args[0]
    raise ValueError(f"there is no method {method!r}")


def interpreter_flags() -> list[str]:
    """Hide the warnings of a peer's libraries."""
    return ["-W", "ignore"] if not sys.warnoptions else []
