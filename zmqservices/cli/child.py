"""One process of a supervisor, and the messages that it sends over its pipe."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Mapping
from typing import Any

from zmqservices.cli import parent_pipe
from zmqservices.cli.log_setup import PROCESS_NUMBER
from zmqservices.cli.restarts import Restarts


class Child:
    """One supervised process. The object outlives restarts of the process."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.restarts = Restarts()
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: socket.socket | None = None
        self.unread = b""
        #: Whether all services of the process are up.
        self.is_up = False
        #: When to start the process (monotonic); None while it runs, or if it is not to be restarted.
        self.start_at: float | None = 0.0

    def __str__(self) -> str:
        return f"process {self.number + 1} (pid {self.process.pid})" if self.process else f"{self.number + 1}"

    def start(self, command: list[str], variables: Mapping[str, str]) -> None:
        """Start the process with a new pipe, and add `variables` to its environment."""
        self.pipe, theirs = socket.socketpair()
        self.pipe.setblocking(False)
        self.unread = b""
        self.start_at = None
        self.is_up = False
        own = {parent_pipe.VARIABLE: str(theirs.fileno()), PROCESS_NUMBER: str(self.number + 1)}
        environ = {**os.environ, **variables, **own}
        with theirs:
            self.process = subprocess.Popen(
                command, env=environ, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, process_group=0
            )

    def signal(self, number: int) -> None:
        """Send a signal to the process if it runs."""
        if self.process:
            self.process.send_signal(number)

    def read(self) -> list[dict[str, Any]] | None:
        """The messages that the process has written to the pipe; None if the process has closed its end."""
        assert self.pipe is not None
        try:
            received = self.pipe.recv(1 << 20)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not received:
            return None
        *lines, self.unread = (self.unread + received).split(b"\n")
        return [json.loads(line) for line in lines]
