"""The cases: how many calls are in flight, from how many clients, to how many servers, with what payload."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

KIB, MIB = 1024, 1024 * 1024


class UnknownCase(ValueError):
    """There is no case of that name."""


@dataclass(frozen=True)
class Case:
    """One way to load a server. `in_flight`: calls of each client process. `payload`: bytes to echo; 0 calls add()."""

    name: str
    title: str
    in_flight: int = 64
    clients: int = 1
    processes: int = 1
    payload: int = 0
    #: Measures a new server: the time to its first answer, and its memory before and after a load.
    is_start: bool = False


ALL = {
    case.name: case
    for case in (
        Case("1", "add(), one at a time", in_flight=1),
        Case("8", "add(), 8 in flight", in_flight=8),
        Case("64", "add(), 64 in flight"),
        Case("256", "add(), 256 in flight", in_flight=256),
        Case("64x2", "add(), 2 clients with 64 in flight each", clients=2),
        Case("64x2p2", "add(), 2 clients with 64 in flight each, 2 server processes", clients=2, processes=2),
        Case("64x2p4", "add(), 2 clients with 64 in flight each, 4 server processes", clients=2, processes=4),
        Case("1k", "echo of 1 KiB, 64 in flight", payload=KIB),
        Case("64k", "echo of 64 KiB, 64 in flight", payload=64 * KIB),
        Case("1m", "echo of 1 MiB, 64 in flight", payload=MIB),
        Case("1m-1", "echo of 1 MiB, one at a time", in_flight=1, payload=MIB),
        Case("start", "start to first answer, and memory", is_start=True),
    )
}
USUAL = ("1", "64", "64k", "1m")
GROUPS = {"usual": USUAL, "all": tuple(ALL), "peers": ("1", "64", "1m", "start")}


def cases_of(words: Iterable[str]) -> list[Case]:
    """Names and groups ("usual", "peers", "all") as cases, each once. Raises UnknownCase, which says which there are."""
    chosen: dict[str, Case] = {}
    for word in words:
        for name in GROUPS.get(word, (word,)):
            if name not in ALL:
                raise UnknownCase(f"{name!r} is no case; there are {', '.join([*ALL, *GROUPS])}")
            chosen[name] = ALL[name]
    return list(chosen.values())
