"""Chooses the public key that the next handshake expects, where a server may hold one of several. Pure.

Internal.
"""

from __future__ import annotations


class KeyChoice:
    """The keys that one server may hold. The key that it has proven before comes first: most likely it still holds it."""

    def __init__(self, keys: tuple[bytes, ...] = ()) -> None:
        self.keys = keys
        #: The key for the next handshake; empty if there are no keys.
        self.key = keys[0] if keys else b""
        self._failed = 0

    def offer(self, keys: tuple[bytes, ...]) -> None:
        """The server may hold one of these keys from now on."""
        if keys == self.keys:
            return
        self.keys, self._failed = keys, 0
        if self.key not in keys:
            self.key = keys[0] if keys else b""

    def try_next(self) -> bool:
        """Choose the next key after a failed handshake. False once every key has failed since the last success."""
        if not self.keys:
            return False
        self._failed += 1
        self.key = self.keys[(self.keys.index(self.key) + 1) % len(self.keys)]
        if self._failed < len(self.keys):
            return True
        self._failed = 0
        return False

    def succeeded(self) -> None:
        """The server has proven the chosen key."""
        self._failed = 0
