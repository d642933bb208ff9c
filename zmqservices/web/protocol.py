"""HTTP/1.1 on a gevent socket: pywsgi's own, with time limits, a bounded goodbye to bodies nobody reads, and lines in the log.

Everything that leans on pywsgi's insides stands in this file.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

from gevent import GreenletExit, Timeout, getcurrent
from gevent.pool import Pool
from gevent.pywsgi import Input, WSGIHandler, WSGIServer

from zmqservices.constants import DEFAULT_WEB_SERVER_IDLE_TIMEOUT

_log = logging.getLogger(__name__)
#: One line for each request.
_access = logging.getLogger("zmqservices.web.access")

#: Bytes that are sent in one go; each such piece has the idle timeout to itself, so that slow readers may be slow.
PIECE = 64 * 1024
#: Seconds in which a client gets rid of a body that nobody read, so that it comes to reading the answer (RFC 9112, 9.6).
LINGER = 5.0
#: Where an application finds the handler of its connection: the socket, and what was read of it already.
HANDLER = "zmqservices.web.handler"


class BodyBroken(Exception):
    """The body of an answer ended in an error. Told to the client by a connection that ends in the middle of it."""


class _RequestBody(Input):
    """A request's body. What the application left of it is read to its end for a while; then the connection is closed."""

    __slots__ = ("_handler",)

    def __init__(self, handler: HttpOnlyProtocol, body: Input) -> None:
        super().__init__(body.rfile, body.content_length, body.socket, body.chunked_input)
        self._handler = handler

    def _discard(self) -> None:
        if not self.chunked_input and self.position >= (self.content_length or 0):
            return
        if self.socket is not None and not self.position:
            # It asked whether it should send its body, and was never told to.
            self._handler.close_connection = True
            return
        try:
            with Timeout(LINGER):
                super()._discard()
        except (Timeout, OSError, ValueError):
            # What is left of the body would be taken for the next request.
            self._handler.close_connection = True


class HttpOnlyProtocol(WSGIHandler):
    """One connection: request after request, until it is closed or idle for too long."""

    #: No request is being answered; such a connection may be closed without loss.
    is_idle = True
    #: The status and the headers of an answer, while they wait for the first of its body.
    _head: bytearray | None = None
    # pywsgi's own, which it does not annotate.
    wsgi_input: Any
    response_headers: Any

    def handle(self) -> None:
        connections = getattr(self.server, "connections", None)
        self.socket.settimeout(getattr(self.server, "idle_timeout", DEFAULT_WEB_SERVER_IDLE_TIMEOUT) or None)
        if connections is not None:
            connections[self] = getcurrent()
        try:
            if self.socket.family != socket.AF_UNIX:
                # Answers and messages are written whole; waiting for more to come only costs time.
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super().handle()
        except OSError:
            # The client went, perhaps while it was told what is wrong with its request.
            pass
        finally:
            if connections is not None:
                del connections[self]

    def read_request(self, raw_requestline: str) -> Any:
        self.is_idle = False
        is_read = super().read_request(raw_requestline)
        self._check_framing()
        return is_read

    def _check_framing(self) -> None:
        """Raise ValueError where it is in doubt where the body ends: a proxy before us might see another request in it."""
        encodings = self.headers.get_all("transfer-encoding", [])
        lengths = set(self.headers.get_all("content-length", []))
        if encodings and [one.strip().lower() for one in encodings] != ["chunked"]:
            raise ValueError(f"Transfer-Encoding {encodings} is not understood")
        if len(lengths) > 1 or not all(one.isascii() and one.isdigit() for one in lengths):
            raise ValueError(f"Content-Length {sorted(lengths)} is not a number")

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        body = _RequestBody(self, self.wsgi_input)
        if environ["wsgi.input"] is self.wsgi_input:
            environ["wsgi.input"] = body
        self.wsgi_input = body
        environ[HANDLER] = self
        return environ

    def handle_one_response(self) -> None:
        try:
            super().handle_one_response()
        finally:
            self.is_idle = True
            if getattr(self.server, "is_closing", False):
                self.close_connection = True

    def finalize_headers(self) -> None:
        if getattr(self.server, "is_closing", False) and self.code != 101:
            # Said in time, so that the client sends its next request elsewhere.
            self.close_connection = True
            self.response_headers = [(name, value) for name, value in self.response_headers if name.lower() != b"connection"]
            self.response_headers.append((b"Connection", b"close"))
        super().finalize_headers()
        if self.command == "HEAD":
            # Nothing follows, not even the end of a body in chunks.
            self.response_use_chunked = False
        elif not self.response_use_chunked and self.provided_content_length is None and self.code not in (101, 204, 304):
            # To an old client, which knows no chunks, the end of the body is the end of the connection.
            self.close_connection = True

    def upgrade(self, response: bytes) -> None:
        """The connection speaks another protocol from here on; `response` says so. There is no request after this one."""
        self.close_connection = self.headers_sent = True
        self.code, self._orig_status = 101, "101 Switching Protocols"
        self.socket.settimeout(None)
        self.socket.sendall(response)

    def _write_with_headers(self, data: bytes) -> None:
        # One packet for a small answer instead of two.
        self._head = bytearray()
        try:
            super()._write_with_headers(data)
        finally:
            head, self._head = self._head, None
        if head:
            self._sendall(head)

    def _sendall(self, data: Any) -> None:
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

    # --- what goes wrong, and what is told of it ---------------------------------------------------------------------

    def handle_error(self, t: Any, v: Any, tb: Any) -> None:
        self.close_connection = True
        if issubclass(t, (GreenletExit, OSError, BodyBroken)):
            return
        _log.error("an answer to %s could not be given", self._asked(), exc_info=(t, v, tb))
        self._send_error_response_if_possible(500)

    def _handle_client_error(self, ex: Exception) -> Any:
        if isinstance(ex, OSError):
            # It went, or fell silent, in the middle of its request.
            return None
        _log.info("refused a request of %s that is none: %s", self._client(), ex)
        return ("400", BAD_REQUEST)

    def log_request(self) -> None:
        if _access.isEnabledFor(logging.INFO):
            # A text where the connection or the request was at fault, bytes where the application answered.
            status = self.status if isinstance(self.status, str) else (self._orig_status or "000").split(" ", 1)[0]
            took = (self.time_finish or time.time()) - self.time_start
            _access.info("%s %s %s %d %.3fs", self._client(), self._asked(), status, self.response_length, took)

    def _client(self) -> str:
        address = self.client_address
        return str(address[0]) if isinstance(address, tuple) and address else "-"

    def _asked(self) -> str:
        # As Python writes it, since a client may send what moves a terminal's cursor.
        return repr((self.requestline or "").rstrip())


BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 12\r\n\r\nBad Request\n"


class Server(WSGIServer):
    """A pywsgi server that knows its connections: those that are idle can be closed, and all of them at the end."""

    def __init__(self, listener: Any, application: Any, handler_class: Any, idle_timeout: float, environ: dict[str, str]) -> None:
        # Known before anything can go wrong: it would be closed then.
        self.connections: dict[Any, Any] = {}
        self.idle_timeout = idle_timeout
        self.is_closing = False
        super().__init__(
            listener, application, spawn=Pool(), log=None, error_log=None, handler_class=handler_class, environ=environ
        )

    def close(self) -> None:
        """Take no more connections, and close those that are idle; the others end with the answer that is under way."""
        self.is_closing = True
        super().close()
        for handler, greenlet in list(self.connections.items()):
            if handler.is_idle:
                greenlet.kill(block=False)
