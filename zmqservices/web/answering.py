"""Sends the responses of one connection: WSGI's `start_response` and `write` (PEP 3333), with framing by RFC 9112.

Internal. Services use `zmqservices.web.handlers`.

The headers that say where a response ends are checked or added here. pywsgi would send responses that a proxy may read
differently.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol
from wsgiref.types import InputStream

from gevent.pywsgi import WSGIHandler, format_date_time

from zmqservices.web.framing import BadAnswer, check_answer
from zmqservices.worker_context import ExcInfo

#: Bytes that are sent at a time. The idle timeout begins again with each piece, so that a client may read slowly.
PIECE = 64 * 1024
#: Statuses whose responses have no body, even if the application gives one (RFC 9112, 6.3).
BODYLESS = (101, 204, 304)


class RequestInput(InputStream, Protocol):
    """The body of a request, as an application reads it."""

    @property
    def is_lost(self) -> bool:
        """Whether the end of the body cannot be found, so that no other request can follow."""


class AnswerHandler(WSGIHandler):
    """Sends the answer to the current request of a connection. The subclass reads requests."""

    #: The status line and the headers of an answer, until the first piece of its body comes.
    _head: bytearray | None = None
    #: Bytes of the body that the application must still give; None if it gave no length.
    _owed: int | None = None
    # pywsgi's own attributes, which it does not annotate.
    close_connection: bool
    code: int
    status: bytes | str | None
    wsgi_input: RequestInput
    response_headers: list[tuple[bytes, bytes]]
    response_use_chunked: bool
    provided_date: str | None

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """Called by the application (PEP 3333). Raises BadAnswer if the answer cannot be sent like this."""
        if exc_info:
            try:
                if self.headers_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        self._owed = check_answer(status, headers)
        self._orig_status, self.status, self.code = status, status.encode("latin-1"), int(status[:3])
        self.response_headers = []
        self.provided_date = None
        for name, value in headers:
            lowered = name.lower()
            if lowered == "connection":
                # The server decides whether the connection stays open. Other options are the application's.
                options = [one for one in value.split(",") if one.strip().lower() not in ("close", "keep-alive", "")]
                self.close_connection = self.close_connection or "close" in value.lower()
                value = ",".join(options).strip()
                if not value:
                    continue
            elif lowered == "date":
                self.provided_date = value
            elif lowered == "content-length":
                if self.code in BODYLESS:
                    continue
            self.response_headers.append((name.encode("latin-1"), value.encode("latin-1")))
        if self.code in BODYLESS:
            self._owed = None
        return self.write

    @property
    def _has_body(self) -> bool:
        return self.command != "HEAD" and self.code not in BODYLESS

    def finalize_headers(self) -> None:
        """Add the headers that only the server knows: how the body ends, and whether the connection ends with it."""
        headers = self.response_headers
        if self.provided_date is None:
            headers.append((b"Date", format_date_time(time.time())))
        self.response_use_chunked = False
        if self._owed is None and self.code not in BODYLESS:
            if self.request_version != "HTTP/1.0":
                headers.append((b"Transfer-Encoding", b"chunked"))
                self.response_use_chunked = self.command != "HEAD"
            elif self.command != "HEAD":
                # HTTP/1.0 has no chunks, so the end of the connection ends the body.
                self.close_connection = True
        if getattr(self.server, "is_closing", False) or self.wsgi_input.is_lost:
            # Sent now, so that the client makes its next request on another connection.
            self.close_connection = True
        if self.close_connection:
            headers.append((b"Connection", b"close"))
        elif self.request_version == "HTTP/1.0":
            headers.append((b"Connection", b"keep-alive"))

    def write(self, data: bytes) -> None:
        """Send one piece of the body. Raises BadAnswer if the body is longer than the application said."""
        if not self.status:
            raise BadAnswer("the application did not call start_response()")
        if not self._has_body:
            data = b""
        elif self._owed is not None:
            if len(data) > self._owed:
                raise BadAnswer("the body of an answer is longer than its Content-Length says")
            self._owed -= len(data)
        if self.headers_sent:
            self._write(data)
        else:
            self._write_with_headers(data)

    def process_result(self) -> None:
        if self._owed is None and isinstance(self.result, (list, tuple)) and self.status and not self.headers_sent:
            # The length is known, so that the connection of an HTTP/1.0 client can stay open.
            self._owed = sum(map(len, self.result))
            if self.code not in BODYLESS and self.command != "HEAD":
                self.response_headers.append((b"Content-Length", b"%d" % self._owed))
        super().process_result()
        if self._owed and self._has_body:
            raise BadAnswer("the body of an answer is shorter than its Content-Length says")

    def _write_with_headers(self, data: bytes) -> None:
        # Sent together, so that a small response is one packet instead of two.
        self._head = bytearray()
        try:
            super()._write_with_headers(data)
        finally:
            head, self._head = self._head, None
        if head:
            self._sendall(head)

    def _sendall(self, data: bytes | bytearray) -> None:
        head = self._head
        if head is not None and not head:
            head += data
            return
        if head is not None:
            self._head = None
            if len(data) <= PIECE:
                data = head + data
            else:
                super()._sendall(head)
        view = data if len(data) <= PIECE else memoryview(data)
        for start in range(0, len(data), PIECE):
            super()._sendall(view[start : start + PIECE])
