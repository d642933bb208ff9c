"""A bare blocking DEALER in a plain thread that calls the hub server, for comparison with the standalone client."""

from __future__ import annotations

from typing import Any

from bench.limits.hub import Hub


class Thread(Hub):
    """The hub limit's server, and a client without a hub."""

    name = "pyzmq-thread"
    about = "a bare blocking DEALER in a plain thread, calling pyzmq-hub"
    style = "pipeline"

    def connect(self, address: str) -> Any:
        return Dealer(address)


class Dealer:
    """One frame each way."""

    def __init__(self, address: str) -> None:
        import msgpack
        import zmq

        self._pack, self._unpack = msgpack.packb, msgpack.unpackb
        self._socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.set_hwm(0)
        self._socket.connect(f"tcp://{address}")

    def send(self, number: int, method: str, args: Any) -> None:
        self._socket.send(self._pack([number, method, args]))

    def receive(self) -> Any:
        return self._unpack(self._socket.recv())
