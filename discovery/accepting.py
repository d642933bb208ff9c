"""Pauses a listening ZeroMQ socket while the process has no descriptor left for another connection.

Internal.

ZeroMQ has no back-off of its own: its I/O thread asks again at once when `accept` fails, as long as a connection waits, and
takes a whole core. Unbinding is no remedy, as it also ends the connections that were accepted. So the listening descriptor
stays in ZeroMQ's epoll set, and only what it waits for there is changed: nothing for now. Connected peers notice nothing;
connections wait in the kernel's queue, and are accepted as soon as there are descriptors again.

This is for Linux with /proc, where ZeroMQ waits with epoll. Elsewhere a listener is not found, and all is as without this.
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

#: Descriptors that must be free for more connections to be accepted: the process needs some for files and calls of its own.
SPARE = 4
#: Seconds between two looks: while all is well, with few descriptors left, and just after a change.
CALM = 1.0
NEAR = 0.1
CHANGED = 0.01
#: Of the descriptors that a process may have, the part from which on they count as few.
FEW = 0.75
#: Looks for the listener before it is given up; ZeroMQ adds it in its own thread, soon after the bind.
TRIES = 10
#: Seconds between two warnings of one process.
WARN_EVERY = 60.0

_MOD = 3  # EPOLL_CTL_MOD; the select module has no name for it.
_TARGET = re.compile(r"tfd:\s*(\d+)\s+events:\s*([0-9a-f]+)\s+data:\s*([0-9a-f]+)")

_warned_at = -WARN_EVERY


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
        # ZeroMQ's own pointer: it must be handed back as it was.
        self._pointer = pointer
        self._control = ctypes.CDLL(None, use_errno=True).epoll_ctl

    def listen(self, on: bool) -> None:
        """Let ZeroMQ accept connections, or not for now. Raises OSError where it is not there any more."""
        if not _listens(self._descriptor, self._port):
            # Its socket was closed, and its number may be another's.
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        event = _Event(self._events if on else 0, self._pointer)
        if self._control(self._epoll, _MOD, self._descriptor, ctypes.byref(event)):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def find_listener(port: int) -> ListeningSocket | None:
    """The listener of this process at a TCP port that waits in an epoll set; None where there is none. Raises OSError."""
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
        found = socket.socket(fileno=descriptor)
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
    """How many descriptors this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def free_descriptors() -> tuple[int, int]:
    """How many descriptors can be opened now, SPARE at most, and the highest number among them."""
    opened: list[int] = []
    try:
        for _ in range(SPARE):
            # A file of its own and not a duplicate: the system's limit (ENFILE) is met, too.
            opened.append(os.eventfd(0, os.EFD_CLOEXEC))
    except OSError:
        pass
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return len(opened), max(opened, default=0)


class AcceptGuard:
    """Pauses the listener of one bound socket as long as descriptors are short.

    `look` is to be called by the owner of the socket, again after as many seconds as it returns, until it returns None; and
    `close` before the socket is closed. `warn` is given the text of a warning.
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
        #: Whether connections wait for descriptors now.
        self.is_paused = False

    def look(self) -> float | None:
        """Pause or resume as the descriptors say. Returns the seconds until the next look; None: there shall be none."""
        # A fork shares the epoll set with its parent, whose business this is.
        if self._is_closed or os.getpid() != self._pid:
            return None
        if self._listener is None:
            return self._look_for_listener()
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
            self._tell()
        most = NEAR if highest >= most_descriptors() * FEW and not is_short else CALM
        pause = min(self._pause, most)
        self._pause = min(self._pause * 2, CALM)
        return pause

    def _look_for_listener(self) -> float | None:
        try:
            self._listener = self._find(self._port)
        except (OSError, AttributeError) as exc:
            if getattr(exc, "errno", 0) in (errno.EMFILE, errno.ENFILE):
                # Connections came at once, and took all: it is found as soon as one is gone.
                return NEAR
        self._tries += 1
        return None if self._listener is None and self._tries >= TRIES else CHANGED

    def _tell(self) -> None:
        global _warned_at
        now = time.monotonic()
        if now - _warned_at >= WARN_EVERY:
            _warned_at = now
            self._warn(
                f"new connections to {self._endpoint} wait: this process may have {most_descriptors()} descriptors, and fewer "
                f"than {SPARE} are free; raise the limit (`ulimit -n`, or LimitNOFILE= of a systemd unit)"
            )

    def close(self) -> None:
        """The socket is about to be closed: nothing is done with its listener from now on."""
        self._is_closed = True


def raise_soft_limit(most: int = 65_536) -> None:
    """Let this process have as many descriptors as its hard limit allows, `most` at the most; never fewer than it had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
