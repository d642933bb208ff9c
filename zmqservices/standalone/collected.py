"""Stops standalone clients and dispatchers that are garbage-collected and were never stopped.

Internal. Programs use `zmqservices.standalone.rpc` and `zmqservices.standalone.events`.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import Any

from zmqservices.utils.native_threads import start_thread


def let_go_of(owner: object, stop: Callable[[], object], what: str) -> weakref.finalize[Any, Any]:
    """Call `stop` when `owner` is garbage-collected. Whoever stops `owner` must `detach` the returned finalizer.

    `stop` must not refer to `owner`. Objects are collected anywhere, also in the middle of a call or under a lock, so a separate
    thread calls `stop`. Nothing is done at the interpreter's end, because the operating system frees everything.
    """
    finalizer = weakref.finalize(owner, _stop, stop, what)
    finalizer.atexit = False
    return finalizer


def _stop(stop: Callable[[], Any], what: str) -> None:
    try:
        start_thread(stop)
    except RuntimeError:
        pass  # No thread can be made any more, because the interpreter ends.
    warnings.warn(f"{what} was never stopped; use it in a with block, or call its stop()", ResourceWarning, stacklevel=2)
