"""The sockets for broadcasts of one publisher, and the number of listeners of each topic.

The first socket is bound when it is first needed, and one more for each new address of the host. Sockets at former addresses may
still have listeners. Everything here runs inside the reactor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from zmqservices.transport import BroadcastPublisher, addresses
from zmqservices.transport.broadcast import BroadcastPublisherListener

#: Binds a socket that reports to the listener. Returns it, and the address at which others reach it.
OpenBroadcast: TypeAlias = Callable[[BroadcastPublisherListener], tuple[BroadcastPublisher, str]]


class PublisherBroadcasts:
    """The broadcasts of one publisher.

    `on_open()` is called after the first socket was bound, and `on_subscription(topic)` after each change of a topic's listeners.
    """

    def __init__(
        self, open_broadcast: OpenBroadcast, on_open: Callable[[], None], on_subscription: Callable[[bytes], None]
    ) -> None:
        self._open = open_broadcast
        self._on_open = on_open
        self._on_subscription = on_subscription
        self._socket: BroadcastPublisher | BroadcastPublishers | None = None
        #: The address at which others listen; "" before the first socket is bound.
        self.announced = ""
        self._listeners: dict[bytes, int] = {}

    def socket(self) -> BroadcastPublisher | BroadcastPublishers:
        """The socket for broadcasts. It is bound when it is first needed."""
        if self._socket is None:
            self._socket, self.announced = self._open(self)
            self._on_open()
        return self._socket

    def endpoint(self) -> str:
        """The address at which others listen to broadcasts."""
        self.socket()
        return self.announced

    def listen_at(self, host: str) -> bool:
        """Also listen at another address of the host. Returns whether there is another endpoint to announce."""
        if self._socket is None or addresses.parse(self._socket.endpoint)[0] in (host, *addresses.ANY_HOST):
            return False
        opened, self.announced = self._open(self)
        self._socket = BroadcastPublishers(opened, self._socket)
        return True

    def move(self, former: str, host: str) -> None:
        """From now on announce `host` to listeners, if `former` was announced."""
        self.announced = addresses.moved(self.announced, former, host)

    def listeners(self, topic: bytes) -> int:
        """The number of listeners of `topic`."""
        return self._listeners.get(topic, 0)

    def on_subscription(self, topic: bytes, is_on: bool) -> None:
        """See `BroadcastPublisherListener`."""
        count = self._listeners.get(topic, 0) + (1 if is_on else -1)
        if count > 0:
            self._listeners[topic] = count
        else:
            self._listeners.pop(topic, None)
        self._on_subscription(topic)

    def close(self) -> None:
        """Close all sockets."""
        if self._socket is not None:
            self._socket.close()


class BroadcastPublishers:
    """The sockets for broadcasts at the present address and at former ones, which may still have listeners."""

    def __init__(self, newest: BroadcastPublisher, former: BroadcastPublisher | BroadcastPublishers) -> None:
        self.endpoint = newest.endpoint
        self._newest = newest
        self._former = former

    def send(self, topic: bytes, frames: bytes | tuple[bytes, bytes]) -> bool:
        """Send to the listeners of all sockets."""
        is_sent = self._former.send(topic, frames)
        return self._newest.send(topic, frames) and is_sent

    def close(self) -> None:
        """Close all sockets."""
        self._former.close()
        self._newest.close()
