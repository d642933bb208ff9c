"""How the C library's allocator treats large blocks: kept for the next message, or given back to the system each time.

A payload of 1 MiB is a block of its own. The allocator of glibc asks the system for it and gives it back, page by page,
for every message; that costs more than sending it does. A process that keeps such blocks serves large payloads with half
the processor time (see docs/performance.rst), and holds up to KEPT bytes more than it needs at the moment. While there
is nothing to do all of it is given back but for the last 64 MiB at most that ZeroMQ's thread took: glibc keeps the end of a
thread's memory until that thread frees something there.

Every process does this from its first large message on, and `zmqservices run` from its start: see
`zmqservices.transport.blocks`. Whoever wants it otherwise sets one of VARIABLES in the environment. A program that has no
large messages, and large blocks of its own, may call `keep_large_blocks`.
"""

from __future__ import annotations

import os
import time
from typing import Any

#: Bytes at the end of an arena's memory that may be free before they are given back.
KEPT = 128 * 1024 * 1024
#: Blocks of more bytes than this are given back at once; more is not allowed by glibc.
LARGEST_KEPT = 32 * 1024 * 1024
#: Who has set one of these has made up his mind.
VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
#: Seconds of processor time per second below which a process counts as idle.
IDLE = 0.1
#: Seconds of processor time since it was last given back that may have left something to give back.
WORTH_A_TRIM = 0.1

# From malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None)


def keep_large_blocks() -> bool:
    """Keep blocks of up to LARGEST_KEPT bytes for the next use. False where the C library is no glibc, or is set otherwise.

    For the whole process and its life. `IdleTrim` gives back what is kept while there is nothing to do.
    """
    if any(name in os.environ for name in VARIABLES):
        return False
    try:
        mallopt = _libc().mallopt
    except (ImportError, OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(_M_TRIM_THRESHOLD, KEPT))


class IdleTrim:
    """Gives kept blocks back to the system when a process that has worked is idle. To be called now and then."""

    def __init__(self) -> None:
        self._trim = _libc().malloc_trim
        self._looked_at = time.monotonic()
        self._used = time.process_time()
        self._used_when_trimmed = self._used

    def look(self) -> bool:
        """Whether it was time to give back, since the process has used next to no time since the last look."""
        now, used = time.monotonic(), time.process_time()
        is_idle = used - self._used < IDLE * (now - self._looked_at)
        self._looked_at, self._used = now, used
        if not is_idle or used - self._used_when_trimmed < WORTH_A_TRIM:
            return False
        self._used_when_trimmed = used
        self._trim(0)
        return True
