"""The blocks with the records of each service, made once for all clients that ask for them.

Rule 1: no sockets, no clock here; `now` is always an argument.
Rule 2: a block has the records that the table lists when the block is asked for. Only the ages may be up to KEPT seconds old,
and the block says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from discovery.record_blocks import BlockPacker, filled
from discovery.server.lease_store import LeaseStore, Place

#: Seconds for which the ages of a service's records are not computed again.
KEPT = 1.0
#: The most services without records whose blocks are kept.
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
        """The blocks of a service in a namespace; empty if it has no records."""
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
        # No client asks for a service that has gone, so its blocks would stay for ever.
        for place in [place for place in self._made if self._table.revision(place) is None]:
            del self._made[place]
        self._most = len(self._made) + MOST_GONE
