"""Sends hostile messages to a running cluster, and reports which promises held.

    python -m tests.system.attacks --messages 1000000 --strict    all attacks, with honest load beside them
    python -m tests.system.attacks --costs    processor time that the attacked process spends on a message of each kind
    python -m tests.system.attacks --throw ATTACK --at TARGET --messages 3000    the attacker, a process of its own

Each attack is made twice: at another cluster first, with a tenth of the messages, and then at the one that honest clients use.
The attacker takes processor time from them wherever it attacks: what their calls take longer the second time is what it does to
them. On a machine that does nothing else, --strict holds the attacks to that: honest calls may take twice as long as with the
attacker elsewhere, and none may stall for 100 ms more.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import select
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from tests.system import hostile_messages as hostile
from tests.system.hostile_messages import Frames, Maker
from tests.zmtp import GREETING, frame, ready, shake_hands
from zmqservices.wire.messages import Hello, Pong

#: Messages that one connection of an attacker sends, before it ends it and comes again.
FROM_ONE = 400

#: Connections by hand that stay open at once, so that what they left unfinished is really waited for.
OPEN_AT_ONCE = 50

#: Silent connections that are open at once.
SILENT_AT_ONCE = 500

#: Seconds within which silent connections must be ended.
LET_GO = 60.0

#: What a router socket answers once it has read all that was sent before.
HEARD = hostile.encoded(Pong(99))
#: What stands in the last answer to a client that sent too many faulty messages.
BLOCKED = b"max_faults_per_second"

Message = tuple[str, Frames]


class Target(NamedTuple):
    """Addresses, `HOST:PORT`."""

    namespace: str
    endpoint: str
    publisher: str
    broadcast: str
    registry: str
    web: str


def address(of: str) -> tuple[str, int]:
    host, _, port = of.rpartition(":")
    return host, int(port)


@contextmanager
def dealer(endpoint: str, context: zmq.Context[Any]) -> Iterator[zmq.Socket[Any]]:
    with context.socket(zmq.DEALER) as raw:
        raw.linger = 0
        raw.sndtimeo = 20_000
        raw.routing_id = b"\1" + secrets.token_bytes(16)
        raw.connect(f"tcp://{endpoint}")
        yield raw


def wait_until_heard(raw: zmq.Socket[Any]) -> None:
    """Return once all that was sent has been heard, or once nobody listens any more."""
    end = time.monotonic() + 20
    # Answers stop when the last message is heard; an attacker that was let go gets none.
    while raw.poll(50) and time.monotonic() < end:
        answer = raw.recv_multipart()
        if answer == [HEARD]:
            return
        if BLOCKED in answer[0]:
            raw.linger = 20_000  # The rest is still sent, and dropped there.
            return


def throw_by_dealer(endpoint: str, messages: Iterator[Message], hello: bytes | None, sign: bytes, sent: Counter[str]) -> None:
    """From one DEALER after the other; every second one says HELLO first. Each goes once all that it sent has been heard."""
    with zmq.Context() as context:
        for number in range(sys.maxsize):
            some = list(islice(messages, FROM_ONE))
            if not some:
                return
            with dealer(endpoint, context) as raw:
                if hello is not None and number % 2:
                    raw.send(hello)
                for name, frames in some:
                    raw.send_multipart(frames)
                    sent[name] += 1
                raw.send(sign)
                wait_until_heard(raw)


def throw_by_hand(of: str, messages: Iterator[Message], sent: Counter[str]) -> None:
    """Each over a connection of its own, some of which stay open for a while."""
    waiting: list[socket.socket] = []
    for name, frames in messages:
        while True:
            try:
                raw = socket.create_connection(address(of), 20)
                break
            except OSError:
                time.sleep(0.05)  # No descriptor or port is free, there or here.
        waiting.append(raw)
        raw.settimeout(5)
        try:
            for number, part in enumerate(frames):
                raw.sendall(part)
                if number == 0 and len(frames) > 1 and part.startswith(GREETING):
                    shake_hands(raw)
            if len(waiting) % 2:
                raw.setblocking(False)
                raw.recv(65_536)
        except OSError:
            pass  # It was thrown out, as it should be, or nothing has been answered yet.
        sent[name] += 1
        if len(waiting) > OPEN_AT_ONCE:
            waiting.pop(0).close()
    for raw in waiting:
        raw.close()


def keep_silent(addresses: list[str], count: int, sent: Counter[str]) -> None:
    """So many connections that shake hands, answer heartbeats and say nothing more. Returns once all have been ended."""
    for first in range(0, count, SILENT_AT_ONCE):
        keep_some_silent(addresses, min(SILENT_AT_ONCE, count - first), sent)


def keep_some_silent(addresses: list[str], count: int, sent: Counter[str]) -> None:
    silent: dict[int, socket.socket] = {}
    poller = select.poll()
    for number in range(count):
        raw = socket.create_connection(address(addresses[number % len(addresses)]), 20)
        raw.sendall(GREETING + ready(b"DEALER"))
        raw.setblocking(False)
        silent[raw.fileno()] = raw
        poller.register(raw, select.POLLIN)
        sent["silence"] += 1
    end = time.monotonic() + LET_GO
    while silent:
        if time.monotonic() > end:
            raise TimeoutError(f"{len(silent)} of {count} silent connections were not ended within {LET_GO:g} s")
        for descriptor, _ in poller.poll(1000):
            if not answers_heartbeats(silent[descriptor]):
                poller.unregister(descriptor)
                silent.pop(descriptor).close()


def answers_heartbeats(raw: socket.socket) -> bool:
    """Whether the connection goes on."""
    try:
        said = raw.recv(65_536)
        for _ in range(said.count(b"\4PING")):
            raw.send(frame(b"\4PONG", command=True))
    except BlockingIOError:
        return True
    except OSError:
        return False
    return bool(said)


def throwers(target: Target, seed: int, only: str = "") -> dict[str, Callable[[int, Counter[str]], None]]:
    """Attacks by name: each throws so many messages and counts them by kind. `only`: the one kind that it throws."""
    hello = hostile.encoded(Hello(1, 0, "evil", target.namespace))

    def some(kinds: tuple[hostile.Kind, ...], count: int) -> Iterator[Message]:
        kinds = tuple(kind for kind in kinds if only in ("", kind.__name__))
        return islice(hostile.mixed(Maker(seed, target.namespace), kinds), count)

    def by_dealer(endpoint: str, kinds: tuple[hostile.Kind, ...], greets: bool) -> Callable[[int, Counter[str]], None]:
        sign = hostile.ARE_YOU_THERE
        return lambda count, sent: throw_by_dealer(endpoint, some(kinds, count), hello if greets else None, sign, sent)

    def by_hand(endpoint: str, kinds: tuple[hostile.Kind, ...]) -> Callable[[int, Counter[str]], None]:
        return lambda count, sent: throw_by_hand(endpoint, some(kinds, count), sent)

    return {
        "service": by_dealer(target.endpoint, hostile.ROUTER, greets=True),
        "publisher": by_dealer(target.publisher, hostile.ROUTER, greets=True),
        "registry": by_dealer(target.registry, hostile.REGISTRY, greets=False),
        "ZMTP by hand": by_hand(target.endpoint, hostile.BY_HAND),
        "topics": by_hand(target.broadcast, hostile.BROADCAST),
        "silence": lambda count, sent: keep_silent([target.endpoint, target.publisher, target.registry], count, sent),
        "HTTP": by_hand(target.web, hostile.HTTP),
        "WebSocket": by_hand(target.web, hostile.WEBSOCKET),
    }


#: The attacks, each with its share of a thousand messages: connections cost more than messages do.
SHARES = {
    "service": 400, "publisher": 300, "registry": 210, "ZMTP by hand": 20, "topics": 20, "silence": 10,
    "HTTP": 20, "WebSocket": 20,
}  # fmt: skip


#: What each attack sends, and what shows its cost; the publisher gets what the service gets.
KINDS = {
    "service": hostile.ROUTER,
    "registry": hostile.REGISTRY,
    "ZMTP by hand": hostile.BY_HAND,
    "topics": hostile.BROADCAST,
    "HTTP": hostile.HTTP,
    "WebSocket": hostile.WEBSOCKET,
}


def give_way() -> None:
    """This process runs where nothing else wants the processor: an attacker has one of its own, which is not there."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


def throw(name: str, target: Target, count: int, seed: int, only: str) -> None:
    """What a process of an attacker does. Prints what it sent as JSON."""
    give_way()
    sent: Counter[str] = Counter()
    throwers(target, seed, only)[name](count, sent)
    print(json.dumps(sent), flush=True)


@contextmanager
def stages() -> Iterator[tuple[Any, Path]]:
    """A Stage, and a folder; both are gone afterwards."""
    from tests.system.processes import Guardian, Stage

    guardian = Guardian()
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(guardian, Path(folder))
        try:
            yield stage, Path(folder)
        finally:
            stage.end()
            guardian.close()


#: The attack at another cluster takes so many of the messages of the real one.
ELSEWHERE = 0.1


def besiege(messages: int, seed: int, is_strict: bool) -> int:
    """One attack after the other, with honest load all the time, and a table of what it was like. 0: all held."""
    from tests.system.siege import FLAT, Outcome, Siege, Victim

    def say(outcome: Outcome, where: str = "") -> None:
        print(f"{where:10} {outcome}", flush=True)

    began = time.monotonic()
    with stages() as (stage, folder), Victim(stage, folder / "other") as other, Siege(stage, folder) as siege:
        calm = siege.calm(10.0)
        say(calm)
        slower = []
        for name, share in SHARES.items():
            count = max(1, messages * share // 1000)
            few = max(1, int(count * ELSEWHERE))
            elsewhere = siege.attack(name, few, seed, timeout=3600.0, victim=other)
            say(elsewhere, "elsewhere")
            here = siege.attack(name, count, seed, timeout=6 * 3600.0)
            say(here, "here")
            slower += here.slower_than(calm, elsewhere)
        faults = siege.faults(calm, flat=FLAT) + siege.untold()
        say(siege.worst(), "all")
    if is_strict:
        faults += slower
    else:
        print("\n".join(slower))
    print(f"{sum(siege.sent().values()):,} hostile messages of {len(siege.sent())} kinds in {time.monotonic() - began:.0f} s")
    print("\n".join(f"FAULT {fault}" for fault in faults) or "all held")
    return 1 if faults else 0


def weigh(messages: int, seed: int, only: str) -> int:
    """Print the processor time of who is attacked for a message of each kind. Other processes of the machine hardly matter."""
    from tests.system.siege import Victim

    with stages() as (stage, folder), Victim(stage, folder) as victim:
        print(f"{'honest calls':26} {victim.cost_of_calls():8.1f} us each")
        for attack, kinds in KINDS.items():
            # A connection for each message: far fewer of these cost as much.
            count = messages if attack in ("service", "registry") else messages // 10
            for kind in kinds:
                if only in ("", kind.__name__):
                    cost = victim.cost_of(attack, kind.__name__, count, seed)
                    print(f"{kind.__name__:26} {cost:8.1f} us a message ({attack})", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000, help="how many of all kinds together, or of one attack or kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only this kind of messages, with --throw and --costs")
    parser.add_argument("--strict", action="store_true", help="for a machine that does nothing else: see above")
    parser.add_argument("--costs", action="store_true", help="processor time for each kind of messages")
    parser.add_argument("--throw", choices=sorted(SHARES), help="only this attack, at a cluster that runs")
    parser.add_argument("--at", type=json.loads, help="where: the addresses of a Target, as a JSON list")
    options = parser.parse_args()
    if options.costs:
        return weigh(options.messages, options.seed, options.only)
    if options.throw is None:
        return besiege(options.messages, options.seed, options.strict)
    throw(options.throw, Target(*options.at), options.messages, options.seed, options.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
