"""Greenlets that belong to a container: they have names, are killed with the container, and kill it if they fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from gevent import Greenlet, GreenletExit, getcurrent, joinall, killall

from zmqservices.worker_context import ExcInfo, exc_info_of

_log = logging.getLogger(__name__)

#: The most seconds of waiting for killed threads.
KILL_GRACE = 1.0


class ManagedThread(Greenlet):
    """A greenlet whose error is kept for `get` and `wait`, and reported to its container instead of stderr."""

    def __init__(
        self, function: Callable[[], Any], failed: Callable[[ManagedThread], object], ended: Callable[[ManagedThread], object]
    ) -> None:
        super().__init__()
        self._function = function
        self._failed = failed
        self._ended = ended
        # Also called if the greenlet is killed before it ever ran.
        self.rawlink(ended)
        self.failure: ExcInfo | None = None

    def _run(self) -> Any:
        try:
            return self._function()
        except GreenletExit:
            raise
        except Exception as exc:
            self.failure = exc_info_of(exc)
            self._failed(self)
        finally:
            self._ended(self)
        return None

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return the function's result, or raise its error."""
        value = super().get(block, timeout)
        if self.failure is not None:
            raise self.failure[1]
        return value

    wait = get


class ManagedThreads(dict[ManagedThread, str]):
    """The living threads of one container, and their identifiers."""

    def __init__(self, kill_container: Callable[[ExcInfo | None], object]) -> None:
        super().__init__()
        self._kill_container = kill_container

    def spawn(self, function: Callable[[], Any], identifier: str | None = None) -> ManagedThread:
        """Run `function` in a greenlet; see `ServiceContainer.spawn_managed_thread`."""
        thread = ManagedThread(function, self._thread_failed, self._remove)
        self[thread] = str(identifier or getattr(function, "__name__", "<unknown>"))
        thread.start()
        return thread

    def _remove(self, thread: ManagedThread) -> None:
        self.pop(thread, None)

    def _thread_failed(self, thread: ManagedThread) -> None:
        identifier = self.pop(thread, "<unknown>")
        _log.critical("managed thread %s failed", identifier, exc_info=thread.failure)
        self._kill_container(thread.failure)

    def kill_all(self) -> None:
        """Raise GreenletExit in every thread but the current one, and wait shortly for their end."""
        current = getcurrent()
        threads = {thread: identifier for thread, identifier in self.items() if thread is not current}
        if threads:
            _log.warning("killing managed threads: %s", ", ".join(sorted(threads.values())))
            killall(list(threads), block=False)
            joinall(list(threads), timeout=KILL_GRACE)
        self.clear()
