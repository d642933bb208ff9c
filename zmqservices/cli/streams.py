"""Keeps a process running when stdin, stdout or stderr is closed, from the start or later.

The number of a closed descriptor must not stay free: the next socket would get it, and receive what is written to stderr.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

#: Errors of an output without a reader: a pipe whose other end is closed, a closed terminal.
_GONE = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ESHUTDOWN, errno.ECONNRESET}
#: Errors of an output that cannot take data now: a full disk.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_STREAMS = {0: ("stdin", "r"), 1: ("stdout", "w"), 2: ("stderr", "w")}


def open_missing() -> None:
    """Open the null device in place of each closed stream. Call this before any file is opened."""
    for fd, (name, mode) in _STREAMS.items():
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)  # Child processes inherit the streams.
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def outlive() -> None:
    """Discard output from now on if its reader has ended or its disk is full, so that a method that prints does not fail."""
    for fd in (1, 2):
        name = _STREAMS[fd][0]
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and _fd_of(stream) == fd and not isinstance(_raw(stream), Outliving):
            stream.flush()
            setattr(sys, name, _outliving(stream, fd))


def _fd_of(stream: Any) -> int:
    try:
        return int(stream.fileno())
    except (OSError, ValueError):
        return -1


def _raw(stream: Any) -> Any:
    return getattr(stream.buffer, "raw", stream.buffer)


def _outliving(stream: io.TextIOWrapper, fd: int) -> io.TextIOWrapper:
    raw = Outliving(fd, "wb", closefd=False)
    is_unbuffered = isinstance(stream.buffer, io.RawIOBase)
    return io.TextIOWrapper(
        raw if is_unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=is_unbuffered,
    )


_write = io.FileIO.write


class Outliving(io.FileIO):
    """Writes to a descriptor, and ignores errors of its other end."""

    def write(self, data: Any) -> int:
        """As `FileIO.write`; data that cannot be delivered counts as written."""
        try:
            return _write(self, data)
        except OSError as exc:
            if exc.errno in _GONE:
                self._point_nowhere()
            elif exc.errno not in _FULL:
                raise
            return memoryview(data).nbytes

    def _point_nowhere(self) -> None:
        try:
            null = os.open(os.devnull, os.O_WRONLY)
        except OSError:
            return  # No descriptor is free; the next write tries again.
        os.dup2(null, self.fileno())
        os.close(null)
