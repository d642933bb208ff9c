"""The socket of a connection to ZooKeeper, plain or encrypted, as kazoo uses it."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from typing import Any

from discovery.backends.tls import TlsBuffers
from discovery.native import original

_socket: Any = original("socket", "socket")


class ZooKeeperSocket(_socket):
    """A connected socket that remembers the session's timeout, which the server grants and kazoo keeps to itself.

    The server's first answer is a ConnectResponse: its length, the protocol's version, and the timeout in milliseconds, each in
    four bytes.
    """

    def __init__(self, family: int) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        #: The first twelve bytes of the server.
        self.head = b""

    def granted(self) -> float:
        """Seconds without a sign of life after which the server ends the session; 0 before the server has answered."""
        return int.from_bytes(self.head[8:12], "big") / 1000.0 if len(self.head) >= 12 else 0.0

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Like `recv` of a socket."""
        return self._seen(super().recv(size, flags))

    def pending(self) -> int:
        """The number of bytes that can be read although the socket is not ready."""
        return 0

    def _seen(self, received: bytes) -> bytes:
        if len(self.head) < 12:
            self.head += received[:12]
        return received


class ZooKeeperTlsSocket(ZooKeeperSocket):
    """The same with TLS. `wait` blocks until the socket is ready for an event of `select.poll`; False if that takes too long."""

    def __init__(self, family: int, buffers: TlsBuffers, wait: Callable[[Any, int], bool]) -> None:
        super().__init__(family)
        self._buffers = buffers
        self._wait_for = wait
        self._plain = b""

    def shake_hands(self) -> None:
        """The TLS handshake, once the socket is connected. ssl.SSLError if it fails, TimeoutError without an answer."""
        is_done = self._buffers.shake_hands()
        while True:
            self._flush()
            if is_done:
                return
            if not self._wait_for(self, select.POLLIN):
                raise TimeoutError
            is_done = self._buffers.shaken(_socket.recv(self, 65536))

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Like `recv` of an SSL socket that does not block."""
        if not self._plain and not self._buffers.is_over:
            try:
                self._plain = self._buffers.received(_socket.recv(self, 65536))
            except BlockingIOError:
                pass
            self._flush()
            if not self._plain and not self._buffers.is_over:
                raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "only a part of a record has come")
        received, self._plain = self._plain[:size], self._plain[size:]
        return self._seen(received)

    def pending(self) -> int:
        """The number of bytes that are decrypted already."""
        return len(self._plain)

    def send(self, data: Any, flags: int = 0) -> int:
        """Sends all of it."""
        self._buffers.write(bytes(data))
        self._flush()
        return len(data)

    def _flush(self) -> None:
        rest = memoryview(self._buffers.to_send())
        while rest:
            try:
                rest = rest[_socket.send(self, rest) :]
            except BlockingIOError:
                if not self._wait_for(self, select.POLLOUT):
                    raise TimeoutError from None
