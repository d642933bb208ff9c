"""Bare pyzmq, as usually written: the yardstick. A ROUTER that answers msgpack calls of add(), and its client."""

from __future__ import annotations

import sys
from time import perf_counter

import msgpack
import zmq


def serve() -> None:
    """Bind a loopback port, say which on standard output, answer until told to stop by a signal."""
    socket = zmq.Context().socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    print(port, flush=True)
    while True:
        routing_id, body = socket.recv_multipart()
        number, method, args = msgpack.unpackb(body)
        if method == "add":
            socket.send_multipart([routing_id, msgpack.packb([number, args[0] + args[1]])])


def call(port: int, calls: int, in_flight: int) -> float:
    """Make `calls` calls with `in_flight` of them open at a time; the seconds that it took."""
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(f"tcp://127.0.0.1:{port}")
    start = perf_counter()
    sent = 0
    while sent < min(in_flight, calls):
        socket.send_multipart([msgpack.packb([sent, "add", [sent, 1]])])
        sent += 1
    for _ in range(calls):
        (body,) = socket.recv_multipart()
        number, value = msgpack.unpackb(body)
        if value != number + 1:
            raise AssertionError(f"add({number}, 1) answered {value}")
        if sent < calls:
            socket.send_multipart([msgpack.packb([sent, "add", [sent, 1]])])
            sent += 1
    taken = perf_counter() - start
    socket.close()
    return taken


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
