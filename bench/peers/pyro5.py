"""Pyro5: its threaded daemon with msgpack, and a proxy for each call in flight."""

from __future__ import annotations

from typing import Any

from bench.subject import Subject, parse

#: Connections that the daemon's threads can serve at once; its default is 80.
THREADS = 1100


class Pyro(Subject):
    """An exposed class, found by its name at a fixed port."""

    name = "pyro5"
    about = "Pyro5, msgpack, a thread per connection"
    requirements = ("Pyro5", "msgpack")
    modules = ("Pyro5.api",)
    style = "threads"
    is_shared = False

    def serve(self, address: str) -> None:
        import Pyro5.api

        Pyro5.config.THREADPOOL_SIZE = THREADS

        class Service:
            def add(self, a: int, b: int) -> int:
                return a + b

            def echo(self, blob: bytes) -> bytes:
                return blob

        host, port = parse(address)
        daemon = Pyro5.api.Daemon(host=host, port=port)
        daemon.register(Pyro5.api.expose(Service)(), "bench")
        daemon.requestLoop()

    def connect(self, address: str) -> Any:
        return Proxies(address)


class Proxies:
    """A proxy belongs to the thread that uses it, so it is made at its thread's first call."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._proxy: Any = None
        self._owner = 0

    def _mine(self) -> Any:
        import threading

        if self._owner != threading.get_ident():
            import Pyro5.api

            Pyro5.config.SERIALIZER = "msgpack"
            if self._proxy is None:
                self._proxy = Pyro5.api.Proxy(f"PYRO:bench@{self._address}")
            self._proxy._pyroClaimOwnership()
            self._owner = threading.get_ident()
        return self._proxy

    def add(self, a: int, b: int) -> Any:
        return self._mine().add(a, b)

    def echo(self, blob: bytes) -> Any:
        return self._mine().echo(blob)
