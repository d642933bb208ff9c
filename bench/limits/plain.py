"""Bare pyzmq as it is usually written: blocking, recv_multipart and send_multipart, msgpack. Its figures vary least."""

from __future__ import annotations

from typing import Any

from bench.subject import Subject, answer


class Plain(Subject):
    """A ROUTER socket that answers one message after the other."""

    name = "pyzmq"
    about = "bare pyzmq, a blocking loop as usually written"
    style = "pipeline"
    modules = ("zmq", "msgpack")

    def serve(self, address: str) -> None:
        import msgpack
        import zmq

        socket = zmq.Context().socket(zmq.ROUTER)
        socket.set_hwm(0)
        socket.bind(f"tcp://{address}")
        while True:
            routing_id, body = socket.recv_multipart()
            number, method, args = msgpack.unpackb(body)
            socket.send_multipart([routing_id, msgpack.packb([number, answer(method, args)])])

    def connect(self, address: str) -> PlainConnection:
        return PlainConnection(address)


class PlainConnection:
    """The DEALER on the other side."""

    def __init__(self, address: str) -> None:
        import msgpack
        import zmq

        self._pack, self._unpack = msgpack.packb, msgpack.unpackb
        self._socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.set_hwm(0)
        self._socket.connect(f"tcp://{address}")

    def send(self, number: int, method: str, args: Any) -> None:
        self._socket.send_multipart([self._pack([number, method, args])])

    def receive(self) -> Any:
        (body,) = self._socket.recv_multipart()
        return self._unpack(body)
