"""A service and the one behind it, which can hang and fail."""

from __future__ import annotations

import os

from gevent.event import Event

from zmqservices.rpc import RpcProxy, rpc


class Front:
    name = "front"
    back = RpcProxy("back")

    @rpc
    def hang(self) -> None:
        self.back.hang()

    @rpc
    def ask(self) -> int:
        return int(self.back.whoami())

    @rpc
    def fail(self) -> None:
        raise OSError(f"{'the disk of a journal with a long path, ' * 3}is full")


class Back:
    name = "back"

    @rpc
    def hang(self) -> None:
        """Wait for something that never comes."""
        Event().wait()

    @rpc(idempotent=True)
    def whoami(self) -> int:
        return os.getpid()
