"""All subjects by name, imported only when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from bench.subject import Subject

OURS = {
    "zmqservices": "bench.ours.services:OnTheHub",
    "zmqservices-thread": "bench.ours.services:FromAThread",
    "zmqservices-threads": "bench.ours.services:FromManyThreads",
    "zmqservices-3deps": "bench.ours.services:WithDependencies",
    "zmqservices-probe": "bench.ours.services:WithAProbe",
    "zmqservices-100": "bench.ours.services:WithManyWorkers",
    "zmqservices-auto": "bench.ours.services:WithALimitOfItsOwn",
    "zmqservices-events": "bench.ours.services:WithEvents",
}
LIMITS = {
    "pyzmq": "bench.limits.plain:Plain",
    "pyzmq-tuned": "bench.limits.tuned:Tuned",
    "pyzmq-hub": "bench.limits.hub:Hub",
    "pyzmq-thread": "bench.limits.thread:Thread",
}
PEERS = {
    "nats": "bench.peers.nats:Nats",
    "aiohttp": "bench.peers.aiohttp:Aiohttp",
    "fastapi": "bench.peers.fastapi:FastApi",
    "rpyc": "bench.peers.rpyc:Rpyc",
    "pyro5": "bench.peers.pyro5:Pyro",
    "grpc": "bench.peers.grpc:Grpc",
    "grpc-threads": "bench.peers.grpc:GrpcThreads",
    "zerorpc": "bench.peers.zerorpc:ZeroRpc",
    "nameko": "bench.peers.nameko:Nameko",
}
ALL = {**LIMITS, **OURS, **PEERS}
#: The subjects that `python -m bench` measures by default.
USUAL = ("pyzmq", "pyzmq-hub", "pyzmq-thread", "zmqservices", "zmqservices-thread")
GROUPS = {"limits": tuple(LIMITS), "ours": tuple(OURS), "peers": tuple(PEERS), "usual": USUAL, "all": tuple(ALL)}


class UnknownSubject(ValueError):
    """There is no subject of this name."""


def find(name: str) -> Subject:
    """The subject of this name. Raises UnknownSubject, whose text lists all subjects."""
    try:
        module, _, attribute = ALL[name].partition(":")
    except KeyError:
        raise UnknownSubject(f"{name!r} is nothing that can be measured; there are {', '.join(ALL)}") from None
    subject: Subject = getattr(importlib.import_module(module), attribute)()
    return subject


def names_of(words: Iterable[str]) -> list[str]:
    """Names and groups ("peers", "limits", "ours", "usual", "all") as names, each once, in the order of `ALL`'s words.

    Raises UnknownSubject.
    """
    chosen: list[str] = []
    for word in words:
        for name in GROUPS.get(word, (word,)):
            if name not in ALL:
                raise UnknownSubject(f"{name!r} is nothing that can be measured; there are {', '.join(ALL)}")
            if name not in chosen:
                chosen.append(name)
    return chosen
