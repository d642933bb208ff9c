"""How much each connection may hold in a registry, and which connection loses leases when the registry is full.

Rule 1: no sockets, no threads, no clock here.
Rule 2: in a full registry, a connection loses leases only to a connection that holds much less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from discovery.exceptions import DirectoryError
from discovery.server.lease_store import Lease

#: Leases of one registry. A record takes some KiB, so this bounds the memory that hostile clients can use.
MAX_LEASES = 20_000
#: Bytes of all records as they were received.
MAX_BYTES = 128 * 1024 * 1024
#: Leases that one connection may hold, and bytes of their records.
MAX_LEASES_OF_HOLDER, MAX_BYTES_OF_HOLDER = 2_000, 32 * 1024 * 1024
#: In a full registry, a connection loses leases to another one if it holds more than this many times as much.
MUCH_MORE = 2


class Holder:
    """What one connection holds: its instances in the order of their registration, and the bytes of their records."""

    __slots__ = ("bytes", "instances")

    def __init__(self) -> None:
        self.instances: dict[str, None] = {}
        self.bytes = 0


@dataclass(slots=True)
class _Share:
    """What a connection holds, counted down while victims are chosen. `instances`: the oldest first."""

    leases: int
    bytes: int
    instances: Iterator[str]


class Shares:
    """What all connections hold. An argument that is None is the default above."""

    def __init__(
        self,
        max_leases: int | None = None,
        max_leases_of_holder: int | None = None,
        max_bytes: int | None = None,
        max_bytes_of_holder: int | None = None,
    ) -> None:
        self._max_leases = MAX_LEASES if max_leases is None else max_leases
        self._max_leases_of_holder = MAX_LEASES_OF_HOLDER if max_leases_of_holder is None else max_leases_of_holder
        self._max_bytes = MAX_BYTES if max_bytes is None else max_bytes
        self._max_bytes_of_holder = MAX_BYTES_OF_HOLDER if max_bytes_of_holder is None else max_bytes_of_holder
        #: Bytes of all records.
        self.bytes = 0
        self.holders: dict[bytes, Holder] = {}

    def hold(self, lease: Lease) -> None:
        """Counts a lease for its holder."""
        holder = self.holders.setdefault(lease.holder, Holder())
        holder.instances[lease.record.instance] = None
        holder.bytes += lease.size
        self.bytes += lease.size

    def release(self, lease: Lease) -> None:
        """Does not count a lease for its holder any more."""
        holder = self.holders[lease.holder]
        del holder.instances[lease.record.instance]
        holder.bytes -= lease.size
        self.bytes -= lease.size
        if not holder.instances:
            del self.holders[lease.holder]

    def victims(self, leases: Mapping[str, Lease], former: Lease | None, size: int, holder: bytes) -> list[Lease]:
        """The leases that must go, so that `holder` can register a record of `size` bytes in place of `former`.

        `leases`: all leases by instance. DirectoryError if the holder's share is full, or no connection holds much more. Nothing
        has changed then: all victims are chosen before the first one goes.
        """
        more = size - (0 if former is None else former.size)
        own = self.holders.get(holder) or Holder()
        is_own = former is not None and former.holder == holder
        count, taken = len(own.instances) + (not is_own), own.bytes + (more if is_own else size)
        self._check_share(count, taken)
        is_new, grows = former is None, more > 0
        going: list[Lease] = []
        freed = 0
        shares: list[_Share] = []
        while True:
            if is_new and len(leases) - len(going) >= self._max_leases:
                share = max(shares or self._fill(shares), key=lambda other: other.leases, default=None)
                if share is None or share.leases <= MUCH_MORE * count:
                    raise DirectoryError(f"this registry is full: it holds {self._max_leases} leases")
            elif grows and self.bytes - freed + more > self._max_bytes:
                share = max(shares or self._fill(shares), key=lambda other: other.bytes, default=None)
                if share is None or share.bytes <= MUCH_MORE * taken:
                    raise DirectoryError(f"this registry is full: its records take {self.bytes} bytes")
            else:
                return going
            victim = leases[next(share.instances)]
            going.append(victim)
            freed += victim.size
            share.leases -= 1
            share.bytes -= victim.size

    def _check_share(self, count: int, taken: int) -> None:
        if count > self._max_leases_of_holder:
            raise DirectoryError(f"one connection may hold {self._max_leases_of_holder} leases; this would be one more")
        if taken > self._max_bytes_of_holder:
            raise DirectoryError(f"one connection may hold {self._max_bytes_of_holder} bytes of records; these would be {taken}")

    def _fill(self, shares: list[_Share]) -> list[_Share]:
        """Adds what each connection holds."""
        shares += [_Share(len(one.instances), one.bytes, iter(one.instances)) for one in self.holders.values()]
        return shares
