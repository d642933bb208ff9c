"""A TCP connection to one server of an engine, with TLS if the URL asks for it, for native threads.

Internal.

Rule 1: one thread reads. Another one may send, one at a time; the caller sees to that.
Rule 2: any thread may `cut` the connection. Whatever waits for it then ends, and the reader closes it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

from discovery.backends.tls import MEND, TlsBuffers, why_tls_failed
from discovery.backends.urls import unreachable
from discovery.exceptions import EngineError
from discovery.native import getaddrinfo, native_lock, original

#: The socket before gevent patched it: threads without a hub use it.
_socket: type[socket.socket] = original("socket", "socket")
#: Bytes that are read at once.
CHUNK = 65536


def keepalive_options() -> list[tuple[int, int, int]]:
    """Socket options with which a connection over a broken path ends within ten seconds."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    if hasattr(socket, "TCP_KEEPIDLE"):
        options += [
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 4),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        ]
    return options


def name_of(server: tuple[str, int]) -> str:
    """Such as 10.0.0.5:2379 or [fd00::5]:2379."""
    return f"[{server[0]}]:{server[1]}" if ":" in server[0] else f"{server[0]}:{server[1]}"


class EngineStream:
    """An open connection. `seconds`: the time for each address of the host, and for the TLS handshake.

    `opened` is called with this object before it connects, so that another thread can cut it. EngineError if it cannot connect.
    """

    def __init__(
        self,
        server: tuple[str, int],
        context: ssl.SSLContext | None,
        seconds: float,
        opened: Callable[[EngineStream], object] = lambda _: None,
    ) -> None:
        self.name = name_of(server)
        self._guard = native_lock()
        self._is_cut = False
        self._socket: Any = None
        self._buffers = None if context is None else TlsBuffers(context, server[0])
        #: Held while bytes are encrypted or decrypted and sent, so that they are sent in their order.
        self._order = native_lock()
        opened(self)
        try:
            self._connect(server, seconds)
            if self._buffers is not None:
                self._shake_hands(self._buffers, seconds)
        except BaseException:
            self.close()
            raise

    def _connect(self, server: tuple[str, int], seconds: float) -> None:
        try:
            found = getaddrinfo(*server, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            raise EngineError(f"{self.name} {unreachable(exc)}") from exc
        reason = "it has no address"
        for family, kind, protocol, _, address in found:
            try:
                self._connect_to(_socket(family, kind, protocol), address, seconds)
                return
            except TimeoutError:
                reason = f"nothing came within {seconds:g} s"
            except OSError as exc:
                reason = exc.strerror or str(exc)
        raise EngineError(f"{self.name} {unreachable(reason)}")

    def _connect_to(self, connection: socket.socket, address: tuple[object, ...], seconds: float) -> None:
        with self._guard:
            self._socket, former = connection, self._socket
            if former is not None:
                former.close()
            if self._is_cut:
                raise ConnectionAbortedError("it is closed")
        for option in keepalive_options():
            connection.setsockopt(*option)
        connection.settimeout(seconds)
        connection.connect(address)

    def _shake_hands(self, buffers: TlsBuffers, seconds: float) -> None:
        try:
            is_done = buffers.shake_hands()
            while True:
                self._send(buffers.to_send())
                if is_done:
                    return
                is_done = buffers.shaken(self._recv(seconds))
        except TimeoutError as exc:
            raise EngineError(f"{self.name} agreed on no TLS: nothing came within {seconds:g} s; {MEND}") from exc
        except ssl.SSLError as exc:
            raise EngineError(f"{self.name} agreed on no TLS: {why_tls_failed(exc)}; {MEND}") from exc

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        descriptor: int = self._socket.fileno()
        return descriptor

    def recv(self, seconds: float | None) -> bytes:
        """The bytes that have come, none at the end. TimeoutError after `seconds` without any; None waits for ever."""
        if self._buffers is None:
            return self._recv(seconds)
        while not self._buffers.is_over:
            raw = self._recv(seconds)
            with self._order:
                try:
                    plain = self._buffers.received(raw)
                except ssl.SSLError as exc:
                    raise EngineError(f"{self.name} ended TLS: {why_tls_failed(exc)}; {MEND}") from exc
                # TLS may have to answer the server, for instance when a key changes.
                self._send(self._buffers.to_send())
            if plain:
                return plain
        return b""

    def send(self, data: bytes) -> None:
        """Sends all bytes. EngineError when the connection is over."""
        if self._buffers is None:
            self._send(data)
            return
        with self._order:
            self._buffers.write(data)
            self._send(self._buffers.to_send())

    def _recv(self, seconds: float | None) -> bytes:
        try:
            self._socket.settimeout(seconds)
            received: bytes = self._socket.recv(CHUNK)
            return received
        except TimeoutError:
            raise
        except OSError:
            return b""  # The connection was cut, here or by the server: that counts as its end.

    def _send(self, data: bytes) -> None:
        connection = self._socket
        try:
            if data and connection is not None:
                connection.sendall(data)
        except OSError as exc:
            raise EngineError(f"{self.name} closed the connection") from exc

    def cut(self) -> None:
        """Ends the connection, whichever thread waits for it."""
        with self._guard:
            self._is_cut = True
            if self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # It has ended already, or is not connected yet.

    def close(self) -> None:
        """Closes the connection. Called by the thread that reads."""
        with self._guard:
            self._is_cut = True
            if self._socket is not None:
                self._socket.close()
            self._socket = None
