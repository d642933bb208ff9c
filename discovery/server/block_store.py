"""The records of each service as blocks, made once for all clients that ask for them.

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: a block lists what the table holds at the moment at which it is asked for. Only the ages may be from up to KEPT seconds
before, and the block says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from discovery.record_blocks import BlockPacker, filled
from discovery.server.lease_store import LeaseStore, Place

#: Seconds for which the ages of a service's records are not computed anew.
KEPT = 1.0
#: Services that have gone, whose blocks are kept at once.
MOST_GONE = 100


@dataclass(slots=True)
class _Blocks:
    revision: int
    made_at: float
    packer: BlockPacker
    blocks: list[tuple[bytes, bytes]]


class BlockStore:
    """The blocks of a table."""

    def __init__(self, table: LeaseStore) -> None:
        self._table = table
        self._made: dict[Place, _Blocks] = {}
        self._most = MOST_GONE

    def of(self, place: Place, now: float) -> list[bytes]:
        """The records of a service in a namespace; empty where there are none (any more)."""
        revision = self._table.revision(place)
        if revision is None:
            self._made.pop(place, None)
            return []
        made = self._made.get(place)
        if made is None or made.revision != revision or now - made.made_at > KEPT:
            if made is None and len(self._made) >= self._most:
                self._drop_gone()
            packer = BlockPacker() if made is None else made.packer
            made = self._made[place] = _Blocks(revision, now, packer, packer.pack(self._table.listing(place, now)))
        return [filled(block, now - made.made_at) for block in made.blocks]

    def _drop_gone(self) -> None:
        # Nobody asks for what is gone, so that what was made of it would stay for ever.
        for place in [place for place in self._made if self._table.revision(place) is None]:
            del self._made[place]
        self._most = len(self._made) + MOST_GONE
