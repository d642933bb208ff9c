"""Reads a client's bytes with time limits: a deadline for the head of a request, and a least rate for its body.

Internal. Services use `zmqservices.web.handlers`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from gevent import Timeout
from gevent.socket import socket as Socket
from werkzeug.exceptions import ClientDisconnected, RequestTimeout

from zmqservices.constants import DEFAULT_WEB_SERVER_MAX_HEADERS, DEFAULT_WEB_SERVER_MAX_HEADERS_SIZE
from zmqservices.utils.turns import Turn
from zmqservices.web.framing import (
    MAX_CHUNK_LINE,
    MAX_EXTENSIONS,
    BadFraming,
    RequestHead,
    chunk_size,
    read_fields,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Seconds for which a body may be slower than its least rate, because a network may lose packets.
GRACE = 20.0
#: Seconds for which an unread body is discarded, so that the client comes to reading the response (RFC 9112, 9.6).
LINGER = 5.0
#: If more bytes than this of an unread body would have to be discarded, the connection is closed.
READ_IN_VAIN = 1024 * 1024

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class SocketReader(io.RawIOBase):
    """A socket for a BufferedReader. Raises TimeoutError if the client is too slow.

    Only time spent waiting for the client counts, and the clock is read only when there is something to wait for.
    """

    def __init__(
        self, sock: Socket, idle_timeout: float | None, head_timeout: float | None, rate: float, turn: Turn | None = None
    ) -> None:
        super().__init__()
        self._socket = sock
        self._idle_timeout = idle_timeout
        self._head_timeout = head_timeout
        self._rate = rate
        #: Seconds that are left for the client; None if only the idle timeout applies.
        self._left: float | None = None
        self._gain = 0.0
        self._is_idle = True
        self._turn = turn or Turn()

    @property
    def is_idle(self) -> bool:
        """Whether nothing was received since the last request."""
        return self._is_idle

    def begin_request(self) -> None:
        """The next byte begins a request. From then on its head has a deadline."""
        # That byte may have been read together with the last request.
        self._turn.give_way()
        self._is_idle, self._left, self._gain = True, None, 0.0

    def begin_body(self) -> None:
        """From here on each byte gives the client another `1 / rate` seconds."""
        self._is_idle = False
        self._left, self._gain = (GRACE, 1.0 / self._rate) if self._rate else (None, 0.0)

    def be_patient(self) -> None:
        """From here on the connection uses another protocol, which has its own limits."""
        self._is_idle, self._left, self._idle_timeout = False, None, None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._turn.give_way()
        if self._left is not None:
            return self._read_in_time(buffer, self._left)
        received: int = self._socket.recv_into(buffer)
        if self._is_idle and received:
            self._is_idle, self._left = False, self._head_timeout
        return received

    def _read_in_time(self, buffer: WriteableBuffer, left: float) -> int:
        began = monotonic()
        idle = self._idle_timeout
        self._socket.settimeout(max(left if idle is None else min(left, idle), 0.001))
        try:
            received: int = self._socket.recv_into(buffer)
        finally:
            self._socket.settimeout(idle)
        left -= monotonic() - began
        if left <= 0.0:
            raise TimeoutError("it took too long")
        self._left = min(left + received * self._gain, GRACE) if self._gain else left
        return received


def header_lines(
    rfile: io.BufferedReader, most: int = DEFAULT_WEB_SERVER_MAX_HEADERS, most_bytes: int = DEFAULT_WEB_SERVER_MAX_HEADERS_SIZE
) -> Iterator[bytes]:
    """The lines of a header or trailer section, without the empty line at its end. Raises BadFraming and ConnectionError."""
    size = 0
    for count in range(most + 1):
        line: bytes = rfile.readline(most_bytes - size + 1)
        if line == b"\r\n":
            return
        size += len(line)
        if size > most_bytes or count == most:
            raise BadFraming(f"there are more than {most_bytes} bytes or {most} lines of headers", 431)
        if line[-1:] != b"\n":
            raise ConnectionError("it went in the middle of a request")
        yield line


class RequestBody(io.RawIOBase):
    """A request's body as it arrives, for a BufferedReader. Raises the HTTPException for a faulty body."""

    def __init__(self, head: RequestHead, rfile: io.BufferedReader, invite: Callable[[], Any]) -> None:
        super().__init__()
        self._rfile = rfile
        self._invite: Callable[[], Any] | None = invite if head.asks_to_continue else None
        self._is_chunked = head.is_chunked
        #: The bytes that are left of the body, or of the present chunk.
        self._left = head.length or 0
        self._is_over = not self._is_chunked and not self._left
        self._extensions = 0
        #: The error that ended the body early. Then nothing after it can be read.
        self.failure: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._is_over or not len(buffer):
            return 0
        if self.failure is not None:
            raise self.failure
        try:
            self._begin()
            if self._is_chunked and not self._left and not self._next_chunk():
                return 0
            return self._read(buffer)
        except TimeoutError as exc:
            self.failure = RequestTimeout("The body came too slowly.")
            raise self.failure from exc
        except BadFraming as exc:
            self.failure = ClientDisconnected(f"The body is malformed: {exc}.")
            raise self.failure from exc
        except OSError as exc:
            self.failure = ClientDisconnected("The body broke off.")
            raise self.failure from exc

    def _begin(self) -> None:
        invite, self._invite = self._invite, None
        if invite is not None:
            invite()

    def _read(self, buffer: WriteableBuffer) -> int:
        received: int = self._rfile.readinto1(memoryview(buffer)[: self._left])
        if not received:
            raise ConnectionError("it went in the middle of a body")
        self._left -= received
        if not self._left:
            if not self._is_chunked:
                self._is_over = True
            elif self._line(2) != b"\r\n":
                raise BadFraming("a chunk is longer than it said")
        return received

    def _next_chunk(self) -> bool:
        self._left, extensions = chunk_size(self._line(MAX_CHUNK_LINE))
        self._extensions += extensions
        if self._extensions > MAX_EXTENSIONS:
            raise BadFraming("its chunks have more extensions than are read")
        if not self._left:
            # Trailers are not used, but they must be valid fields.
            read_fields(header_lines(self._rfile))
            self._is_over = True
        return not self._is_over

    def _line(self, longest: int) -> bytes:
        line: bytes = self._rfile.readline(longest)
        if not line:
            raise ConnectionError("it went in the middle of a body")
        return line

    @property
    def is_lost(self) -> bool:
        """Whether no other request can follow: the end of the body cannot be found, or is too far away to discard the rest."""
        return self._has_no_end or self._left > READ_IN_VAIN

    @property
    def _has_no_end(self) -> bool:
        # The body is faulty, or the client still waits for `100 Continue`.
        return self.failure is not None or self._invite is not None

    def discard(self) -> bool:
        """Discard the rest of the body, within limits. Returns whether the next request can be read afterwards."""
        if self._is_over:
            return True
        if self._has_no_end:
            return False
        waste = bytearray(64 * 1024)
        try:
            with Timeout(LINGER):
                while self.readinto(waste):
                    pass
        except (Timeout, ClientDisconnected, RequestTimeout):
            return False
        return True
