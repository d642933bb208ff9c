"""Retries a failed function, with growing pauses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast

from gevent import sleep

__all__ = ["retry"]

ExceptionTypes: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]


def retry(
    for_exceptions: ExceptionTypes | Callable[..., Any] = Exception,
    max_attempts: int | None = 3,
    delay: float = 1,
    backoff: float = 1,
    max_delay: float | None = None,
) -> Any:
    """Decorator: call the function again when it raises one of `for_exceptions`.

    It is retried at most `max_attempts` times (None: for ever), after a pause of `delay` seconds that grows by the factor
    `backoff` up to `max_delay`. Then the last error is raised. Use it as `@retry` or `@retry(ConnectionError, delay=0.1)`.
    """
    if callable(for_exceptions) and not isinstance(for_exceptions, type):
        return retry()(for_exceptions)
    errors = cast(ExceptionTypes, for_exceptions)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def trying(*args: object, **kwargs: object) -> Any:
            for pause in _pauses(max_attempts, delay, backoff, max_delay):
                try:
                    return function(*args, **kwargs)
                except errors:
                    # Looked up in this module, so that tests can replace it.
                    sleep(pause)
            return function(*args, **kwargs)

        return trying

    return decorate


def _pauses(attempts: int | None, delay: float, backoff: float, max_delay: float | None) -> Iterator[float]:
    made = 0
    while attempts is None or made < attempts:
        yield delay if max_delay is None else min(delay, max_delay)
        delay *= backoff
        made += 1
