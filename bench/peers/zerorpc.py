"""zerorpc: ZeroMQ and gevent too, a greenlet per request and a channel with heartbeats per call."""

from __future__ import annotations

from typing import Any

from bench.subject import Subject


class ZeroRpc(Subject):
    """A server object, and one client that greenlets share."""

    name = "zerorpc"
    about = "zerorpc, ZeroMQ and gevent"
    requirements = ("zerorpc",)
    modules = ("zerorpc",)
    style = "greenlets"

    def serve(self, address: str) -> None:
        import zerorpc

        class Service:
            def add(self, a: int, b: int) -> int:
                return a + b

            def echo(self, blob: bytes) -> bytes:
                return blob

        server = zerorpc.Server(Service())
        server.bind(f"tcp://{address}")
        server.run()

    def connect(self, address: str) -> Any:
        import zerorpc

        client = zerorpc.Client(timeout=60)
        client.connect(f"tcp://{address}")
        return client
