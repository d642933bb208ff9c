"""Keeps the lists of revoked certificates in an engine and in this process equal.

Rule 1: a list in an engine is believed only if `discovery.security.renewal.learn` believes it.
Rule 2: if an engine lacks a list, or has an older version, every process that notices writes it there.
Rule 3: a value that is no list of an authority is logged once.
"""

from __future__ import annotations

from collections.abc import Iterable

from discovery.exceptions import SecurityError
from discovery.native import Log
from discovery.security.keys import Keys
from discovery.security.renewal import learn, lists_of

_log = Log(__name__)

#: The most different reasons that are logged for one engine, each once.
MOST_TOLD = 10


class RevocationExchange:
    """Used on the directory's own thread. Each method returns the lists that must be offered to the engine at `where`."""

    def __init__(self, keys: Keys, where: str) -> None:
        self._keys = keys
        self._where = where
        #: The generation of the keys whose lists the engine has.
        self._generation = -1
        self._told: set[str] = set()

    def opened(self, found: Iterable[bytes]) -> list[bytes]:
        """The engine has been read, and has these lists."""
        held = list(found)
        for signed in held:
            self._learn(signed)
        self._generation = self._keys.generation
        return [signed for signed in lists_of(self._keys) if signed not in held]

    def came(self, signed: bytes) -> list[bytes]:
        """The engine has this list now, in place of another one; b"" if the list was deleted."""
        if signed:
            is_in_step = self._generation == self._keys.generation
            self._learn(signed)
            if is_in_step:
                self._generation = self._keys.generation
        lists = lists_of(self._keys)
        return [] if signed in lists else lists

    def due(self) -> list[bytes]:
        """To be called from time to time: this process may have learned of a list elsewhere."""
        if self._generation == self._keys.generation:
            return []
        self._generation = self._keys.generation
        return lists_of(self._keys)

    def _learn(self, signed: bytes) -> None:
        try:
            learn(self._keys, [signed])
        except SecurityError as exc:
            why = str(exc)
            if why not in self._told and len(self._told) < MOST_TOLD:
                self._told.add(why)
                _log.warning("passed over a list of revoked certificates from %s: %s", self._where, why)
