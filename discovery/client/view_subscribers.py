"""The callbacks that are called with each changed view.

Internal. Used on the directory's own thread only.
"""

from __future__ import annotations

from collections.abc import Callable

from discovery.backend import Callback
from discovery.model import View
from discovery.native import Log

_log = Log(__name__)


class ViewSubscribers:
    """All callbacks of the directory `name`, each by a token."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._callbacks: dict[object, Callback] = {}
        self._to_call: set[object] = set()

    def add(self, token: object, callback: Callback) -> None:
        """Calls `callback` at the end of this round, and after each change."""
        self._callbacks[token] = callback
        self._to_call.add(token)

    def remove(self, token: object) -> None:
        """Does not call this callback any more."""
        self._callbacks.pop(token, None)

    def has_changed(self) -> None:
        """The view has changed: all callbacks must be called."""
        self._to_call.update(self._callbacks)

    def call(self, view: Callable[[], View]) -> None:
        """Calls the callbacks that are due. An exception of one of them is logged."""
        if not self._to_call:
            return
        tokens, self._to_call = self._to_call, set()
        current = view()
        for token in tokens:
            callback = self._callbacks.get(token)
            if callback is None:
                continue
            try:
                callback(current)
            except Exception:
                _log.exception("a subscriber of directory %s failed", self._name)
