"""The leases of one process with etcd, one for each ttl, and the records that it has put under them. They outlive sessions.

Rule 1: a session that follows a failed one renews the leases first. Records that are still under them are not written again:
when etcd is overloaded, that would have it tell all clients of changes that are none.
Rule 2: each session works on a copy of its predecessor's. A session that was given up may wait for an answer for many seconds
more; what it learns then does not count. It only tells the present session which record etcd may have written late.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from discovery.backends.etcd.member import NOT_FOUND, EtcdFailure, EtcdMember
from discovery.backends.etcd.writes import (
    GRANT,
    KEEP_ALIVE,
    TIME_TO_LIVE,
    decode_keys,
    decode_lease,
    encode_grant,
    encode_keep_alive,
    encode_time_to_live,
)
from discovery.client.locks import TRUSTED, lock_time

Done = TypeVar("Done")


class _Lease:
    __slots__ = ("granted", "id", "renewed")

    def __init__(self, lease_id: int, granted: float, renewed: float) -> None:
        self.id = lease_id
        self.granted = granted
        #: When the last renewal that etcd answered was sent, by `lock_time`.
        self.renewed = renewed


@dataclass(frozen=True, slots=True)
class OwnRecord:
    """A record of this process as it was written last. `seconds`: the whole seconds that its lease was asked for.

    `keys`: all keys under which it may be. `value`: None while it is written.
    """

    seconds: int
    keys: frozenset[str]
    value: bytes | None


class EtcdLeases:
    """Leases by the whole seconds that they were asked for. Used by the thread of one session that writes.

    `former`: those of the session before, which was given up.
    """

    def __init__(self, former: EtcdLeases | None = None) -> None:
        self._leases: dict[int, _Lease] = {} if former is None else former._leases.copy()
        #: The records of this process, by instance.
        self.own: dict[str, OwnRecord] = {} if former is None else former.own.copy()
        #: The instances that are lost, until `renew` returns them.
        self._lost: deque[str] = deque() if former is None else former._lost.copy()
        self._next: EtcdLeases | None = None
        if former is not None:
            former._next = self

    def was_written(self, instance: str, keys: frozenset[str]) -> None:
        """Called by a session that was given up, maybe, when a write of a record under these keys has ended, or failed.

        It may have replaced a newer version, or a record that was withdrawn meanwhile. So the present session has it lost: it is
        written or deleted once more.
        """
        present = self._next
        while present is not None and present._next is not None:
            present = present._next
        if present is not None:
            held = present.own.get(instance, self.own[instance])
            present.own[instance] = OwnRecord(held.seconds, held.keys | keys, None)
            present._lost.append(instance)

    def __bool__(self) -> bool:
        return bool(self._leases)

    def under(self, member: EtcdMember, seconds: float, do: Callable[[int], Done]) -> Done:
        """Calls `do` with the id of a lease of that many seconds, rounded up. Once more with a new one if it has run out."""
        whole = whole_seconds(seconds)
        try:
            return do(self._lease(member, whole))
        except EtcdFailure as exc:
            if exc.code != NOT_FOUND:
                raise
        # It has just run out. `keep` reports the other instances that were under it.
        self._leases.pop(whole, None)
        return do(self._lease(member, whole))

    def _lease(self, member: EtcdMember, whole: int) -> int:
        if whole not in self._leases:
            asked = lock_time()
            lease, granted = decode_lease(member.ask(GRANT, encode_grant(whole)))
            self._leases[whole] = _Lease(lease, float(granted), asked)
        return self._leases[whole].id

    def trusted_until(self, seconds: float) -> float:
        """The `lock_time` until which a lock under this lease counts as held."""
        lease = self._leases[whole_seconds(seconds)]
        return lease.renewed + lease.granted * TRUSTED

    def renew(self, member: EtcdMember) -> list[str]:
        """Renews all leases, and returns the instances that were under a lease that has run out."""
        for whole, lease in list(self._leases.items()):
            asked = lock_time()
            _, seconds = decode_lease(member.ask(KEEP_ALIVE, encode_keep_alive(lease.id)))
            if seconds <= 0:
                del self._leases[whole]
                self._lost += [instance for instance, record in self.own.items() if record.seconds == whole]
            else:
                lease.renewed = asked
        # One by one: `was_written` may add to them meanwhile.
        return [self._lost.popleft() for _ in range(len(self._lost))]

    def resume(self, member: EtcdMember) -> set[str]:
        """Renews the leases of an earlier session. Returns the instances whose records are all still under them."""
        self.renew(member)
        missing = self.missing(member, [(instance, key) for instance, record in self.own.items() for key in record.keys])
        return {instance for instance, record in self.own.items() if record.value is not None} - missing

    def missing(self, member: EtcdMember, own: list[tuple[str, str]]) -> set[str]:
        """The instances with a key that is not under their lease. `own`: the instance and each of its keys to look at."""
        # One request for each lease, and not one for each key: a process may have many records.
        needed = {self.own[instance].seconds for instance, _ in own} & self._leases.keys()
        under = {
            whole: decode_keys(member.ask(TIME_TO_LIVE, encode_time_to_live(self._leases[whole].id))) for whole in needed
        }
        return {instance for instance, key in own if key.encode() not in under.get(self.own[instance].seconds, ())}

    def used(self) -> float:
        """The part of its time, from 0 to 1 and more, that has passed since the oldest renewal of a lease; 0 without leases."""
        now = lock_time()
        return max(((now - lease.renewed) / lease.granted for lease in self._leases.values()), default=0.0)

    def shortest(self) -> float:
        """Seconds that the shortest lease was granted; infinite if there is none."""
        return min((lease.granted for lease in self._leases.values()), default=math.inf)


def whole_seconds(seconds: float) -> int:
    """The whole seconds of a lease for a ttl; etcd knows no others."""
    return max(1, math.ceil(seconds))
