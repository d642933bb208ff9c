"""The three streams of a process: any of them may be closed from the start or end later, and the process goes on.

A descriptor that is closed is not left free: the next socket would get its number, and be written to by whatever means stderr.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

#: Where nobody reads any more, for good: a pipe whose reader has ended, a terminal that was closed.
_GONE = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ESHUTDOWN, errno.ECONNRESET}
#: Where nothing can be written for now.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_STREAMS = {0: ("stdin", "r"), 1: ("stdout", "w"), 2: ("stderr", "w")}


def open_missing() -> None:
    """Give each stream that this process was started without the null device. To be called before a file is opened."""
    for fd, (name, mode) in _STREAMS.items():
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)  # As one that was there would be.
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def outlive() -> None:
    """From here on output is thrown away where its reader has ended, or its disk is full: a method that prints does not fail."""
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
    """A descriptor that is written to; nothing that becomes of its other end is an error."""

    def write(self, data: Any) -> int:
        """As `FileIO.write`; what nobody takes counts as written."""
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
            return  # No descriptor is left; the next write comes here again.
        os.dup2(null, self.fileno())
        os.close(null)
