"""Pauses a listening ZeroMQ socket while the process has no file descriptor left for another connection.

Internal.

ZeroMQ has no back-off: when `accept` fails, its I/O thread calls it again at once as long as a connection waits, and uses a
whole core. Unbinding would also end the accepted connections. So the listening descriptor stays in ZeroMQ's epoll set, and
only its events there are cleared. Connected peers notice nothing. New connections wait in the kernel's queue and are accepted
as soon as there are descriptors again.

This works on Linux with /proc, where ZeroMQ uses epoll. Elsewhere no listener is found, and this module has no effect.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import resource
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from discovery.native import original

#: Not gevent's: that one would make a hub in a native thread, whose imports could collide with those of other threads.
_socket: type[socket.socket] = original("socket", "socket")
_sleep: Callable[[float], None] = original("time", "sleep")

#: Descriptors that must be free before connections are accepted: the process needs some for its own files and calls.
SPARE = 4
#: Seconds between two checks: while many descriptors are free, while few are, and just after a change.
CALM = 1.0
NEAR = 0.1
CHANGED = 0.01
#: The share of the allowed descriptors in use above which few count as free.
FEW = 0.75
#: Attempts to find the listener; ZeroMQ adds it to its epoll set in its own thread, soon after the bind. The pauses between
#: them double, so that a busy machine has ten seconds for it.
TRIES = 10
#: Attempts at the start, a millisecond apart. Once connections have used up all descriptors, the listener cannot be looked for.
FIRST_TRIES = 20
#: Seconds between two warnings of one process.
WARN_INTERVAL = 60.0

_MOD = 3  # EPOLL_CTL_MOD; the select module has no name for it.
_TARGET = re.compile(r"tfd:\s*(\d+)\s+events:\s*([0-9a-f]+)\s+data:\s*([0-9a-f]+)")

_warned_at = -WARN_INTERVAL


class _Event(ctypes.Structure):
    # The kernel packs it on x86 alone.
    _pack_ = 1 if platform.machine() in ("x86_64", "AMD64", "i386", "i686") else 0
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


class ListeningSocket:
    """A listening descriptor in ZeroMQ's epoll set."""

    def __init__(self, epoll: int, descriptor: int, port: int, events: int, pointer: int) -> None:
        self._epoll = epoll
        self._descriptor = descriptor
        self._port = port
        self._events = events
        # ZeroMQ's own pointer, which must be handed back unchanged.
        self._pointer = pointer
        self._control = ctypes.CDLL(None, use_errno=True).epoll_ctl

    def listen(self, on: bool) -> None:
        """Lets ZeroMQ accept connections, or stops that for now. OSError when the socket has been closed."""
        if not _listens(self._descriptor, self._port):
            # The socket was closed, and its descriptor may belong to another file now.
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        event = _Event(self._events if on else 0, self._pointer)
        if self._control(self._epoll, _MOD, self._descriptor, ctypes.byref(event)):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def find_listener(port: int) -> ListeningSocket | None:
    """The listening socket of this process at a TCP port, if it is in an epoll set; otherwise None. May raise OSError."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{name}") != "anon_inode:[eventpoll]":
                continue
            with open(f"/proc/self/fdinfo/{name}") as file:
                targets = _TARGET.findall(file.read())
            for descriptor, events, pointer in targets:
                if int(events, 16) & select.EPOLLIN and _listens(int(descriptor), port):
                    return ListeningSocket(int(name), int(descriptor), port, int(events, 16), int(pointer, 16))
    return None


def _listens(descriptor: int, port: int) -> bool:
    try:
        found = _socket(fileno=descriptor)
    except OSError:
        return False
    try:
        if found.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return bool(listens) and found.getsockname()[1] == port
    except OSError:
        return False
    finally:
        found.detach()


def most_descriptors() -> int:
    """The number of descriptors that this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def free_descriptors() -> tuple[int, int]:
    """The number of descriptors that can be opened now, SPARE at most, and the highest descriptor among them."""
    opened: list[int] = []
    try:
        for _ in range(SPARE):
            # New files and not duplicates, so that the limit of the whole system (ENFILE) counts as well.
            opened.append(os.eventfd(0, os.EFD_CLOEXEC))
    except OSError:
        pass
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return len(opened), max(opened, default=0)


class AcceptGuard:
    """Pauses the listener of one bound socket as long as descriptors are short.

    The owner of the socket calls `check`, again after as many seconds as it returns, until it returns None, and `close` before
    the socket is closed. `warn` is called with the text of a warning.
    """

    def __init__(
        self,
        endpoint: str,
        warn: Callable[[str], object],
        find: Callable[[int], ListeningSocket | None] = find_listener,
        free: Callable[[], tuple[int, int]] = free_descriptors,
    ) -> None:
        self._endpoint = endpoint
        self._warn = warn
        self._find = find
        self._free = free
        self._port = int(endpoint.rpartition(":")[2])
        self._listener: ListeningSocket | None = None
        self._tries = 0
        self._pid = os.getpid()
        self._pause = CHANGED
        self._is_closed = False
        #: Whether new connections wait for descriptors now.
        self.is_paused = False
        for _ in range(FIRST_TRIES):
            self._look_for_listener()
            if self._listener is not None:
                break
            _sleep(0.001)

    def check(self) -> float | None:
        """Pauses or resumes accepting. Returns the seconds until the next check; None when there shall be none."""
        # A forked child shares the epoll set with its parent, and must leave it alone.
        if self._is_closed or os.getpid() != self._pid:
            return None
        if self._listener is None:
            return self._find_listener()
        count, highest = self._free()
        is_short = count < SPARE
        try:
            if is_short is not self.is_paused:
                self._listener.listen(not is_short)
                self.is_paused = is_short
                self._pause = CHANGED
        except OSError:
            return None
        if is_short:
            self._warn_of_shortage()
        most = NEAR if highest >= most_descriptors() * FEW and not is_short else CALM
        pause = min(self._pause, most)
        self._pause = min(self._pause * 2, CALM)
        return pause

    def _look_for_listener(self) -> bool:
        """False: there are no descriptors left with which it could be found."""
        try:
            self._listener = self._find(self._port)
        except (OSError, AttributeError) as exc:
            return getattr(exc, "errno", 0) not in (errno.EMFILE, errno.ENFILE)
        return True

    def _find_listener(self) -> float | None:
        if not self._look_for_listener():
            # Connections have used up all descriptors already. The listener can be found once one is closed.
            self._warn_of_shortage()
            return NEAR
        if self._listener is not None:
            return CHANGED
        self._tries += 1
        return None if self._tries > TRIES else CHANGED * 2 ** (self._tries - 1)

    def _warn_of_shortage(self) -> None:
        global _warned_at
        now = time.monotonic()
        if now - _warned_at >= WARN_INTERVAL:
            _warned_at = now
            self._warn(
                f"new connections to {self._endpoint} wait: this process may have {most_descriptors()} descriptors, and fewer "
                f"than {SPARE} are free; raise the limit (`ulimit -n`, or LimitNOFILE= of a systemd unit)"
            )

    def close(self) -> None:
        """The socket is about to be closed: its listener is not touched from now on."""
        self._is_closed = True


def raise_soft_limit(most: int = 65_536) -> None:
    """Raises the soft limit of descriptors to the hard limit, but not beyond `most`, and never lowers it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
