"""The resources of a process: memory, files, threads, greenlets, objects. Linux only."""

from __future__ import annotations

import gc
import os


def rss_of(pid: int) -> float:
    """Resident memory in MiB; 0 for a process that has ended."""
    try:
        with open(f"/proc/{pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def files_of(pid: int) -> int:
    """Open file descriptors; 0 for a process that has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def threads_of(pid: int) -> int:
    """Native threads; 0 for a process that has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def vitals() -> dict[str, int]:
    """The greenlets and objects of this process. Takes milliseconds, since it looks at every object."""
    from greenlet import greenlet

    objects = gc.get_objects()
    return {"greenlets": sum(1 for each in objects if isinstance(each, greenlet)), "objects": len(objects)}
