"""The greenlets, and threads other than the hub's, that wait for one completion of a `HubReactor`.

Usually a single greenlet waits. Everything but making an Outsider, and waiting for it, runs on the hub.
"""

from __future__ import annotations

from typing import Protocol

from zmqservices.transport.handover import Bell
from zmqservices.transport.reactor import Completion


class SwitchedTo(Protocol):
    """A waiter that is woken by a switch: a greenlet, or an Outsider in its place."""

    def switch(self) -> object:
        """Called on the hub when the completion has advanced."""


class WaitingGreenlets:
    """Several greenlets that wait for one completion. It stands in the place of the usual single greenlet."""

    __slots__ = ("greenlets",)

    def __init__(self, first: SwitchedTo) -> None:
        self.greenlets = [first]

    @classmethod
    def join(cls, completion: Completion, greenlet: SwitchedTo) -> None:
        if not isinstance(completion.waiter, WaitingGreenlets):
            completion.waiter = cls(completion.waiter)
        completion.waiter.greenlets.append(greenlet)

    def switch(self) -> None:
        """Switch to all greenlets that wait at this moment."""
        for greenlet in tuple(self.greenlets):
            if greenlet in self.greenlets:
                greenlet.switch()


class Outsider:
    """A thread that waits for a completion of another thread's hub, in place of a greenlet."""

    __slots__ = ("_completion", "_stage", "_bell")

    def __init__(self, completion: Completion, stage: int) -> None:
        self._completion, self._stage = completion, stage
        self._bell = Bell()

    def join(self) -> None:
        """Called on the hub: from now on a change of the completion wakes the thread."""
        if self._completion.stage >= self._stage:
            self._bell.ring()
        else:
            join(self._completion, self._stage, self)

    def switch(self) -> None:
        """Called on the hub when the completion has advanced."""
        if self._completion.stage >= self._stage:
            part(self._completion, self)
            self._bell.ring()

    def part(self) -> None:
        """Called on the hub when the thread stops waiting."""
        waiter = self._completion.waiter
        if waiter is self or isinstance(waiter, WaitingGreenlets) and self in waiter.greenlets:
            part(self._completion, self)

    def let_go(self) -> None:
        """Called when the reactor is closed: wake the thread."""
        self._bell.ring()

    def wait(self, timeout: float | None) -> bool:
        return self._bell.wait(timeout)


def join(completion: Completion, stage: int, waiter: SwitchedTo) -> None:
    """Switch to `waiter` once `completion` has reached `stage`."""
    if completion.waiter is None:
        completion.awaited = stage
        completion.waiter = waiter
    else:
        completion.awaited = min(stage, completion.awaited)
        WaitingGreenlets.join(completion, waiter)


def part(completion: Completion, waiter: object) -> None:
    """`waiter` no longer waits for `completion`."""
    if completion.waiter is waiter:
        completion.waiter = None
    else:
        completion.waiter.greenlets.remove(waiter)
