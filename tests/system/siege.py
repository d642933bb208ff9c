"""A cluster under attack: measures honest load of every kind, and checks the promises after the attack."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

import psutil
import websocket

from tests.ports import free_port
from tests.system.attacks import Target
from tests.system.clusters import Cluster
from tests.system.load import Load
from tests.system.processes import PATIENCE, Process, Stage, eventually
from tests.system.tallies import Tallies

MEGABYTE = 1024 * 1024

#: What an attack may cost each process, and how many lines of its log, besides those that every request of HTTP has.
MEMORY = 50 * MEGABYTE
LINES = 100
OF_EACH_REQUEST = ("zmqservices.web.access:", "(expected) error handling worker")

#: By how much a process may use more in the second half of a long attack than it ever did in the first.
FLAT = 20 * MEGABYTE

#: Attacks of so many seconds are long: their halves can be compared.
LONG = 10.0

#: An attack may double the 99th percentile of honest calls. Below so many seconds it is the machine's own noise.
NOISE = 0.25

#: By how much the longest honest call may take longer, on a machine that does nothing else.
STALL = 0.1

#: Which process suffers from an attack.
ATTACKED = {
    "service": "maths",
    "publisher": "orders",
    "registry": "registry",
    "ZMTP by hand": "maths",
    "topics": "orders",
    "HTTP": "shop",
    "WebSocket": "shop",
}

#: One call in so many dispatches events, as many as stand behind.
EVENTS_EVERY, EVENTS_AT_ONCE = 20, 5


def percentile(seconds: list[float], share: float = 0.99) -> float:
    return sorted(seconds)[int(len(seconds) * share)] if seconds else 0.0


def call(cluster: Any, number: int) -> bool:
    """An honest call: True when it is answered as it should be."""
    if number % EVENTS_EVERY == 0:
        cluster.orders.publish(number * EVENTS_AT_ONCE, EVENTS_AT_ONCE, 1)
        return True
    answer: int = cluster.maths.add(number, 1)
    return answer == number + 1


class WebLoad:
    """Requests and calls over a WebSocket, in turn, until `stop`: `(began, seconds)` of each, and what went wrong."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self.done: list[tuple[float, float]] = []
        self.errors: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        link = websocket.create_connection(f"ws://127.0.0.1:{self._port}/ws", timeout=PATIENCE)
        link.recv()
        with closing(link), closing(HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)) as connection:
            while not self._stop.wait(0.005):
                for ask in (self._ask_by_http, self._ask_by_websocket):
                    began = time.monotonic()
                    try:
                        ask(connection, link)
                    except Exception as exc:
                        self.errors.append(repr(exc))
                        return
                    self.done.append((began, time.monotonic() - began))

    def _ask_by_http(self, connection: HTTPConnection, link: Any) -> None:
        connection.request("GET", "/pid")
        answer = connection.getresponse()
        assert (answer.status, answer.read().isdigit()) == (200, True)

    def _ask_by_websocket(self, connection: HTTPConnection, link: Any) -> None:
        link.send(json.dumps({"method": "add", "data": {"a": 2, "b": 3}, "correlation_id": "honest"}))
        assert json.loads(link.recv())["data"] == 5

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(2 * PATIENCE)


@dataclass
class Outcome:
    """What honest clients met while something went on, and what it cost. Seconds and bytes."""

    name: str
    took: float
    calls: int
    call_p99: float
    call_worst: float
    web_p99: float
    sent: dict[str, int] = field(default_factory=dict)
    grown: dict[str, int] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    #: Bytes by which the most of the second half exceeds the most of the first, of attacks that were long.
    risen: dict[str, int] = field(default_factory=dict)

    def slower_than(self, *others: Outcome) -> list[str]:
        """What took more than twice as long as the slowest of others, and what stalled."""
        found = []
        for what, own, theirs in (
            ("calls", self.call_p99, max(other.call_p99 for other in others)),
            ("requests of the web", self.web_p99, max(other.web_p99 for other in others)),
        ):
            if own > 2 * theirs:
                found.append(f"{self.name}: p99 of {what} is {own * 1e3:.1f} ms, {own / theirs:.1f} times the control's")
        longest = max(other.call_worst for other in others)
        if self.call_worst > longest + STALL:
            found.append(f"{self.name}: a call took {self.call_worst * 1e3:.0f} ms; {longest * 1e3:.0f} ms in the control")
        return found

    def __str__(self) -> str:
        grown = ", ".join(f"{name} {size / MEGABYTE:+.0f}" for name, size in self.grown.items() if abs(size) > MEGABYTE)
        lines = ", ".join(f"{name} {count}" for name, count in self.lines.items() if count)
        rise = f", second half {max(self.risen.values()) / MEGABYTE:+.0f}" if self.risen else ""
        return (
            f"{self.name:14} {sum(self.sent.values()):>8,} messages in {self.took:6.1f} s; {self.calls:>7,} calls, p99 "
            f"{self.call_p99 * 1e3:6.1f} ms, worst {self.call_worst * 1e3:6.1f} ms; web p99 {self.web_p99 * 1e3:6.1f} ms; "
            f"MB: {grown or 'none'}{rise}; lines: {lines or 'none'}"
        )


#: Seconds after which attacked processes end connections over which nothing valid is said.
HELLO_TIMEOUT = 2


class Memory:
    """Looks at the memory of processes in a thread of its own, until `stop`."""

    def __init__(self, look: Callable[[], dict[str, int]]) -> None:
        self._look = look
        self._stop = threading.Event()
        self._seen: list[tuple[float, dict[str, int]]] = []
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            self._seen.append((time.monotonic(), self._look()))

    def stop(self) -> dict[str, int]:
        """By process: by how much the most of the second half exceeds the most of the first; empty where it was not long."""
        self._stop.set()
        self._thread.join(PATIENCE)
        ended = time.monotonic()
        if ended - self._began < LONG:
            return {}
        halves: tuple[dict[str, int], dict[str, int]] = {}, {}
        for at, sizes in self._seen:
            half = halves[at - self._began > (ended - self._began) / 2]
            half.update({name: max(size, half.get(name, 0)) for name, size in sizes.items()})
        return {name: size - halves[0].get(name, size) for name, size in halves[1].items()}


class Victim:
    """`with Victim(stage, folder) as victim`: a cluster that may be attacked, which nobody uses."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._stage = stage
        self.tallies = Tallies(folder / "tallies")
        self._web_port = free_port()
        self._cluster = Cluster(
            stage,
            config={
                "TALLY": str(self.tallies.folder),
                "JOURNAL_FOLDER": str(folder / "journals"),
                "WEB_SERVER_ADDRESS": f"127.0.0.1:{self._web_port}",
                "hello_timeout": HELLO_TIMEOUT,
            },
            registry_options=("--hello-timeout", str(HELLO_TIMEOUT)),
        )

    def __enter__(self) -> Self:
        cluster = self._cluster
        maths, orders, readers, shop = cluster.run_all("maths", "orders", "readers", "shop")
        shop.has_said("Services started")
        self.processes = {"maths": maths, "orders": orders, "readers": readers, "shop": shop, "registry": cluster.registries[0]}

        def endpoint(service: str, kind: str) -> str:
            # The directory may show a record before it shows all of its endpoints.
            eventually(lambda: any(record.endpoints.get(kind) for record in cluster.listing.records(service)))
            (record,) = cluster.listing.records(service)
            return str(record.endpoints[kind]).removeprefix("tcp://")

        self.target = Target(
            cluster.namespace,
            endpoint("maths", "rpc"),
            endpoint("orders", "rpc"),
            endpoint("events:orders", "events"),
            cluster.url.removeprefix("tcp://"),
            f"127.0.0.1:{self._web_port}",
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._cluster.close()

    def throw(self, name: str, messages: int, seed: int, only: str = "") -> Process:
        """Start an attacker."""
        command = [sys.executable, "-m", "tests.system.attacks", "--throw", name, "--at", json.dumps(self.target)]
        return self._stage.start("attacker", [*command, "--messages", str(messages), "--seed", str(seed), "--only", only])

    def _processor_time(self, name: str = "maths") -> float:
        used = psutil.Process(self.processes[name].pid).cpu_times()
        return float(used.user + used.system)

    def cost_of(self, attack: str, kind: str, messages: int, seed: int) -> float:
        """Microseconds of the processor that the attacked process spends on each message of this kind."""
        name = ATTACKED[attack]
        before = self._processor_time(name)
        attacker = self.throw(attack, messages, seed, only=kind)
        assert attacker.wait(3600.0) == 0, f"the attacker failed: {attacker.output()[-2000:]}"
        return (self._processor_time(name) - before) * 1e6 / messages

    def cost_of_calls(self, calls: int = 5_000) -> float:
        """The same for each of so many honest calls, one after the other."""
        with self._cluster.client(timeout=PATIENCE) as remote:
            remote.maths.add(1, 2)
            before = self._processor_time()
            for _ in range(calls):
                remote.maths.add(1, 2)
            return (self._processor_time() - before) * 1e6 / calls


class Siege(Victim):
    """`with Siege(stage, folder) as siege`: the cluster is up, and honest load runs until the end of the block."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        super().__init__(stage, folder)
        self.outcomes: list[Outcome] = []

    def __enter__(self) -> Self:
        super().__enter__()
        cluster = self._cluster
        with cluster.client(timeout=PATIENCE) as remote:
            # Who listens at best effort misses what is published before its subscription has arrived.
            for first in range(-EVENTS_AT_ONCE, -100 * EVENTS_AT_ONCE, -EVENTS_AT_ONCE):
                remote.orders.publish(first, EVENTS_AT_ONCE, 1)
                self.tallies.wait_until_handled(-first)
                if self.tallies.lines("seen"):
                    break
        self.load = Load(cluster.client_config(), call, greenlets=4, timeout=30, pause=0.005)
        self.load.__enter__()
        self.web = WebLoad(self._web_port)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.web.stop()
        self.load.stop()
        self._cluster.close()

    def calm(self, seconds: float) -> Outcome:
        """What honest clients meet while nobody attacks. Not counted before they are all at work."""
        self.load.wait_for(50)
        began = time.monotonic()
        self.load.wait_for(50, began + seconds, timeout=PATIENCE + seconds)
        return self._outcome("calm", began)

    def attack(self, name: str, messages: int, seed: int, timeout: float = 60.0, victim: Victim | None = None) -> Outcome:
        """Let a process throw so many hostile messages; returns when it is done. `victim`: at whom, if not at this one."""
        before, lines, began = self._memory(), self._lines(), time.monotonic()
        attacker = (victim or self).throw(name, messages, seed)
        memory = Memory(self._memory)
        assert attacker.wait(timeout) == 0, f"the attacker failed: {attacker.output()[-2000:]}"
        risen = memory.stop()
        ended = time.monotonic()
        # One more of each is answered after all of it.
        self.load.wait_for(20, ended, timeout=40)
        outcome = self._outcome(name, began)
        outcome.sent = json.loads(attacker.output().splitlines()[-1])
        try:
            eventually(lambda: self._most(self._growth(before)) < MEMORY, what="memory is as it was")
        except AssertionError:
            pass  # `faults` tells which it is.
        outcome.grown = self._growth(before)
        outcome.lines = {key: count - lines[key] for key, count in self._lines().items()}
        outcome.risen = risen
        if victim is None:
            self.outcomes.append(outcome)
        return outcome

    def _outcome(self, name: str, began: float) -> Outcome:
        seconds = [outcome.seconds for outcome in self.load.begun(began)]
        web = [took for at, took in list(self.web.done) if at >= began]
        return Outcome(name, time.monotonic() - began, len(seconds), percentile(seconds), max(seconds), percentile(web))

    def sent(self) -> Counter[str]:
        """What was sent here in all attacks, by kind."""
        total: Counter[str] = Counter()
        for outcome in self.outcomes:
            total.update(outcome.sent)
        return total

    def worst(self) -> Outcome:
        """All attacks as one: the worst of each figure."""
        every = self.outcomes
        most = Outcome(
            "the worst",
            sum(outcome.took for outcome in every),
            sum(outcome.calls for outcome in every),
            max(outcome.call_p99 for outcome in every),
            max(outcome.call_worst for outcome in every),
            max(outcome.web_p99 for outcome in every),
            dict(self.sent()),
        )
        for outcome in every:
            most.grown = {name: max(size, most.grown.get(name, 0)) for name, size in outcome.grown.items()}
            most.lines = {name: count + most.lines.get(name, 0) for name, count in outcome.lines.items()}
            most.risen.update({name: max(size, most.risen.get(name, 0)) for name, size in outcome.risen.items()})
        return most

    def untold(self) -> list[str]:
        """The logs that do not say who it was."""
        says = dict.fromkeys(("maths", "orders"), "node evil at 127.0.0.1")
        says |= {"shop": "(127.0.0.1)", "registry": "message(s) so far; the last from"}
        return [
            f"the log of {name} does not say {text!r}" for name, text in says.items() if text not in "\n".join(self.lines(name))
        ]

    def _memory(self) -> dict[str, int]:
        return {
            name: psutil.Process(process.pid).memory_info().rss for name, process in self.processes.items() if process.is_running
        }

    def _growth(self, before: dict[str, int]) -> dict[str, int]:
        return {name: size - before[name] for name, size in self._memory().items()}

    @staticmethod
    def _most(growth: dict[str, int]) -> int:
        return max(growth.values())

    def _lines(self) -> dict[str, int]:
        return {name: len(self.lines(name)) for name in self.processes}

    def lines(self, name: str) -> list[str]:
        """What a process has logged, besides its requests."""
        lines = self.processes[name].output().splitlines()
        return [line for line in lines if not any(mark in line for mark in OF_EACH_REQUEST)]

    def faults(self, calm: Outcome, noise: float = NOISE, flat: int | None = None) -> list[str]:
        """What did not hold; ends the honest load, and waits for its last events. `noise`: see NOISE; `flat`: see FLAT."""
        self.web.stop()
        self.load.stop()
        wrong = [outcome for outcome in self.load.outcomes if outcome.error is not None or not outcome.value]
        found = [f"{len(wrong)} honest calls failed; the first: {wrong[0]!r}"] if wrong else []
        found += [f"an honest client of the web failed: {text}" for text in self.web.errors]
        try:
            self.tallies.wait_until_handled()
        except AssertionError as exc:
            found.append(str(exc))
        if twice := self.tallies.duplicates():
            found.append(f"{len(twice)} events were handled more than once")
        for name, process in self.processes.items():
            if not process.is_running:
                found.append(f"{name} ended with {process.popen.returncode}")
            # A call with arguments that a method does not stand is the method's own error, and has its traceback.
            of_methods = process.output().count("ERROR zmqservices.hosting.lifecycle: error handling worker")
            if process.output().count("Traceback") > of_methods:
                found.append(f"there is a traceback in the log of {name}")
        allowed = max(2 * calm.call_p99, noise), max(2 * calm.web_p99, noise)
        for outcome in self.outcomes:
            if outcome.call_p99 > allowed[0] or outcome.web_p99 > allowed[1]:
                found.append(f"honest clients waited too long: {outcome}; calm: {calm}")
            found += [f"{outcome.name}: {who} grew by {size:,} bytes" for who, size in outcome.grown.items() if size > MEMORY]
            found += [
                f"{outcome.name}: {who} took {size:,} bytes more in the second half"
                for who, size in outcome.risen.items()
                if flat is not None and size > flat
            ]
            found += [
                f"{outcome.name}: {count} lines in the log of {who}" for who, count in outcome.lines.items() if count > LINES
            ]
        return found
