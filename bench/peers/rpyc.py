"""RPyC: a threaded server, and a connection for each call in flight."""

from __future__ import annotations

from typing import Any

from bench.subject import Subject, parse


class Rpyc(Subject):
    """Exposed methods of a service class."""

    name = "rpyc"
    about = "RPyC, a thread per connection"
    requirements = ("rpyc",)
    modules = ("rpyc",)
    style = "threads"
    is_shared = False

    def serve(self, address: str) -> None:
        import rpyc
        from rpyc.utils.server import ThreadedServer

        class Service(rpyc.Service):
            def exposed_add(self, a: int, b: int) -> int:
                return a + b

            def exposed_echo(self, blob: bytes) -> bytes:
                return blob

        host, port = parse(address)
        ThreadedServer(Service, hostname=host, port=port).start()

    def connect(self, address: str) -> Any:
        import rpyc

        host, port = parse(address)
        return rpyc.connect(host, port, config={"sync_request_timeout": 60}).root
