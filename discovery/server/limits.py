"""The limits of a registry that an operator may choose, for each client and for all together. docs/limits.rst has every limit.

Internal. Operators use the options of `zmqservices registry serve`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from discovery import protocol
from discovery.exceptions import DirectoryConfigurationError
from discovery.faults import MOST_PER_SECOND
from discovery.interest import MAX_INTEREST
from discovery.notes import MAX_ALL_NOTES, MAX_NOTES, MOST_OF_SIGNER
from discovery.security import zap
from discovery.server import pacing
from discovery.server.shares import MAX_BYTES, MAX_BYTES_OF_HOLDER, MAX_LEASES, MAX_LEASES_OF_HOLDER

#: The largest value of a limit that has no upper bound of its own.
NO_LIMIT = 2**40


def _limit(default: int, help: str, most: int = NO_LIMIT, least: int = 1) -> Any:
    return field(default=default, metadata={"least": least, "most": most, "help": help})


@dataclass(frozen=True)
class RegistryLimits:
    """All limits; sizes in bytes. DirectoryConfigurationError, which quotes the value, for one that is out of its range.

    If clients have a bound of their own, the default is the largest value: clients would not use a registry with more.
    """

    max_records: int = _limit(MAX_LEASES, "The most records (instances of services) in all.", MAX_LEASES)
    max_records_of_connection: int = _limit(MAX_LEASES_OF_HOLDER, "The most records of one process.", MAX_LEASES_OF_HOLDER)
    max_record_size: int = _limit(protocol.MAX_RECORD, "The most bytes of one record.", protocol.MAX_RECORD)
    max_record_bytes: int = _limit(MAX_BYTES, "The most bytes of all records together.", MAX_BYTES)
    max_record_bytes_of_connection: int = _limit(MAX_BYTES_OF_HOLDER, "The most bytes of the records of one process.", MAX_BYTES)
    max_notes: int = _limit(MAX_ALL_NOTES, "The most notes (such as consumer groups) in all.", MAX_ALL_NOTES)
    max_notes_of_namespace: int = _limit(MAX_NOTES, "The most notes of one namespace.", MAX_ALL_NOTES)
    max_notes_of_connection: int = _limit(2_000, "The most notes that one process wrote.", MAX_ALL_NOTES)
    max_notes_of_signer: int = _limit(MOST_OF_SIGNER, "The most notes that one key signed, with --security.", MAX_ALL_NOTES)
    max_note_size: int = _limit(protocol.MAX_NOTE, "The most bytes of one note.", protocol.MAX_NOTE)
    max_clients: int = _limit(10_000, "The most processes that watch the directory.")
    max_watched_names: int = _limit(
        1_000_000, "The most names of services and sources that all processes together watch.", least=MAX_INTEREST
    )
    max_unread_bytes: int = _limit(
        pacing.MAX_UNREAD,
        "The most bytes that one process may leave unread; all together, 32 times as many.",
        least=protocol.PART_SIZE,
    )
    max_faults_per_second: int = _limit(
        MOST_PER_SECOND, "The most faulty messages of one process in a second. After more, what it sends is dropped for 10 s."
    )
    hello_timeout: int = _limit(30, "The most seconds in which a new connection must make a valid request.")
    handshakes_per_second: int = _limit(zap.PER_SECOND, "The most new connections per second, with --security.")

    def __post_init__(self) -> None:
        for one in fields(self):
            value, least, most = getattr(self, one.name), one.metadata["least"], one.metadata["most"]
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                needed = f"a whole number from {least:,} up" if most == NO_LIMIT else f"a whole number from {least:,} to {most:,}"
                raise DirectoryConfigurationError(f"{one.name} is {value!r:.100}; {needed} is needed")


def option_of(name: str) -> str:
    """The option of a field on the command line."""
    return "--" + name.replace("_", "-")
