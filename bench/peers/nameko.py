"""Nameko on RabbitMQ: `nameko run`, and its standalone client with calls sent ahead."""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.subject import Broker, Subject

URI = "pyamqp://guest:guest@{}"


class Nameko(Subject):
    """The service of `nameko_service.py`."""

    name = "nameko"
    about = "Nameko on RabbitMQ"
    requirements = ("nameko",)
    programs = (("rabbitmq-server", "rabbitmq-server"), ("epmd", "erlang-base"))
    modules = ("nameko.standalone.rpc",)
    style = "pipeline"

    def broker(self, folder: Path) -> AbstractContextManager[Broker]:
        from bench.peers.rabbitmq import RabbitMq

        return RabbitMq(folder)

    def command(self, address: str, processes: int) -> list[str]:
        start = "from nameko.cli.main import main; main()"
        return ["-c", start, "run", "--broker", URI.format(address), "bench.peers.nameko_service"]

    def connect(self, address: str) -> NamekoConnection:
        return NamekoConnection(address)


class NamekoConnection:
    """`call_async` ahead, `result` in the same order: its standalone client belongs to one thread."""

    def __init__(self, address: str) -> None:
        from nameko.standalone.rpc import ServiceRpcProxy

        self._proxy = ServiceRpcProxy("bench", {"AMQP_URI": URI.format(address)}, timeout=60)
        self._service = self._proxy.start()
        self._open: deque[tuple[int, Any]] = deque()

    def send(self, number: int, method: str, args: Any) -> None:
        if method == "echo":
            # Nameko speaks JSON, which carries no bytes: text of the same length stands for them.
            args = ("x" * len(args[0]),)
        self._open.append((number, getattr(self._service, method).call_async(*args)))

    def receive(self) -> Any:
        number, call = self._open.popleft()
        return number, call.result()
