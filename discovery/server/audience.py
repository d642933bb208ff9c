"""Which subscribers a change is of interest to: an index from the keys of records to connections.

Rule 1: no sockets, no clock here.
Rule 2: the cost of a look-up grows with the subscribers that it finds, not with all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeVar

from discovery.interest import Interest

#: Namespace (None: all namespaces) and key.
_Place = tuple[str | None, str]
_Key = TypeVar("_Key")


class Audience:
    """All subscribers, by the keys of their interest."""

    def __init__(self) -> None:
        #: The number of keys in the interests of all connections together.
        self.keys = 0
        self._subscriptions: dict[bytes, tuple[str | None, Interest]] = {}
        #: Subscribers of everything in a namespace (None: in all namespaces).
        self._of_all: dict[str | None, dict[bytes, None]] = {}
        self._of_key: dict[_Place, dict[bytes, None]] = {}

    def add(self, peer: bytes, namespace: str | None, interest: Interest) -> None:
        """Adds a connection, or replaces its subscription."""
        self.remove(peer)
        self._subscriptions[peer] = (namespace, interest)
        if interest is None:
            self._of_all.setdefault(namespace, {})[peer] = None
        else:
            self._enter(peer, namespace, interest)

    def extend(self, peer: bytes, more: Collection[str]) -> frozenset[str]:
        """Adds keys to the interest of a subscriber, which must not be everything. Returns those that are new."""
        namespace, interest = self._subscriptions[peer]
        assert interest is not None
        news = frozenset(more) - interest
        self._subscriptions[peer] = (namespace, interest | news)
        self._enter(peer, namespace, news)
        return news

    def remove(self, peer: bytes) -> None:
        """Removes the subscription of a connection, if it has one."""
        if peer not in self._subscriptions:
            return
        namespace, interest = self._subscriptions.pop(peer)
        if interest is None:
            _drop(self._of_all, namespace, peer)
            return
        self.keys -= len(interest)
        for key in interest:
            _drop(self._of_key, (namespace, key), peer)

    def of(self, namespace: str, keys: Iterable[str] | None) -> list[bytes]:
        """The subscribers of a record of the namespace with these keys (None: its keys are unknown, so all of the namespace)."""
        if keys is None:
            return [peer for peer, (wanted, _) in self._subscriptions.items() if wanted in (None, namespace)]
        found = {**self._of_all.get(namespace, {}), **self._of_all.get(None, {})}
        for key in keys:
            for place in ((namespace, key), (None, key)):
                found.update(self._of_key.get(place, {}))
        return list(found)

    def _enter(self, peer: bytes, namespace: str | None, keys: frozenset[str]) -> None:
        self.keys += len(keys)
        for key in keys:
            self._of_key.setdefault((namespace, key), {})[peer] = None


def _drop(index: dict[_Key, dict[bytes, None]], place: _Key, peer: bytes) -> None:
    del index[place][peer]
    if not index[place]:
        del index[place]
