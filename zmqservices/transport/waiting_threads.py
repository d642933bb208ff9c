"""The threads that wait for one completion of a `BlockingReactor`: usually one, and sometimes several.

The reactor holds a lock around `join` and `part`, because several threads may wait for one completion.
"""

from __future__ import annotations

from zmqservices.transport.reactor import Completion
from zmqservices.utils.native_threads import NativeLock, release


class WaitingThreads:
    """The locks of several threads that wait for one completion. They are released together."""

    __slots__ = ("locks",)

    def __init__(self, first: NativeLock) -> None:
        self.locks = [first]

    def release(self) -> None:
        for lock in list(self.locks):
            release(lock)


def join(completion: Completion, stage: int, lock: NativeLock) -> None:
    """The thread that waits for `lock` waits until `completion` reaches `stage`."""
    if completion.waiter is None:
        completion.awaited = stage
        completion.waiter = lock
        return
    completion.awaited = min(stage, completion.awaited)
    if not isinstance(completion.waiter, WaitingThreads):
        completion.waiter = WaitingThreads(completion.waiter)
    completion.waiter.locks.append(lock)


def part(completion: Completion, lock: NativeLock) -> None:
    """The thread that waits for `lock` no longer waits for `completion`."""
    waiter = completion.waiter
    if waiter is lock:
        completion.waiter = None
    elif isinstance(waiter, WaitingThreads) and lock in waiter.locks:
        waiter.locks.remove(lock)
        if not waiter.locks:
            completion.waiter = None
