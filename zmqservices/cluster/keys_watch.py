"""Notices changes of this process's keys, of revoked certificates, and of the policy, and reports them.

Only used with SECURITY. Files are checked by their time of change. Lists of revoked certificates also come with the directory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from discovery.security.files import fingerprint
from discovery.security.keys import Keys
from discovery.security.renewal import KeysFolderWatch
from zmqservices.exceptions import ConfigurationError
from zmqservices.security import policy
from zmqservices.security.policy import Policy
from zmqservices.transport.reactor import Reactor, ReactorTimer

_log = logging.getLogger(__name__)


class KeysWatch:
    """Checks the keys inside the reactor, every `interval` seconds from `start` on."""

    def __init__(self, reactor: Reactor, keys: Keys, interval: float) -> None:
        self._reactor = reactor
        self._keys = keys
        self._interval = interval
        self._folder = KeysFolderWatch(keys)
        self._generation, self._signed = keys.generation, keys.signed
        self._timer: ReactorTimer | None = None
        #: Called after a change, with whether this node's own certificate has changed.
        self.on_change: list[Callable[[bool], None]] = []
        #: Further functions to call at each look.
        self.also: list[Callable[[], None]] = []

    def start(self) -> None:
        self._timer = self._reactor.call_later(self._interval, self._turn)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        self.start()
        try:
            self.look()
        except Exception:
            _log.exception("the keys in %s could not be checked", self._keys.folder)

    def look(self) -> None:
        """Report changes since the last look."""
        self._folder.look()
        if self._generation != self._keys.generation:
            is_own = self._signed != self._keys.signed
            self._generation, self._signed = self._keys.generation, self._keys.signed
            for tell in self.on_change:
                tell(is_own)
        for look in self.also:
            look()


class PolicyWatch:
    """Reads the policy file again when it has changed. A wrong file changes nothing and is logged once."""

    def __init__(self, path: str, on_change: Callable[[Policy], None]) -> None:
        self._path = path
        self._on_change = on_change
        self._seen = fingerprint(path)

    def look(self) -> None:
        found = fingerprint(self._path)
        if found == self._seen:
            return
        self._seen = found
        try:
            changed = policy.load(self._path)
        except ConfigurationError as exc:
            _log.error("the changed policy is not used, and the former one holds: %s", exc)
            return
        _log.info("the policy in %s was read again", self._path)
        self._on_change(changed)
