"""Who serves a service, as one process sees it: the instances that the directory lists and the links that stand."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Any

from zmqservices.resilience.balance import Load, choose


class Instance:
    """One instance of one service, reached over the link of its node."""

    __slots__ = ("record", "peer", "load", "listed", "left", "pool")

    def __init__(self, record: Any, peer: Any, pool: ServicePool) -> None:
        self.record = record
        self.peer = peer
        self.pool = pool
        self.load = Load()
        #: The directory still shows it. One that it dropped is used for as long as its link stands: connections decide.
        self.listed = True
        #: It said BYE: nothing more is sent there.
        self.left = False

    @property
    def may_be_asked(self) -> bool:
        return self.peer.is_up and not self.peer.is_full and not self.left and self.record.state == "UP"

    def is_idempotent(self, method: str) -> bool:
        entry = self.record.methods.get(method)
        if entry is None:
            return method in self.peer.idempotent.get(self.record.service, ())
        return bool(entry.get("idempotent"))


class ServicePool:
    """The instances of one service, and the calls that wait for one."""

    __slots__ = ("service", "instances", "ready", "suspects", "waiting")

    def __init__(self, service: str) -> None:
        self.service = service
        self.instances: dict[str, Instance] = {}
        #: Those that may be asked; rebuilt when something changed, so that a call only has to choose.
        self.ready: list[Instance] = []
        #: Linked, but silent for longer than the heartbeat allows: asked only when there is nobody else.
        self.suspects: list[Instance] = []
        self.waiting: deque[Any] = deque()

    def refresh(self) -> None:
        """Sort the instances anew after a link, a record or a suspicion changed."""
        able = [instance for instance in self.instances.values() if instance.may_be_asked]
        self.ready = [instance for instance in able if not instance.peer.is_suspect]
        self.suspects = [instance for instance in able if instance.peer.is_suspect]

    def pick(self, now: float, avoid: Collection[Instance] = ()) -> Instance | None:
        """The instance to ask, or None when there is none besides those to avoid."""
        for candidates in (self.ready, self.suspects):
            if avoid:
                candidates = [instance for instance in candidates if instance not in avoid]
            if candidates:
                return choose(candidates, now)
        return None

    def why_nobody(self) -> str:
        """For an error text: what stands in the way of asking the instances that are known."""
        parts = []
        for instance in self.instances.values():
            record = instance.record
            parts.append(f"{record.instance} at {instance.peer.endpoint} is {instance.peer.condition(instance)}")
        return "; ".join(parts[:5]) + (f"; and {len(parts) - 5} more" if len(parts) > 5 else "")
