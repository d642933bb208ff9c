"""NATS request/reply with nats-py, through a nats-server."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.processes import Child, free_port
from bench.subject import Broker, Subject, answer

#: One megabyte is the server's own default, and a little less than a MiB of payload with its envelope.
MAX_PAYLOAD = 8 * 2**20


class Nats(Subject):
    """One subject per method, msgpack in the body, asyncio on both sides."""

    name = "nats"
    about = "NATS request/reply, nats-py"
    requirements = ("nats-py", "msgpack")
    programs = (("nats-server", "nats-server"),)
    modules = ("nats", "msgpack")
    style = "asyncio"

    def broker(self, folder: Path) -> AbstractContextManager[Broker]:
        return NatsServer(folder)

    def serve(self, address: str) -> None:
        import asyncio

        asyncio.run(self._serve(address))

    async def _serve(self, address: str) -> None:
        import asyncio

        import msgpack
        import nats

        connection = await nats.connect(f"nats://{address}")

        async def reply(message: Any) -> None:
            method, args = msgpack.unpackb(message.data)
            await message.respond(msgpack.packb(answer(method, args)))

        await connection.subscribe("bench", cb=reply)
        await asyncio.Event().wait()

    async def connect(self, address: str) -> NatsConnection:
        import nats

        return NatsConnection(await nats.connect(f"nats://{address}"))


class NatsConnection:
    """Requests with a generous timeout."""

    def __init__(self, connection: Any) -> None:
        import msgpack

        self._request, self._pack, self._unpack = connection.request, msgpack.packb, msgpack.unpackb

    async def add(self, a: int, b: int) -> Any:
        reply = await self._request("bench", self._pack(["add", [a, b]]), timeout=30)
        return self._unpack(reply.data)

    async def echo(self, blob: bytes) -> Any:
        reply = await self._request("bench", self._pack(["echo", [blob]]), timeout=30)
        return self._unpack(reply.data)


class NatsServer:
    """A nats-server of the run's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self._child: Child | None = None

    def __enter__(self) -> NatsServer:
        self._folder.mkdir(parents=True, exist_ok=True)
        host, port = self.address.split(":")
        configuration = self._folder / "nats.conf"
        configuration.write_text(f"host: {host}\nport: {port}\nmax_payload: {MAX_PAYLOAD}\n")
        program = shutil.which("nats-server") or "nats-server"
        self._child = Child([program, "-c", str(configuration)], self._folder / "nats-server.log")
        self._child.wait_for_port(self.address)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._child is not None:
            self._child.stop()

    def pids(self) -> list[int]:
        return self._child.pids() if self._child is not None else []
