"""Calls a method on many objects concurrently, each in a separate greenlet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gevent import Greenlet, get_hub, iwait, killall, spawn

from zmqservices.exceptions import ZmqServicesError

__all__ = ["SpawningProxy", "SpawningSet", "fail_fast_imap", "in_thread"]

_log = logging.getLogger(__name__)


def fail_fast_imap(pool: Any, call: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Yields the results of `call(item)` in the order of the items; each call runs in a greenlet of `pool.spawn`.

    When a call raises, the other calls are killed and its error is raised here.
    """
    outcomes = [pool.spawn(_outcome_of, call, item) for item in items]
    try:
        for done in iwait(outcomes):
            _raise_error_of(done)
        yield from [greenlet.get()[0] for greenlet in outcomes]
    finally:
        killall([greenlet for greenlet in outcomes if not greenlet.dead])


def _outcome_of(call: Callable[[Any], Any], item: object) -> tuple[Any, BaseException | None]:
    try:
        return call(item), None
    except Exception as exc:
        # Returned as a value: otherwise gevent would print the traceback as well.
        return None, exc


def in_thread(function: Callable[..., Any], *args: object, **kwargs: object) -> Any:
    """Run a blocking function in a native thread while other greenlets run. Returns its result, or raises its error.

    Unlike gevent's `threadpool.apply`, it does not also print the traceback of an error.
    """
    value, error = get_hub().threadpool.apply(_outcome_of, (lambda _: function(*args, **kwargs), None))
    if error is not None:
        raise error
    return value


def _raise_error_of(done: Greenlet) -> None:
    outcome = done.get()
    if isinstance(outcome, BaseException):
        raise outcome
    if outcome[1] is not None:
        raise outcome[1]


class _Spawner:
    spawn = staticmethod(spawn)


class SpawningProxy:
    """Calling a method of the proxy calls it on every item concurrently, and returns the results once all have ended.

    If calls raise, the first error is raised once all have ended, and the others are logged. With `abort_on_error` the
    first error is raised at once, and the other calls are killed.
    """

    def __init__(self, items: Iterable[Any], abort_on_error: bool = False) -> None:
        self._items = items
        self.abort_on_error = abort_on_error

    def __getattr__(self, name: str) -> Callable[..., list[Any]]:
        def call_all(*args: object, **kwargs: object) -> list[Any]:
            def call(item: object) -> Any:
                return getattr(item, name)(*args, **kwargs)

            items = list(self._items)
            if self.abort_on_error:
                return list(fail_fast_imap(_Spawner, call, items))
            return _call_all(call, items)

        return call_all


def _call_all(call: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    outcomes = [spawn(_outcome_of, call, item) for item in items]
    first: BaseException | None = None
    for done in iwait(outcomes):
        error = done.get()[1]
        if error is not None and first is None:
            first = error
        elif error is not None and (type(error), str(error)) != (type(first), str(first)):
            # Errors of this package explain themselves; others need their traceback.
            _log.error("one of several failed too: %s", error, exc_info=None if isinstance(error, ZmqServicesError) else error)
    if first is not None:
        raise first
    return [greenlet.get()[0] for greenlet in outcomes]


class SpawningSet(set[Any]):
    """A set whose `all` calls a method on every item concurrently: `extensions.all.start()`."""

    @property
    def all(self) -> SpawningProxy:
        """A `SpawningProxy` of all items."""
        return SpawningProxy(self)
