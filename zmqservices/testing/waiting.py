"""Waits in a test for a call of any object's method.

    with wait_for_call(courier, "deliver", callback=lambda args, kwargs, result, exc_info: args == (7,)) as result:
        order(7)
    assert result.get() == "delivered"
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from gevent.event import Event

__all__ = ["WaitResult", "wait_for_call"]

ExcInfo = tuple[Any, Any, Any]
_NOTHING = object()


class WaitResult:
    """The first outcome of the awaited calls. Later outcomes are ignored."""

    class NotReady(Exception):
        """There is no outcome yet."""

    def __init__(self) -> None:
        self.res: Any = _NOTHING
        self.exc_info: ExcInfo | None = None

    @property
    def has_result(self) -> bool:
        """Whether there is an outcome: a result or an error."""
        return self.res is not _NOTHING or self.exc_info is not None

    def send(self, res: object, exc_info: ExcInfo | None) -> None:
        """Set the outcome, unless it is set."""
        if not self.has_result:
            self.res, self.exc_info = res, exc_info

    def get(self) -> Any:
        """The result. Raises the error if the call failed, and `WaitResult.NotReady` if there is no outcome yet."""
        if not self.has_result:
            raise WaitResult.NotReady("nothing has been called yet; `get` is for after the block")
        if self.exc_info is not None:
            raise self.exc_info[1].with_traceback(self.exc_info[2])
        return self.res


@contextmanager
def wait_for_call(
    obj: object, target: str, callback: Callable[[Any, Any, Any, ExcInfo | None], Any] | None = None
) -> Iterator[WaitResult]:
    """A `with` block that ends only when the method `target` of `obj` was called in it, and has returned or raised.

    With `callback(args, kwargs, result, exc_info)`, only a call for which the callback returns true counts. If the block raises,
    its error is raised at once. There is no time limit; use `gevent.Timeout`.
    """
    result, called = WaitResult(), Event()
    original = getattr(obj, target)

    @functools.wraps(original, assigned=(), updated=())
    def watched(*args: object, **kwargs: object) -> Any:
        returned, exc_info = None, None
        try:
            returned = original(*args, **kwargs)
            return returned
        except Exception:
            exc_info = sys.exc_info()
            raise
        finally:
            if callback is None or callback(args, kwargs, returned, exc_info):
                result.send(returned, exc_info)
                called.set()

    with patch.object(obj, target, new=watched):
        yield result
        called.wait()
