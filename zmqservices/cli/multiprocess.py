"""Makes `multiprocessing` cooperate with greenlets in a monkey-patched process.

gevent turns the threads of a pool or a queue into greenlets, but does not patch their pipes and semaphores. The first greenlet
that waits for one of these would block the whole thread, also the greenlets that could end the wait: the process would hang.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from zmqservices.cli.import_hooks import ImportHook

#: Bytes that a writable pipe accepts without blocking, as POSIX guarantees.
PIPE_BUF = select.PIPE_BUF

#: Seconds between two attempts to acquire a semaphore: the first pause, and the longest. A semaphore sends no notification.
FIRST_PAUSE, LONGEST_PAUSE = 0.0005, 0.01

#: Seconds between two checks whether a process has ended.
LONGEST_WAIT = 1.0

_READ, _WRITE = 1, 2

#: The modules that are patched, each by a function of _PATCHES.
MODULES = ("multiprocessing.connection", "multiprocessing.synchronize", "multiprocessing.popen_fork")


def patch_when_imported() -> None:
    """Patch `multiprocessing` when it is imported. Call this after the standard library is patched."""
    for name, patch in _PATCHES.items():
        module = sys.modules.get(name)
        if module is not None:
            patch(module)
    if not any(isinstance(finder, _PatchAfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PatchAfterImport())


class _PatchAfterImport(ImportHook):
    NAMES = MODULES

    def run(self, module: ModuleType, execute: Callable[[ModuleType], None]) -> None:
        execute(module)
        _PATCHES[module.__name__](module)


def _wait_until_ready(fd: int, events: int) -> None:
    """Let the hub run until the descriptor is ready. No other greenlet runs between the last check and the return."""
    import gevent

    from zmqservices.utils import native_threads

    poller = native_threads.poller()
    poller.register(fd, select.POLLIN if events == _READ else select.POLLOUT)
    while not poller.poll(0):
        hub = gevent.get_hub()
        watcher = hub.loop.io(fd, events)
        try:
            hub.wait(watcher)
        finally:
            watcher.close()


def _read(fd: int, size: int) -> bytes:
    _wait_until_ready(fd, _READ)
    return os.read(fd, size)


def _write(fd: int, data: Any) -> int:
    _wait_until_ready(fd, _WRITE)
    return os.write(fd, memoryview(data)[:PIPE_BUF])


def _patch_connections(module: Any) -> None:
    connection = module.Connection
    connection._read, connection._write = staticmethod(_read), staticmethod(_write)
    # These methods hold the original functions as default arguments.
    connection._recv.__defaults__ = (_read,)
    connection._send.__defaults__ = (_write,)


def _patch_semaphores(module: Any) -> None:
    semaphore = module.SemLock
    make_methods = semaphore._make_methods

    def make_cooperative_methods(self: Any) -> None:
        make_methods(self)
        self.acquire = _acquire_of(self._semlock.acquire)

    semaphore._make_methods = make_cooperative_methods
    semaphore.__enter__ = lambda self: self.acquire()


def _acquire_of(native: Callable[..., bool]) -> Callable[..., bool]:
    def acquire(block: bool = True, timeout: float | None = None) -> bool:
        if native(False):
            return True
        if not block:
            return False
        end = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_PAUSE
        while not native(False):
            if end is not None and time.monotonic() >= end:
                return False
            # This sleep is patched: other greenlets run meanwhile.
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return True

    return acquire


def _patch_processes(module: Any) -> None:
    popen = module.Popen
    native_wait = popen.wait

    def wait(self: Any, timeout: float | None = None) -> Any:
        if timeout is None:
            from multiprocessing.connection import wait as wait_for

            # The sentinel is a pipe that closes when the process ends, unless a child of the process holds the other end.
            while self.poll(os.WNOHANG) is None and not wait_for([self.sentinel], LONGEST_WAIT):
                pass
        return native_wait(self, timeout)

    popen.wait = wait


_PATCHES: dict[str, Callable[[Any], None]] = {
    "multiprocessing.connection": _patch_connections,
    "multiprocessing.synchronize": _patch_semaphores,
    "multiprocessing.popen_fork": _patch_processes,
}
