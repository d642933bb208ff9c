"""Two services that call and hear each other; one of them runs in an earlier release than the other."""

from __future__ import annotations

from typing import Any

import discovery
import zmqservices
from zmqservices.events import EventDispatcher, event_handler
from zmqservices.extensions import DependencyProvider
from zmqservices.rpc import RpcProxy, rpc


class Heard(DependencyProvider):
    """Injects the list of all that was heard."""

    def setup(self) -> None:
        self.lines: list[Any] = []

    def get_dependency(self, worker_ctx: Any) -> list[Any]:
        return self.lines


class Both:
    dispatch = EventDispatcher()
    heard = Heard()

    @rpc
    def home(self) -> list[str]:
        """Where its packages are."""
        return [str(zmqservices.__file__), str(discovery.__file__)]

    @rpc(idempotent=True)
    def echo(self, value: Any) -> Any:
        return value

    @rpc
    def fail(self, text: str) -> None:
        raise ValueError(text)

    @rpc
    def ask(self, value: Any) -> Any:
        """What the other one makes of it."""
        return self.other.echo(value)  # type: ignore[attr-defined]

    @rpc
    def say(self, value: Any) -> None:
        self.dispatch("said", value)

    @rpc
    def lines(self) -> list[Any]:
        return list(self.heard)


class Left(Both):
    name = "left"

    other = RpcProxy("right")

    @event_handler("right", "said")
    def hear(self, value: Any) -> None:
        self.heard.append(value)


class Right(Both):
    name = "right"

    other = RpcProxy("left")

    @event_handler("left", "said")
    def hear(self, value: Any) -> None:
        self.heard.append(value)
