"""The handler of kazoo: how kazoo makes its thread, its socket and its events here.

kazoo leaves threads, sockets and waits to a "handler", and comes with two. Neither fits:

* Its threading handler uses the standard library. In a process that gevent has patched, its threads are greenlets of the thread
  that asked. That thread waits natively for its next task, so the greenlets would never run.
* Its gevent handler needs a running hub in the thread of the session, even in unpatched processes, and none of its objects may be
  used from another thread. Two threads use a session.

So this handler uses native parts, as all of `discovery` does. It works alike in both kinds of process, and makes no hub.

Rule 1: one connection. It ends for good when it is lost, or at `cut`; the caller decides what to do next.
Rule 2: callbacks run on the connection's own thread, in the order in which the server sent their causes. They must not block.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any

from discovery.backends.tls import MEND, TlsBuffers, why_tls_failed
from discovery.backends.urls import unreachable
from discovery.backends.zookeeper.results import HandlerThread, NativeFlag, NativeResult, NoAnswerError
from discovery.backends.zookeeper.sockets import ZooKeeperSocket, ZooKeeperTlsSocket
from discovery.native import Wakeup, native_lock, original

_poll: Callable[[], select.poll] = original("select", "poll")

#: The beginning of a reason that is about TLS.
NO_TLS = "agreed on no TLS"

#: How to encrypt, and the server's name.
Tls = tuple[ssl.SSLContext, str]


class NativeHandler:
    """Implements kazoo's `IHandler`.

    `timeout`: seconds for connecting and for each step of the TLS handshake. `ended` is called on the connection's thread when
    the connection is over.
    """

    name = "discovery_native_handler"
    timeout_exception = NoAnswerError
    sleep_func = staticmethod(original("time", "sleep"))
    event_object = staticmethod(NativeFlag)
    lock_object = staticmethod(native_lock)
    rlock_object = staticmethod(original("_thread", "RLock"))
    async_result = staticmethod(NativeResult)

    def __init__(self, timeout: float, ended: Callable[[], None], tls: Tls | None = None) -> None:
        self._tls = tls
        self.running = False
        #: Why the connection could not be made, or has ended, if that is known.
        self.reason: str | None = None
        self._timeout = timeout
        self._ended = ended
        self._cut_at = math.inf
        self._wakeup = Wakeup()
        self._connection: ZooKeeperSocket | None = None

    def granted(self) -> float:
        """Seconds without a sign of life after which the server ends the session; 0 before the server has answered."""
        return 0.0 if self._connection is None else self._connection.granted()

    def start(self) -> None:
        """Called by kazoo before it connects."""
        self.running = True

    def stop(self) -> None:
        """Called by kazoo before or after it has closed the connection."""
        self.running = False

    def cut(self, seconds: float) -> None:
        """Ends the connection within this many seconds, even while kazoo waits for the server."""
        self._cut_at = min(self._cut_at, time.monotonic() + seconds)
        self._wakeup.wake()

    def spawn(self, func: Callable[..., object], *args: object, **kwargs: object) -> HandlerThread:
        """Starts the connection's thread. RuntimeError when the system cannot start one."""

        def run() -> None:
            try:
                func(*args, **kwargs)
            except Exception as exc:
                self.reason = f"its connection failed: {exc!r:.200}"
            finally:
                self._ended()

        return HandlerThread(run)

    def dispatch_callback(self, callback: Any) -> None:
        """Calls it at once, and so before the callbacks of all later answers."""
        callback.func(*callback.args)

    def select(self, readers: list[Any], writers: list[Any], errors: list[Any], timeout: float | None = None) -> Any:
        """Waits until one of these sockets is ready. OSError once the connection is cut."""
        # Bytes that are decrypted already do not make the socket ready.
        full = [one for one in readers if isinstance(one, ZooKeeperSocket) and one.pending()]
        if full:
            return full, [], []
        until = math.inf if timeout is None else time.monotonic() + timeout
        ready = self._wait({**dict.fromkeys(readers, select.POLLIN), **dict.fromkeys(writers, select.POLLOUT)}, until)
        return [one for one in readers if one in ready], [one for one in writers if one in ready], []

    def create_connection(self, address: tuple[str, int], timeout: float | None = None, **_: object) -> Any:
        """A connected socket. OSError says why there is none."""
        connection = self._new_connection(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            code = connection.connect_ex(address)
            if code == errno.EINPROGRESS:
                until = time.monotonic() + min(self._timeout, timeout or math.inf)
                is_over = self._wait({connection: select.POLLOUT}, until)
                code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if is_over else errno.ETIMEDOUT
            if code:
                self.reason = unreachable(os.strerror(code))
                raise OSError(code, os.strerror(code))
            if isinstance(connection, ZooKeeperTlsSocket):
                self._shake_hands(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _new_connection(self, family: int) -> ZooKeeperSocket:
        if self._tls is None:
            return ZooKeeperSocket(family)
        return ZooKeeperTlsSocket(family, TlsBuffers(*self._tls), self._is_ready)

    def _shake_hands(self, connection: ZooKeeperTlsSocket) -> None:
        try:
            connection.shake_hands()
        except TimeoutError:
            self.reason = f"{NO_TLS}: nothing came within {self._timeout:g} s; {MEND}"
            raise
        except ssl.SSLError as exc:
            self.reason = f"{NO_TLS}: {why_tls_failed(exc)}; {MEND}"
            raise

    def _is_ready(self, connection: object, event: int) -> bool:
        return bool(self._wait({connection: event}, time.monotonic() + self._timeout))

    def create_socket_pair(self) -> tuple[Any, Any]:
        """Two connected sockets, with which kazoo wakes its thread."""
        import _socket as native

        return native.socketpair()

    def _wait(self, sockets: dict[Any, int], until: float) -> set[Any]:
        """Waits for these sockets, and returns those that are ready; none at `until`. OSError once the connection is cut."""
        poll = _poll()
        by_fd = {one.fileno(): one for one in sockets}
        for one, events in sockets.items():
            poll.register(one.fileno(), events)
        # While kazoo connects, it polls only the server; this wakes it for a `cut`.
        poll.register(self._wakeup.fd, select.POLLIN)
        while True:
            now = time.monotonic()
            if now >= self._cut_at:
                raise OSError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
            left = min(until, self._cut_at) - now
            ready = {fd for fd, _ in poll.poll(None if left == math.inf else max(0, math.ceil(left * 1000)))}
            if self._wakeup.fd in ready:
                self._wakeup.clear()
                ready.discard(self._wakeup.fd)
                continue
            if time.monotonic() < self._cut_at and (ready or time.monotonic() >= until):
                return {by_fd[fd] for fd in ready}


class Reasons:
    """The logger for kazoo. It keeps the first warning for the error that a user reads, and logs nothing.

    kazoo's thread must not log: in a patched process the locks of `logging` belong to greenlets.
    """

    def __init__(self, handler: NativeHandler) -> None:
        self._handler = handler

    def log(self, *_: object) -> None:
        """Ignores the message."""

    debug = info = log

    def warning(self, text: str, *args: object) -> None:
        """kazoo reports a problem of the connection."""
        if self._handler.reason is None:
            self._handler.reason = (text % args)[:200]

    warn = error = warning

    def exception(self, text: str, *args: object) -> None:
        """kazoo reports an exception that it did not expect."""
        self._handler.reason = f"{text % args}: {sys.exc_info()[1]!r:.200}"
