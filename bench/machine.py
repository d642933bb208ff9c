"""What every line of the results says of where it was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from functools import cache
from typing import Any

from bench.processes import HOME

LIBRARIES = ("pyzmq", "gevent", "greenlet", "msgpack")


@cache
def facts() -> dict[str, Any]:
    """Machine, interpreter, libraries and commit; the same for a whole run."""
    import zmq

    return {
        "machine": {
            "cores": os.cpu_count(),
            "usable_cores": len(os.sched_getaffinity(0)),
            "processor": _processor(),
            "system": f"{platform.system()} {platform.release()}",
            "architecture": platform.machine(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        },
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES} | {"libzmq": zmq.zmq_version()},
        "commit": _commit(),
        "day": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as cpuinfo:
            for line in cpuinfo:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _commit() -> str | None:
    """The short commit, with "+" where files differ from it; None outside a work tree."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=HOME, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
