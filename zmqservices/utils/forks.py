"""Marks objects of a parent process in its forked child.

Internal.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

Member = TypeVar("Member")


class ForkHook(Generic[Member]):
    """Calls `callback(member)` in every forked child, for each member that is alive. Members are held weakly.

        _clients = ForkHook(Client.refuse_calls)
        _clients.add(client)

    The callback marks the copy as unusable, so that uses need not check for a fork. It must not block, because threads and
    sockets of the parent do not exist in the child.
    """

    def __init__(self, callback: Callable[[Member], None]) -> None:
        self._callback = callback
        self._members: weakref.WeakSet[Member] = weakref.WeakSet()
        os.register_at_fork(after_in_child=self._call_all)

    def add(self, member: Member) -> None:
        """From now on also call the callback for `member` in all forks."""
        self._members.add(member)

    def _call_all(self) -> None:
        for member in list(self._members):
            self._callback(member)
