"""What becomes of a standalone client, or dispatcher, that is collected and was never stopped.

Internal. Programs use `zmqservices.standalone.rpc` and `zmqservices.standalone.events`.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import Any

from zmqservices.utils.native_threads import start_thread


def let_go_of(owner: object, stop: Callable[[], object], what: str) -> weakref.finalize[Any, Any]:
    """Call `stop`, which must not lead to `owner`, when `owner` is collected; `detach` what is returned where it is stopped.

    Garbage is collected anywhere, also in the midst of a call or under a lock, so a thread of its own does it. At the
    interpreter's end nothing is done: the operating system takes everything back.
    """
    finalizer = weakref.finalize(owner, _stop, stop, what)
    finalizer.atexit = False
    return finalizer


def _stop(stop: Callable[[], Any], what: str) -> None:
    try:
        start_thread(stop)
    except RuntimeError:
        pass  # No thread can be made any more: the interpreter ends.
    warnings.warn(f"{what} was never stopped; use it in a with block, or call its stop()", ResourceWarning, stacklevel=2)
