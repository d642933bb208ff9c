"""Calls an application's own `handle_result` of an entrypoint, so that the caller gets an answer whatever it does.

    class Counted(Rpc):
        def handle_result(self, message, worker_ctx, result, exc_info):
            return super().handle_result(message, worker_ctx, self.count(result), exc_info)

Rule 1: it is called with the outcome of each method that ran, and not for calls that never began.
Rule 2: an error that it raises becomes the outcome.
Rule 3: if it does not call the base class's `handle_result`, its return value is the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from gevent import GreenletExit

from zmqservices.worker_context import OVER, Container, Outcome, WorkerContext, exc_info_of

_log = logging.getLogger(__name__)


class HandlesResults(Protocol):
    """An entrypoint with a `handle_result`."""

    container: Container

    @property
    def handle_result(self) -> Callable[..., Outcome]: ...


def is_overridden(entrypoint: HandlesResults, base: type) -> bool:
    """Whether `entrypoint` has another `handle_result` than that of `base`."""
    own = getattr(type(entrypoint), "handle_result", None)
    return own is not base.handle_result or "handle_result" in vars(entrypoint)  # type: ignore[attr-defined]


def never_began(worker_ctx: WorkerContext) -> bool:
    """Whether the method of the call never ran. (Then the outcome may come in the hub's greenlet.)"""
    return bool(worker_ctx._phase == OVER)


def outcome_of(entrypoint: HandlesResults, *arguments: object) -> Outcome:
    """The outcome after the entrypoint's own `handle_result`: `(result, exc_info)`, with its own error if it raises."""
    try:
        outcome = entrypoint.handle_result(*arguments)
        if not isinstance(outcome, tuple) or len(outcome) != 2:
            raise TypeError(f"handle_result of {entrypoint!r} returned {outcome!r:.80}; (result, exc_info) is needed")
        return outcome
    except BaseException as exc:
        if isinstance(exc, GreenletExit) and entrypoint.container._being_killed:
            raise
        _log.error("handle_result of %r failed: %s", entrypoint, exc, exc_info=exc)
        return None, exc_info_of(exc)
