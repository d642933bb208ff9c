"""Threads of the operating system and ways to wait for them, whether or not gevent has patched the process.

Internal.

Rule 1: gevent is never imported here; if somebody else did, it is looked up in sys.modules.
Rule 2: a wait on a thread that runs a gevent hub waits by gevent's means, so that the hub runs on.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

#: Seconds between two looks while a greenlet waits; short against what is waited for (a registry's answer).
_LOOK = 0.005


def original(module: str, name: str) -> Any:
    """The function of the standard library as it was before gevent patched it, if it did."""
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
    """A lock between threads, never between greenlets: hold it for a few instructions only."""
    return _allocate_lock()


def _hub_of_this_thread() -> Any:
    local = sys.modules.get("gevent._hub_local")
    return None if local is None else local.get_hub_if_exists()


#: The gevent hub of the thread that started each of our threads, by the ident of ours; in patched processes only.
_hubs: dict[int, Any] = {}


def _patched_hub() -> Any:
    """The hub to which the current thread hands what needs locks that gevent has patched; None where it has not."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return None
    return _hubs.get(_get_ident()) or _hub_of_this_thread()


class Log:
    """A module's logger that threads of ours may use in a patched process, too.

    The locks of `logging` belong to greenlets there: waited for from a thread without a hub they may never come. So
    such a thread hands its lines to the hub of the thread that started it.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, text: str, *args: Any) -> None:
        self._say(logging.INFO, text, args)

    def warning(self, text: str, *args: Any) -> None:
        self._say(logging.WARNING, text, args)

    def exception(self, text: str, *args: Any) -> None:
        """An error, with the traceback of the exception that is being handled."""
        self._say(logging.ERROR, text, args, sys.exc_info())

    def _say(self, level: int, text: str, args: tuple[Any, ...], exc_info: Any = None) -> None:
        hub = _hubs.get(_get_ident())
        if hub is None:
            self._logger.log(level, text, *args, exc_info=exc_info)
        elif hub.loop is not None:  # A hub that is gone had nobody left to read it.
            hub.loop.run_callback_threadsafe(partial(self._logger.log, level, text, *args, exc_info=exc_info))


_log = Log(__name__)


class NativeEvent:
    """Something that happened once; may be set from any thread and waited for from any thread or greenlet."""

    def __init__(self) -> None:
        self._lock = _allocate_lock()
        self._is_set = False
        self._waiters: list[Any] = []

    def is_set(self) -> bool:
        """True once it happened."""
        return self._is_set

    def set(self) -> None:
        """It happened. Wakes everybody who waits."""
        with self._lock:
            self._is_set = True
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.release()

    def wait(self, timeout: float | None = None, blocking: bool = False) -> bool:
        """True as soon as it happened, False after `timeout` seconds.

        A greenlet sleeps meanwhile and its hub runs on; on the hub itself, where nothing may wait, the answer
        comes at once. With `blocking` the thread waits whatever runs on it.
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

    def _wait_as_greenlet(self, hub: Any, timeout: float | None) -> bool:
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


class NativeThread:
    """A daemon thread of the operating system; it never keeps the interpreter from leaving."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self.name = name
        self._target = target
        self._over = NativeEvent()
        self._ident: int | None = None
        self._hub: Any = None

    def start(self) -> None:
        """From here on `target` runs beside us. RuntimeError when no thread can be made."""
        self._hub = _patched_hub()
        _start_new_thread(self._run, ())

    def is_current(self) -> bool:
        """True on the thread itself."""
        return self._ident == _get_ident()

    def join(self, timeout: float, blocking: bool = False) -> bool:
        """True once `target` has returned, False after `timeout` seconds."""
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
    """A file descriptor to poll beside the sockets, that any thread can make readable."""

    #: Until it is open, and where it cannot be: whoever collects it then closes nothing.
    _is_closed = True

    def __init__(self) -> None:
        self._lock = _allocate_lock()
        # One descriptor where the system has such, two elsewhere.
        self._fds = _event_fds()
        self._is_closed = False

    @property
    def fd(self) -> int:
        """What to poll for reading."""
        return self._fds[0]

    def wake(self) -> None:
        """Makes `fd` readable. Nothing happens once it is closed."""
        # Under a lock: once closed, its number may be somebody else's file.
        with self._lock:
            if not self._is_closed:
                try:
                    os.write(self._fds[-1], _ONE)
                except BlockingIOError:
                    pass  # full of earlier wake-ups: it is readable already

    def clear(self) -> None:
        """Takes the wake-ups out; by the thread that polls, before it looks at what it was woken for."""
        try:
            while len(os.read(self._fds[0], 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Gives the descriptors back; by the thread that polled. Twice does no harm."""
        if self._is_closed:
            return
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                for fd in self._fds:
                    os.close(fd)


#: What a descriptor for events counts upwards by.
_ONE = (1).to_bytes(8, sys.byteorder)


def _event_fds() -> tuple[int, ...]:
    if hasattr(os, "eventfd"):
        return (os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC),)
    fds = os.pipe()
    for fd in fds:
        os.set_blocking(fd, False)
    return fds
