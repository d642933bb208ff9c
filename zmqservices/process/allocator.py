"""How the C library's allocator treats large blocks: kept for the next message, or given back to the system each time.

Internal. `zmqservices.process.keep_large_blocks` is public.

A payload of 1 MiB is a block of its own. The allocator of glibc asks the system for it and gives it back, page by page,
for every message, and does so with the end of its memory once 128 KiB of that are free; that costs more than sending a payload
does. A process that keeps such blocks serves large payloads with half the processor time (see docs/performance.rst).

`zmqservices run` keeps KEPT bytes from its start and gives all back while there is nothing to do, but for the last 64 MiB at
most that ZeroMQ's thread took: glibc keeps the end of a thread's memory until that thread frees something there. Every other
process keeps KEPT_ELSEWHERE from its first large message on, in each of its arenas (there is about one per thread, and eight
per processor at most). Whoever wants it otherwise sets one of VARIABLES in the environment.
"""

from __future__ import annotations

import os
import time
from typing import Any

# Not in the midst of a message, where it may meet others who import it, with locks that gevent has patched.
try:
    import ctypes
except ImportError:  # There are Pythons without.
    ctypes = None  # type: ignore[assignment]

#: Bytes at the end of an arena's memory that may be free before they are given back: of a process that is there to serve,
#: and of any other, which may have many threads. The more a process has in hand at once, the more it takes to make a difference.
KEPT, KEPT_ELSEWHERE = 128 * 1024 * 1024, 8 * 1024 * 1024
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
    return ctypes.CDLL(None)


_is_decided = False


def note_large_message() -> None:
    """To be called for each message with a payload: the first one in a process makes it keep some, if nothing was decided yet."""
    if not _is_decided:
        keep_large_blocks(KEPT_ELSEWHERE)


def keep_large_blocks(kept: int = KEPT) -> bool:
    """Keep blocks of up to LARGEST_KEPT bytes for the next use. False where the C library is no glibc, or is set otherwise.

    For the whole process and its life; `kept` bytes at most in each arena. `IdleTrim` gives back what is kept while there is
    nothing to do.
    """
    global _is_decided
    _is_decided = True
    if ctypes is None or any(name in os.environ for name in VARIABLES):
        return False
    try:
        mallopt = _libc().mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(_M_TRIM_THRESHOLD, kept))


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
