"""The leases of one session with etcd: one for each ttl, under which records and locks are put."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from discovery.backends.etcd.gateway import NOT_FOUND, EtcdFailure, EtcdGateway
from discovery.client.locks import TRUSTED, lock_time

Done = TypeVar("Done")


class _Lease:
    __slots__ = ("granted", "id", "renewed")

    def __init__(self, lease_id: str, granted: float, renewed: float) -> None:
        self.id = lease_id
        self.granted = granted
        #: When the last renewal that etcd answered was sent, by `lock_time`.
        self.renewed = renewed


class EtcdLeases:
    """Leases by the whole seconds that they were asked for. Used by the thread that writes."""

    def __init__(self) -> None:
        self._leases: dict[int, _Lease] = {}
        #: The whole seconds of the lease that each instance of this process was put under.
        self.leased: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._leases)

    def under(self, gateway: EtcdGateway, seconds: float, do: Callable[[str], Done]) -> Done:
        """Calls `do` with the id of a lease of that many seconds, rounded up. Once more with a new one if it has run out."""
        whole = max(1, math.ceil(seconds))
        try:
            return do(self._lease(gateway, whole))
        except EtcdFailure as exc:
            if exc.code != NOT_FOUND:
                raise
        # It has just run out. `keep` reports the other instances that were under it.
        self._leases.pop(whole, None)
        return do(self._lease(gateway, whole))

    def _lease(self, gateway: EtcdGateway, whole: int) -> str:
        if whole not in self._leases:
            asked = lock_time()
            answer = gateway.ask("/v3/lease/grant", {"TTL": str(whole)})
            self._leases[whole] = _Lease(answer["ID"], float(answer["TTL"]), asked)
        return self._leases[whole].id

    def trusted_until(self, seconds: float) -> float:
        """The `lock_time` until which a lock under this lease counts as held."""
        lease = self._leases[max(1, math.ceil(seconds))]
        return lease.renewed + lease.granted * TRUSTED

    def renew(self, gateway: EtcdGateway) -> list[str]:
        """Renews all leases, and returns the instances that were under a lease that has run out."""
        lost: list[str] = []
        for whole, lease in list(self._leases.items()):
            asked = lock_time()
            answer = gateway.ask("/v3/lease/keepalive", {"ID": lease.id})
            if int(answer.get("result", {}).get("TTL", 0)) <= 0:
                del self._leases[whole]
                lost += [instance for instance, leased in self.leased.items() if leased == whole]
            else:
                lease.renewed = asked
        return lost

    def id_for(self, instance: str) -> str:
        """The id of the lease that an instance of this process should be under; empty if it has run out."""
        lease = self._leases.get(self.leased[instance])
        return "" if lease is None else lease.id

    def shortest(self) -> float:
        """Seconds that the shortest lease was granted; infinite if there is none."""
        return min((lease.granted for lease in self._leases.values()), default=math.inf)
