"""Notices when the instance begins or stops leading. There is one watch for each container and name.

Internal. Services use `zmqservices.leadership`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gevent.event import Event

from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import SharedExtension
from zmqservices.leadership.candidacy import Candidacy

_log = logging.getLogger(__name__)

#: Seconds between two looks. A change of the directory, or the end of a lock, is noticed at the next look.
LOOK = 0.1


class LeadershipWatch(SharedExtension):
    """The candidacy for `name`, and callbacks for its changes."""

    candidacy = Candidacy()

    def __init__(self, name: str) -> None:
        super().__init__()
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"the name of a leadership is {name!r:.80}; a text is needed, such as \"leader\"")
        self.name = name
        #: Called without arguments when the instance begins to lead, and when it stops. They must not block.
        self.gained: list[Callable[[], None]] = []
        self.lost: list[Callable[[], None]] = []
        self._is_stopping = Event()
        #: Whether the instance led at the last look, and its token then.
        self._led: tuple[bool, int | None] = (False, None)

    @property
    def sharing_key(self) -> tuple[type, str]:
        """The container has one watch for each name."""
        return type(self), self.name

    def start(self) -> None:
        self.candidacy.campaign(self.name)
        if self.gained or self.lost:
            self.container.spawn_managed_thread(self._run, identifier=f"leadership {self.name}")

    def stop(self) -> None:
        self._is_stopping.set()

    def kill(self) -> None:
        self._is_stopping.set()

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            self._look()
            self._is_stopping.wait(LOOK)

    def _look(self) -> None:
        was, leads = self._led, (self.candidacy.is_leader(), self.candidacy.token())
        self._led = leads
        if was == leads:
            return
        # Another token means that another instance may have led in between.
        if was[0]:
            _log.info("ceased to lead %s (token %s)", self.name, was[1])
            self._tell(self.lost)
        if leads[0]:
            _log.info("leads %s (token %s)", self.name, leads[1])
            self._tell(self.gained)

    @staticmethod
    def _tell(callbacks: list[Callable[[], None]]) -> None:
        for callback in callbacks:
            callback()
