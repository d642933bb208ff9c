"""Bare pyzmq on a gevent hub, both sides: a watcher on the socket's file descriptor and reused worker greenlets.

What a framework on gevent could reach if it did nothing. The descriptor is edge-triggered, so the last thing done to a
socket before its owner sleeps is a receive that met EAGAIN, or a look at EVENTS without POLLIN.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from bench.subject import Subject, answer

#: The most messages of one turn of the loop, so that timers and other sockets have their turn.
QUOTA = 256


class Hub(Subject):
    """A ROUTER on the hub: first collect what has arrived, then enter workers."""

    name = "pyzmq-hub"
    about = "bare pyzmq on a gevent hub, reused greenlets"
    style = "greenlets"
    modules = ("zmq", "msgpack", "gevent")

    def serve(self, address: str) -> None:
        import gevent

        server = Server(address)
        server.look()
        gevent.get_hub().join()

    def connect(self, address: str) -> HubConnection:
        return HubConnection(address)


class OnHub:
    """A socket and its watcher. After every send outside a drain, it checks the socket for messages."""

    def __init__(self, kind: str) -> None:
        import gevent
        import zmq
        from greenlet import getcurrent, greenlet
        from msgpack import Packer, unpackb
        from zmq.backend import Socket

        self.hub = gevent.get_hub()
        self.getcurrent, self.greenlet = getcurrent, greenlet
        self.pack, self.unpack = Packer().pack, unpackb
        self.recv, self.send = Socket.recv, Socket.send
        self.noblock, self.sndmore, self.again = int(zmq.NOBLOCK), int(zmq.SNDMORE), zmq.Again
        self._events, self._pollin = zmq.EVENTS, int(zmq.POLLIN)
        self.socket: Any = zmq.Context.instance().socket(getattr(zmq, kind))
        self.socket.set_hwm(0)
        self.is_draining = False
        self._is_armed = False

    def watch(self) -> None:
        """From here on messages are taken."""
        import zmq

        self._io = self.hub.loop.io(self.socket.get(zmq.FD), 1)
        self._io.start(self.drain)

    def drain(self) -> None:
        raise NotImplementedError

    def arm(self) -> None:
        """Something was sent, which may have eaten the edge: look once before the loop sleeps."""
        if not self._is_armed and not self.is_draining:
            self._is_armed = True
            self.hub.loop.run_callback(self.look)

    def look(self) -> None:
        self._is_armed = False
        if self.socket.get(self._events) & self._pollin:
            self.drain()


class Server(OnHub):
    """Collect all messages, then run the workers; one check of the socket follows all their sends."""

    def __init__(self, address: str) -> None:
        super().__init__("ROUTER")
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._idle: list[Any] = []
        self.socket.bind(f"tcp://{address}")
        self.watch()

    def drain(self) -> None:
        recv, socket, noblock, waiting = self.recv, self.socket, self.noblock, self._waiting
        try:
            for _ in range(QUOTA):
                routing_id = recv(socket, noblock)
                waiting.append((routing_id, recv(socket, noblock)))
        except self.again:
            pass
        while waiting:
            worker = self._idle.pop() if self._idle else self.greenlet(self._work, self.hub)
            worker.switch()

    def _work(self) -> None:
        me = self.getcurrent()
        waiting, unpack, pack, send, socket = self._waiting, self.unpack, self.pack, self.send, self.socket
        first, last = self.noblock | self.sndmore, self.noblock
        while True:
            while waiting:
                routing_id, body = waiting.popleft()
                number, method, args = unpack(body)
                value = answer(method, args)
                send(socket, routing_id, first)
                send(socket, pack([number, value]), last)
                self.arm()
            self._idle.append(me)
            self.hub.switch()


class HubConnection(OnHub):
    """A DEALER on the hub; the drain switches to the greenlet that waits for an answer."""

    def __init__(self, address: str) -> None:
        super().__init__("DEALER")
        self._waiters: dict[int, Any] = {}
        self._number = 0
        self.socket.connect(f"tcp://{address}")
        self.watch()

    def add(self, a: int, b: int) -> Any:
        return self._call("add", (a, b))

    def echo(self, blob: bytes) -> Any:
        return self._call("echo", (blob,))

    def _call(self, method: str, args: Any) -> Any:
        self._number = number = self._number + 1
        self._waiters[number] = self.getcurrent()
        self.send(self.socket, self.pack([number, method, args]), self.noblock)
        self.arm()
        return self.hub.switch()

    def drain(self) -> None:
        recv, socket, noblock, waiters, unpack = self.recv, self.socket, self.noblock, self._waiters, self.unpack
        # Sends of the callers that are switched to come before the last receive: no look is needed for them.
        self.is_draining = True
        try:
            for _ in range(QUOTA):
                number, value = unpack(recv(socket, noblock))
                waiters.pop(number).switch(value)
        except self.again:
            self.is_draining = False
            return
        self.is_draining = False
        self.arm()
