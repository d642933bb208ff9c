"""Events, results and threads for kazoo, made of native parts.

kazoo names them and their methods; see `handler`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from discovery.native import NativeEvent, NativeThread, end_hub, native_lock

#: Seconds that kazoo waits for the connection's thread to end. A connection that is cut or closed ends much sooner.
LONGEST_JOIN = 60.0


class NoAnswerError(Exception):
    """No answer came in time."""


class NativeFlag:
    """An event that can be cleared."""

    def __init__(self) -> None:
        self._event = NativeEvent()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._event.is_set()

    def set(self) -> None:
        """Sets it, and wakes all waiting threads."""
        self._event.set()

    def clear(self) -> None:
        """Resets it."""
        if self._event.is_set():
            self._event = NativeEvent()

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks the thread until it is set, at most `timeout` seconds. Returns whether it is."""
        return self._event.wait(timeout, blocking=True)


class NativeResult:
    """The answer to one request, as soon as it has come."""

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
        """Like `get`, without waiting."""
        return self.get(block=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks the thread until there is an answer, at most `timeout` seconds. Returns whether there is one."""
        return self._done.wait(timeout, blocking=True)

    def rawlink(self, callback: Callable[[NativeResult], object]) -> None:
        """Calls `callback` once there is an answer; at once if there is one already."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def unlink(self, callback: Callable[[NativeResult], object]) -> None:
        """Does not call `callback` any more."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def _end(self) -> None:
        with self._lock:
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


class HandlerThread:
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
