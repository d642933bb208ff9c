"""Bare pyzmq, blocking, with every trick that a loop without features allows: an upper bound for any framework.

One frame at a time through the backend's own functions, a reused Packer, and as many messages as there are before the
next blocking receive.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from bench.subject import Subject, answer


class Tuned(Subject):
    """The same ROUTER, tuned."""

    name = "pyzmq-tuned"
    about = "bare pyzmq, a blocking loop, tuned"
    style = "pipeline"
    modules = ("zmq", "msgpack")

    def serve(self, address: str) -> None:
        import zmq
        from msgpack import Packer, unpackb
        from zmq.backend import Socket

        socket = zmq.Context().socket(zmq.ROUTER)
        socket.set_hwm(0)
        socket.bind(f"tcp://{address}")
        recv, send, pack = Socket.recv, Socket.send, Packer().pack
        more, noblock, again = int(zmq.SNDMORE), int(zmq.NOBLOCK), zmq.Again
        while True:
            flags = 0
            try:
                while True:
                    routing_id = recv(socket, flags)
                    number, method, args = unpackb(recv(socket))
                    send(socket, routing_id, more)
                    send(socket, pack([number, answer(method, args)]))
                    flags = noblock
            except again:
                socket.poll()

    def connect(self, address: str) -> TunedConnection:
        return TunedConnection(address)


class TunedConnection:
    """The DEALER on the other side; takes all answers that are there at once."""

    def __init__(self, address: str) -> None:
        import zmq
        from msgpack import Packer, unpackb
        from zmq.backend import Socket

        self._pack, self._unpack, self._again, self._noblock = Packer().pack, unpackb, zmq.Again, int(zmq.NOBLOCK)
        self._recv, self._send = Socket.recv, Socket.send
        self._socket: Any = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.set_hwm(0)
        self._socket.connect(f"tcp://{address}")
        self._arrived: deque[Any] = deque()

    def send(self, number: int, method: str, args: Any) -> None:
        self._send(self._socket, self._pack([number, method, args]))

    def receive(self) -> Any:
        if not self._arrived:
            self._collect()
        return self._arrived.popleft()

    def _collect(self) -> None:
        recv, socket, arrived, unpack, noblock = self._recv, self._socket, self._arrived, self._unpack, self._noblock
        arrived.append(unpack(recv(socket)))
        try:
            while True:
                arrived.append(unpack(recv(socket, noblock)))
        except self._again:
            pass
