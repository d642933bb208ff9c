"""The way in which kazoo, the client of ZooKeeper, makes its thread, its socket and its events here.

Internal.

kazoo leaves threads, sockets and waits to a "handler", and brings two. Its threading handler takes them from the standard
library, and in a process that gevent has patched these are greenlets of the thread that asked. This thread waits natively for
its next task, so they would never run. Its gevent handler needs a hub that turns all the time in the thread of the session,
in unpatched processes too, and none of its objects may be used from another thread; a session is used by two. So this handler
makes them of native parts, as all of `discovery` does: it works alike in both kinds of process, and no hub is made.

Rule 1: one connection. It ends for good when it is lost, or at `cut`; the caller decides what comes next.
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
from discovery.native import NativeEvent, NativeThread, Wakeup, end_hub, native_lock, original

_socket: Any = original("socket", "socket")
_poll: Callable[[], select.poll] = original("select", "poll")

#: Seconds; a connection that is cut or closed ends much sooner.
LONGEST_JOIN = 60.0
#: How a reason begins that is about TLS.
NO_TLS = "agreed on no TLS"

#: How to encrypt, and the server's name.
Tls = tuple[ssl.SSLContext, str]


class NoAnswerError(Exception):
    """Nothing came within the time that was given."""


class NativeFlag:
    """An event that may be cleared, too."""

    def __init__(self) -> None:
        self._event = NativeEvent()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._event.is_set()

    def set(self) -> None:
        """Sets it, and wakes who waits."""
        self._event.set()

    def clear(self) -> None:
        """It is not set any more."""
        if self._event.is_set():
            self._event = NativeEvent()

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks the thread until it is set, at most `timeout` seconds. Returns whether it is."""
        return self._event.wait(timeout, blocking=True)


class NativeResult:
    """The answer to one request, once it is there."""

    def __init__(self) -> None:
        self.value: Any = None
        self.exception: BaseException | None = None
        self._done = NativeEvent()
        self._lock = native_lock()
        self._callbacks: list[Callable[[NativeResult], object]] = []

    def ready(self) -> bool:
        """Whether there is a value or an exception."""
        return self._done.is_set()

    def successful(self) -> bool:
        """Whether there is a value."""
        return self.ready() and self.exception is None

    def set(self, value: object = None) -> None:
        """The request succeeded."""
        self.value = value
        self._end()

    def set_exception(self, exception: BaseException) -> None:
        """The request failed."""
        self.exception = exception
        self._end()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The value; raises the exception, or NoAnswerError after `timeout` seconds."""
        if not self._done.wait(timeout if block else 0.0, blocking=True):
            raise NoAnswerError("no answer")
        if self.exception is not None:
            raise self.exception
        return self.value

    def get_nowait(self) -> Any:
        """As `get`, without waiting."""
        return self.get(block=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks the thread until it is ready, at most `timeout` seconds. Returns whether it is."""
        return self._done.wait(timeout, blocking=True)

    def rawlink(self, callback: Callable[[NativeResult], object]) -> None:
        """Calls `callback` when it is ready; at once if it is already."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def unlink(self, callback: Callable[[NativeResult], object]) -> None:
        """Calls `callback` no more."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def _end(self) -> None:
        with self._lock:
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


class _Routine:
    """The thread of a connection, for kazoo to join."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self._thread = NativeThread(self._main, "discovery-zookeeper")
        self._thread.start()

    def _main(self) -> None:
        try:
            self._run()
        finally:
            end_hub()

    def join(self, timeout: float | None = None) -> None:
        """Blocks until it has ended, at most `timeout` seconds."""
        self._thread.join(LONGEST_JOIN if timeout is None else timeout, blocking=True)


class _Connection(_socket):
    """A connected socket that keeps the session time which the server grants: kazoo reads it and does not tell it.

    The server's first answer is a ConnectResponse: its length, the protocol's version, and milliseconds, four bytes each.
    """

    def __init__(self, family: int) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self.head = b""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As that of a socket."""
        return self._seen(super().recv(size, flags))

    def pending(self) -> int:
        """Bytes that can be read whether or not the socket is ready."""
        return 0

    def _seen(self, received: bytes) -> bytes:
        if len(self.head) < 12:
            self.head += received[:12]
        return received


class _TlsConnection(_Connection):
    """The same, encrypted. `wait` blocks until the socket is ready for an event of `select.poll`."""

    def __init__(self, family: int, buffers: TlsBuffers, wait: Callable[[Any, int], bool]) -> None:
        super().__init__(family)
        self._buffers = buffers
        self._wait_for = wait
        self._plain = b""

    def shake_hands(self) -> None:
        """Called once the socket is connected. ssl.SSLError when the two do not agree, TimeoutError when there is no answer."""
        is_done = self._buffers.shake_hands()
        while True:
            self._flush()
            if is_done:
                return
            if not self._wait_for(self, select.POLLIN):
                raise TimeoutError
            is_done = self._buffers.shaken(_socket.recv(self, 65536))

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As that of an SSL socket that does not block."""
        if not self._plain and not self._buffers.is_over:
            try:
                self._plain = self._buffers.received(_socket.recv(self, 65536))
            except BlockingIOError:
                pass
            self._flush()
            if not self._plain and not self._buffers.is_over:
                raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "a part of a record has come")
        received, self._plain = self._plain[:size], self._plain[size:]
        return self._seen(received)

    def pending(self) -> int:
        """Bytes that are decrypted already."""
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


class NativeHandler:
    """What kazoo's `IHandler` asks for. `ended` is called on the connection's thread when the connection is over."""

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
        #: Why the connection could not be made, or has ended, as far as is known.
        self.reason: str | None = None
        self._timeout = timeout
        self._ended = ended
        self._cut_at = math.inf
        self._wakeup = Wakeup()
        self._connection: _Connection | None = None

    def granted(self) -> float:
        """Seconds without a sign of life after which the server ends the session; 0 before it said so."""
        head = b"" if self._connection is None else self._connection.head
        return int.from_bytes(head[8:12], "big") / 1000.0 if len(head) >= 12 else 0.0

    def start(self) -> None:
        """kazoo is about to connect."""
        self.running = True

    def stop(self) -> None:
        """kazoo has closed the connection, or is about to."""
        self.running = False

    def cut(self, seconds: float) -> None:
        """Ends the connection within so many seconds, whatever the server does and whatever is waited for."""
        self._cut_at = min(self._cut_at, time.monotonic() + seconds)
        self._wakeup.wake()

    def spawn(self, func: Callable[..., object], *args: object, **kwargs: object) -> _Routine:
        """Starts the connection's thread. RuntimeError when none can be made."""

        def run() -> None:
            try:
                func(*args, **kwargs)
            except Exception as exc:
                self.reason = f"its connection failed: {exc!r:.200}"
            finally:
                self._ended()

        return _Routine(run)

    def dispatch_callback(self, callback: Any) -> None:
        """Calls it here and now, and so before all answers that the server sends later."""
        callback.func(*callback.args)

    def select(self, readers: list[Any], writers: list[Any], errors: list[Any], timeout: float | None = None) -> Any:
        """Waits until one of these sockets is ready. OSError once the connection is cut."""
        # What is decrypted already: the socket itself may stay silent.
        full = [one for one in readers if isinstance(one, _Connection) and one.pending()]
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
                self.reason = f"cannot be reached: {os.strerror(code)}"
                raise OSError(code, os.strerror(code))
            if isinstance(connection, _TlsConnection):
                self._shake_hands(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _new_connection(self, family: int) -> _Connection:
        if self._tls is None:
            return _Connection(family)
        return _TlsConnection(family, TlsBuffers(*self._tls), self._is_ready)

    def _shake_hands(self, connection: _TlsConnection) -> None:
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
        """Two connected sockets, by which kazoo wakes its thread."""
        import _socket as native

        return native.socketpair()

    def _wait(self, sockets: dict[Any, int], until: float) -> set[Any]:
        """The sockets that are ready, or none at `until`. OSError once the connection is cut."""
        poll = _poll()
        by_fd = {one.fileno(): one for one in sockets}
        for one, events in sockets.items():
            poll.register(one.fileno(), events)
        # While kazoo connects it waits for the server alone, and hears nothing else.
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
    """The logger that kazoo is given. It keeps the last complaint for the sentence that a user reads, and writes none itself:
    the locks of `logging` may be greenlets' ones."""

    def __init__(self, handler: NativeHandler) -> None:
        self._handler = handler

    def log(self, *_: object) -> None:
        """Of no use to anybody here."""

    debug = info = log

    def warning(self, text: str, *args: object) -> None:
        """kazoo complains of the connection."""
        if self._handler.reason is None:
            self._handler.reason = (text % args)[:200]

    warn = error = warning

    def exception(self, text: str, *args: object) -> None:
        """An exception that kazoo did not expect."""
        self._handler.reason = f"{text % args}: {sys.exc_info()[1]!r:.200}"
