"""`@leadership_gained` and `@leadership_lost`: methods that run when an instance begins or stops leading.

Internal. Services use `zmqservices.leadership`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from zmqservices.exceptions import ContainerBeingKilled
from zmqservices.extensions import Entrypoint, EntrypointOptions
from zmqservices.leadership.watch import LeadershipWatch


class LeadershipChange(Entrypoint):
    """The base of both decorators."""

    takes_generators = False
    what = ""

    def __init__(self, name: str = "leader", **kwargs: Unpack[EntrypointOptions]) -> None:
        super().__init__(**kwargs)
        self.watch = LeadershipWatch(name)
        self._is_stopping = False

    def listed(self) -> dict[str, Any]:
        return {"kind": "leadership", "what": f"{self.what} {self.watch.name}"}

    def callbacks(self) -> list[Callable[[], None]]:
        """The list of the watch's callbacks to which this entrypoint belongs."""
        raise NotImplementedError

    def setup(self) -> None:
        self.callbacks().append(self._changed)

    def stop(self) -> None:
        self._is_stopping = True

    def kill(self) -> None:
        self._is_stopping = True

    def _changed(self) -> None:
        if self._is_stopping:
            return
        try:
            self.container.submit(self, (), {})
        except ContainerBeingKilled:
            self._is_stopping = True


class LeadershipGained(LeadershipChange):
    """Runs a method each time that the instance begins to lead `name`, within 0.1 s.

    When the method runs, the instance may no longer lead: check `Leadership` if that matters. A failed method is not run again.
    If changes follow quickly, methods of both kinds may run at the same time.
    """

    what = "gained"

    def callbacks(self) -> list[Callable[[], None]]:
        return self.watch.gained


class LeadershipLost(LeadershipChange):
    """Runs a method each time that the running instance stops leading `name`, within 0.1 s.

    It does not run when the service stops, because the instance then resigns after its last worker has ended.
    """

    what = "lost"

    def callbacks(self) -> list[Callable[[], None]]:
        return self.watch.lost


leadership_gained = LeadershipGained.decorator
leadership_lost = LeadershipLost.decorator
