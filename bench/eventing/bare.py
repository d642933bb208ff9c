"""Bare PUB and SUB, one frame per event."""

from __future__ import annotations

import time
from typing import Any

from bench.eventing import BURST, PATIENCE, QUIET, TYPE, Count, tell, wait_for_go

TOPIC = TYPE.encode() + b"\0"


def publish(job: dict[str, Any]) -> None:
    import msgpack
    import zmq

    socket = zmq.Context().socket(zmq.PUB)
    socket.set(zmq.SNDHWM, 10_000)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    tell(f"tcp://127.0.0.1:{port}")
    wait_for_go()
    for number in range(job["events"]):
        socket.send(TOPIC + msgpack.packb({"number": number}))
        if number % BURST == 0:
            time.sleep(0)
    tell("done")
    time.sleep(PATIENCE)


def subscribe(job: dict[str, Any]) -> None:
    import msgpack
    import zmq
    from zmq.utils.monitor import recv_monitor_message

    socket = zmq.Context().socket(zmq.SUB)
    socket.set(zmq.RCVHWM, 10_000)
    socket.subscribe(TOPIC)
    monitor = socket.get_monitor_socket()
    socket.connect(job["address"])
    while recv_monitor_message(monitor)["event"] != zmq.EVENT_HANDSHAKE_SUCCEEDED:
        pass
    time.sleep(QUIET)  # PUB does not tell whom it has heard of; that is the point of ours.
    tell("here")
    count = Count()
    while count.arrived < job["events"] and (not count.arrived or socket.poll(QUIET * 1000)):
        msgpack.unpackb(socket.recv().partition(b"\0")[2])
        count.one()
    count.tell()
    time.sleep(PATIENCE)
