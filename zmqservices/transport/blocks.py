"""The memory of large messages: from the first of them on it is kept for the next, and given back while there is nothing to do.

A process that never has a large message is left as it is. See `zmqservices.utils.allocator` for what this is worth, what it
holds, and how a program says that it wants it otherwise.
"""

from __future__ import annotations

import os

from zmqservices.transport.native import sleep, start_thread
from zmqservices.utils import allocator

#: Seconds between two looks whether there is nothing to do.
LOOK = 5.0

_is_tended = False


def tend() -> None:
    """To be called for each large message, and by whoever expects many; only the first call in a process does something."""
    global _is_tended
    if _is_tended:
        return
    _is_tended = True
    try:
        start_thread(_look_on)
    except RuntimeError:
        pass  # No thread is to be had, or the interpreter is going down: then nothing is kept.


def _look_on() -> None:
    if allocator.keep_large_blocks():
        trim = allocator.IdleTrim()
        while True:
            sleep(LOOK)
            trim.look()


def _begin_anew() -> None:
    # A fork has the settings, and not the thread.
    global _is_tended
    _is_tended = False


os.register_at_fork(after_in_child=_begin_anew)
