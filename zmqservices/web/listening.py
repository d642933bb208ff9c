"""The listening socket: a pywsgi server that has a list of its connections, and survives a lack of descriptors.

Internal. Services use `zmqservices.web.handlers`.
"""

from __future__ import annotations

import errno
import logging
from time import monotonic
from typing import Protocol
from wsgiref.types import WSGIApplication

from gevent import Greenlet
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer
from gevent.socket import socket as Socket

from zmqservices.constants import (
    DEFAULT_WEB_SERVER_HEADER_TIMEOUT,
    DEFAULT_WEB_SERVER_MAX_CONNECTIONS,
    DEFAULT_WEB_SERVER_MAX_HEADERS,
    DEFAULT_WEB_SERVER_MAX_HEADERS_SIZE,
    DEFAULT_WEB_SERVER_MIN_BODY_RATE,
)
from zmqservices.web.guard import Guard

_log = logging.getLogger(__name__)

#: The most connections that are accepted in one turn of the event loop while open connections are used again, and otherwise.
#: With gevent's default of 100, a client that connects without a pause kept others waiting for seconds, and the process's memory
#: grew. With 4, others waited for three times as much work as with 1. If all requests come on new connections, 1 has no use, and
#: costs a fifth more processor time.
ACCEPTED_BESIDE_OTHERS, ACCEPTED_AT_ONCE = 1, 4
#: Seconds for which new connections are accepted slowly after an open one was used again.
IN_USE = 1.0
#: Seconds of the pause in accepting when no descriptor is left for a connection: the first pause, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0

_short = Guard(_log, "connections wait for descriptors; raise `ulimit -n`, or LimitNOFILE= of a systemd unit", logging.WARNING)


class ServedConnection(Protocol):
    """The interface of a connection for the server that closes it."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""


class Server(WSGIServer):
    """A pywsgi server with a list of its connections, so that it can close idle ones."""

    def __init__(
        self,
        listener: Socket,
        application: WSGIApplication,
        handler_class: type[WSGIHandler],
        idle_timeout: float,
        environ: dict[str, str],
        header_timeout: float = DEFAULT_WEB_SERVER_HEADER_TIMEOUT,
        min_body_rate: float = DEFAULT_WEB_SERVER_MIN_BODY_RATE,
        max_headers: int = DEFAULT_WEB_SERVER_MAX_HEADERS,
        max_headers_size: int = DEFAULT_WEB_SERVER_MAX_HEADERS_SIZE,
        max_connections: int = DEFAULT_WEB_SERVER_MAX_CONNECTIONS,
    ) -> None:
        # Set first, because `close` reads it even if the rest of this method fails.
        self.connections: dict[ServedConnection, Greenlet] = {}
        self.idle_timeout = idle_timeout
        self.header_timeout = header_timeout
        self.min_body_rate = min_body_rate
        self.max_headers, self.max_headers_size, self.max_connections = max_headers, max_headers_size, max_connections
        self.is_closing = False
        #: The time at which an open connection was last used again: for a second request, or a message of a WebSocket.
        self.used_at = float("-inf")
        #: The seconds of the next pause.
        self._pause = FIRST_PAUSE
        super().__init__(
            listener, application, spawn=Pool(), log=None, error_log=None, handler_class=handler_class, environ=environ
        )

    @property
    def max_accept(self) -> int:
        """The most connections that are accepted in this turn. Read by gevent."""
        return ACCEPTED_BESIDE_OTHERS if monotonic() - self.used_at < IN_USE else ACCEPTED_AT_ONCE

    def do_read(self) -> tuple[Socket, object] | None:
        """Accept a connection. Called by gevent while connections wait; None if there is none to accept."""
        try:
            connection: tuple[Socket, object] | None = super().do_read()
        except OSError as exc:
            if exc.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            _short.caught(f"{self.address}", exc, monotonic())
            self._wait_for_descriptors()
            return None
        self._pause = FIRST_PAUSE
        return connection

    def _wait_for_descriptors(self) -> None:
        # gevent does the same after other errors, but prints each of them with a traceback.
        self.stop_accepting()
        self._timer = self.loop.timer(self._pause)
        self._timer.start(self._start_accepting_if_started)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def close(self) -> None:
        """Accept no more connections, and close idle ones. The others end after their present response."""
        self.is_closing = True
        super().close()
        for handler, greenlet in list(self.connections.items()):
            if handler.is_idle:
                greenlet.kill(block=False)
