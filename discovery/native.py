"""Threads of the operating system, and ways to wait for them, whether or not gevent has patched the process.

Internal.

Rule 1: gevent is never imported here. If the process uses it, it is found in sys.modules.
Rule 2: on a thread with a gevent hub, waits use gevent, so that other greenlets run meanwhile.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, TypeAlias

#: Seconds between two checks while a greenlet waits; short compared with a registry's answer.
_LOOK = 0.005


def original(module: str, name: str) -> Any:
    """A function or class of the standard library, as it was before gevent patched it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    __import__(module)
    return getattr(sys.modules[module], name)


_start_new_thread = original("_thread", "start_new_thread")
_allocate_lock = original("_thread", "allocate_lock")
_get_ident = original("_thread", "get_ident")
getaddrinfo = original("socket", "getaddrinfo")


def native_lock() -> Any:
    """A lock between threads, not between greenlets: hold it for a few instructions only."""
    return _allocate_lock()


def _hub_of_this_thread() -> Any:
    local = sys.modules.get("gevent._hub_local")
    return None if local is None else local.get_hub_if_exists()


#: The gevent hub of the thread that started each of our threads, by the ident of ours; in patched processes only.
_hubs: dict[int, Any] = {}


def _patched_hub() -> Any:
    """The hub on which the current thread runs code that needs locks patched by gevent; None if nothing is patched."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return None
    return _hubs.get(_get_ident()) or _hub_of_this_thread()


#: As `sys.exc_info()` gives it.
ExcInfo: TypeAlias = "tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]"


class Log:
    """A module's logger that our native threads can use in a patched process as well.

    There the locks of `logging` work between greenlets, and a native thread might wait for one for ever. So such a thread
    hands its lines to the hub of the thread that started it.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, text: str, *args: object) -> None:
        self._say(logging.INFO, text, args)

    def warning(self, text: str, *args: object) -> None:
        self._say(logging.WARNING, text, args)

    def exception(self, text: str, *args: object) -> None:
        """An error, with the traceback of the exception that is being handled."""
        self._say(logging.ERROR, text, args, sys.exc_info())

    def _say(self, level: int, text: str, args: tuple[object, ...], exc_info: ExcInfo | None = None) -> None:
        hub = _hubs.get(_get_ident())
        if hub is None:
            self._logger.log(level, text, *args, exc_info=exc_info)
        elif hub.loop is not None:  # After the end of the hub the line would not be written.
            hub.loop.run_callback_threadsafe(partial(self._logger.log, level, text, *args, exc_info=exc_info))


_log = Log(__name__)


class NativeEvent:
    """A flag that is set once, from any thread, and waited for from any thread or greenlet."""

    def __init__(self) -> None:
        self._lock = _allocate_lock()
        self._is_set = False
        self._waiters: list[Any] = []

    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._is_set

    def set(self) -> None:
        """Sets the flag and wakes all waiters."""
        with self._lock:
            self._is_set = True
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.release()

    def wait(self, timeout: float | None = None, blocking: bool = False) -> bool:
        """Waits until the flag is set, at most `timeout` seconds (None: for ever). Returns whether it is set.

        In a greenlet, others run meanwhile. On the hub itself, where nothing may wait, it returns at once. With `blocking`
        the whole thread waits.
        """
        hub = None if blocking else _hub_of_this_thread()
        if hub is not None:
            return self._wait_as_greenlet(hub, timeout)
        with self._lock:
            if self._is_set:
                return True
            waiter = _allocate_lock()
            waiter.acquire()
            self._waiters.append(waiter)
        if not waiter.acquire(True, -1 if timeout is None else max(0.0, timeout)):
            with self._lock:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        return self._is_set

    def _wait_as_greenlet(self, hub: object, timeout: float | None) -> bool:
        gevent = sys.modules["gevent"]
        if gevent.getcurrent() is hub:
            return self._is_set
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._is_set:
            left = _LOOK if deadline is None else deadline - time.monotonic()
            if left <= 0:
                break
            gevent.sleep(min(_LOOK, left))
        return self._is_set


def end_hub() -> None:
    """Ends the gevent hub of this thread, which a library's sockets may have made in a patched process. To be called last."""
    hub = _hub_of_this_thread()
    if hub is not None:
        hub.destroy(destroy_loop=True)


class NativeThread:
    """A daemon thread of the operating system; it does not keep the interpreter from ending."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self.name = name
        self._target = target
        self._over = NativeEvent()
        self._ident: int | None = None
        self._hub: Any = None

    def start(self) -> None:
        """Starts the thread. RuntimeError when the system cannot start one."""
        self._hub = _patched_hub()
        _start_new_thread(self._run, ())

    def is_current(self) -> bool:
        """Whether the caller runs on this thread."""
        return self._ident == _get_ident()

    def join(self, timeout: float, blocking: bool = False) -> bool:
        """Waits until `target` has returned, at most `timeout` seconds. Returns whether it has."""
        return self._over.wait(timeout, blocking)

    def _run(self) -> None:
        self._ident = _get_ident()
        if self._hub is not None:
            _hubs[self._ident] = self._hub
        try:
            self._target()
        except Exception:
            _log.exception("thread %s failed", self.name)
        finally:
            _hubs.pop(self._ident, None)
            self._over.set()


class Wakeup:
    """A file descriptor for a poll, which any thread can make readable."""

    #: True until the descriptors are open, so that `__del__` closes nothing if they cannot be opened.
    _is_closed = True

    def __init__(self) -> None:
        self._lock = _allocate_lock()
        # One eventfd if the system has it, otherwise the two ends of a pipe.
        self._fds = _event_fds()
        self._is_closed = False

    @property
    def fd(self) -> int:
        """The descriptor to poll for reading."""
        return self._fds[0]

    def wake(self) -> None:
        """Makes `fd` readable; does nothing once it is closed."""
        # Under a lock: once closed, the descriptor may belong to another file.
        with self._lock:
            if not self._is_closed:
                try:
                    os.write(self._fds[-1], _ONE)
                except BlockingIOError:
                    pass  # It is full of earlier wake-ups, and so readable already.

    def clear(self) -> None:
        """Makes `fd` unreadable again. The polling thread calls it before it does what it was woken for."""
        try:
            while len(os.read(self._fds[0], 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Closes the descriptors; called by the thread that polled. A second call does nothing."""
        if self._is_closed:
            return
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                for fd in self._fds:
                    os.close(fd)


#: What a wake-up adds to the counter of an eventfd.
_ONE = (1).to_bytes(8, sys.byteorder)


def _event_fds() -> tuple[int, ...]:
    if hasattr(os, "eventfd"):
        return (os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC),)
    fds = os.pipe()
    for fd in fds:
        os.set_blocking(fd, False)
    return fds
