"""Settings of the C library's allocator for large blocks: keep them for the next message, or return them to the system.

Internal. `zmqservices.process.keep_large_blocks` is public.

By default glibc requests the memory of a 1 MiB payload from the system for every message and returns it afterwards, page by
page. It also returns free memory at the end of an arena once that exceeds 128 KiB. Both cost more than sending the payload: a
process that keeps such blocks serves large payloads with half the processor time (see docs/performance.rst).

`zmqservices run` keeps up to RETAINED bytes from its start, and returns them while it is idle. Up to 64 MiB that ZeroMQ's thread
used stay: glibc keeps the end of a thread's memory until that thread frees something there. Every other process keeps
RETAINED_ELSEWHERE bytes from its first large message on, in each of its arenas (about one for each thread, at most eight for
each processor). If one of VARIABLES is set in the environment, nothing is changed.
"""

from __future__ import annotations

import os
import time
from typing import Any

# Imported at the start and not during a message: another thread may import it then, and gevent has patched the locks.
try:
    import ctypes
except ImportError:  # Some builds of Python lack it.
    ctypes = None  # type: ignore[assignment]

#: Bytes at the end of an arena that may be free before they are returned: for a service, and for any other process, which may
#: have many threads.
RETAINED, RETAINED_ELSEWHERE = 128 * 1024 * 1024, 8 * 1024 * 1024
#: Larger blocks are returned at once; glibc allows no higher limit.
LARGEST_RETAINED = 32 * 1024 * 1024
#: Environment variables by which users configure the allocator themselves.
VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
#: Seconds of processor time per second below which a process counts as idle.
IDLE = 0.1
#: Seconds of processor time since the last trim after which there may be memory to return.
WORTH_A_TRIM = 0.1

# From malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def _libc() -> Any:
    return ctypes.CDLL(None)


_is_decided = False


def note_large_message() -> None:
    """To be called for each large message. The first one lets the process keep some memory, unless that was set before."""
    if not _is_decided:
        keep_large_blocks(RETAINED_ELSEWHERE)


def keep_large_blocks(kept: int = RETAINED) -> bool:
    """Keep freed memory for the next large payload instead of returning it to the system. Call it once, early in a program.

    It holds for the whole process until its end: blocks of up to 32 MiB, and at most `kept` bytes in each arena of the
    allocator. Returns False, and changes nothing, if the C library is not glibc or if the environment configures the
    allocator (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`, `MALLOC_TOP_PAD_`, `GLIBC_TUNABLES`).
    """
    global _is_decided
    _is_decided = True
    if ctypes is None or any(name in os.environ for name in VARIABLES):
        return False
    try:
        mallopt = _libc().mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGEST_RETAINED) and mallopt(_M_TRIM_THRESHOLD, kept))


class IdleTrim:
    """Returns kept memory to the system when the process becomes idle after work."""

    def __init__(self) -> None:
        self._trim = _libc().malloc_trim
        self._checked_at = time.monotonic()
        self._used = time.process_time()
        self._used_when_trimmed = self._used

    def check(self) -> bool:
        """To be called from time to time. If the process has been idle since the last call, returns memory and returns True."""
        now, used = time.monotonic(), time.process_time()
        is_idle = used - self._used < IDLE * (now - self._checked_at)
        self._checked_at, self._used = now, used
        if not is_idle or used - self._used_when_trimmed < WORTH_A_TRIM:
            return False
        self._used_when_trimmed = used
        self._trim(0)
        return True
