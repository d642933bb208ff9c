"""The troubles of a cluster under load. Each scenario ends with the network and all processes as they were before.

`seconds` is about how long a scenario goes on making trouble; `chance` is what it decides by.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import dns.rcode

from tests.system.chaos.churn import Churn
from tests.system.chaos.deployment import NAME, SETTINGS, Deployment, Part
from tests.system.processes import eventually

#: Five hosts, two of them at the left switch; in each half a registry, a caller and a handler, and an instance to be called.
LEFT, HOSTS = 2, 5
REGISTRIES = (
    ("registry", 1), ("registry", 3), ("caller", 1), ("caller", 3), ("ledger", 2), ("ledger", 4), ("ledger", 5),
    ("mails", 2), ("mails", 4), ("orders", 5),
)  # fmt: skip
DNS = (
    ("caller", 1), ("caller", 3), ("ledger", 2), ("ledger", 4), ("mails", 2), ("orders", 5),
)  # fmt: skip
ZOOKEEPER = (
    ("zookeeper", 3), ("caller", 1), ("ledger", 4), ("ledger", 5), ("mails", 2), ("orders", 5),
)  # fmt: skip
ETCD = (
    ("etcd", 1), ("etcd", 2), ("etcd", 3), ("caller", 1), ("ledger", 4), ("ledger", 5), ("mails", 2), ("orders", 5),
)  # fmt: skip

#: Seconds after which a registry has let go of a killed process. The records of many that vanish within one lease it keeps for
#: thirty leases, since the fault is probably its own; processes start so fast here that they would be many.
GONE = 1.5 * SETTINGS["DIRECTORY_TTL"]

#: Seconds of delay on each packet to and from a host.
DELAY = 0.2


def restart(deployment: Deployment, seconds: float, chance: random.Random) -> None:
    """One program after the other is stopped in good order and started again, registries and callers among them.

    The next of a kind is stopped once the one before is there again.
    """
    end = time.monotonic() + seconds
    while True:
        for part in deployment.parts:
            for other in deployment.of(part.kind):
                other.wait()
            part.stop()
            part.launch()
        if time.monotonic() > end:
            break
    for part in deployment.parts:
        part.wait()


def kill(deployment: Deployment, seconds: float, chance: random.Random) -> None:
    """SIGKILL and SIGSTOP: an instance first, each in one way, then anybody at random.

    One instance, one registry and one caller are spared each time.
    """
    end, gone_at = time.monotonic() + seconds, 0.0
    ledgers = deployment.of("ledger")
    hits = [(ledgers[0], True), (ledgers[1], False)]
    while hits or time.monotonic() < end:
        spared = {chance.choice(deployment.of(kind)) for kind in ("ledger", "registry", "caller")}
        others = [part for part in deployment.parts if part not in spared]
        part, is_killed = hits.pop(0) if hits else (chance.choice(others), chance.random() < 0.5)
        if is_killed and time.monotonic() > gone_at:
            part.kill()
            gone_at = time.monotonic() + GONE
            part.start()
        else:
            part.running.freeze()
            time.sleep(chance.uniform(0.2, 3.0))
            part.running.thaw()
        # Whoever was away is called again before the next one is hit: one instance is healthy at each moment.
        answered_by_all(deployment)


def answered_by_all(deployment: Deployment) -> None:
    """Return once each caller has had an answer of each instance, from now on."""
    since, missing = time.monotonic(), {}

    def answered() -> bool:
        deployment.read_on()
        for file in deployment.callers():
            had = {call.pid for call in file.calls.values() if call.began >= since}
            missing[file.path.name] = [part.name for part in deployment.of("ledger") if part.running.pid not in had]
        return not any(missing.values())

    try:
        eventually(answered)
    except AssertionError:
        raise AssertionError(f"since {since:.2f} these gave no answer: {missing}") from None


def cut(deployment: Deployment, seconds: float, chance: random.Random) -> None:
    """Hosts are cut off and healed: one with services alone first, then any."""
    end = time.monotonic() + seconds
    host = deployment.hosts[3]
    while True:
        with deployment.being_alone(host):
            host.unplug()
            time.sleep(min(seconds, chance.uniform(3.0, 6.0)))
            host.plug()
        if time.monotonic() > end:
            return
        answered_by_all(deployment)
        host = chance.choice(deployment.hosts)


def one_way(deployment: Deployment, seconds: float, chance: random.Random) -> None:
    """What one host sends to another is lost, while the other's packets arrive: answers, then calls, then between any two."""
    end = time.monotonic() + seconds
    hosts = deployment.hosts
    pairs = [(hosts[3], hosts[0]), (hosts[2], hosts[4])]
    while True:
        here, there = pairs.pop(0) if pairs else chance.sample(hosts, 2)
        here.lose_packets_to(there)
        time.sleep(min(seconds / 2, chance.uniform(3.0, 6.0)))
        here.reach(there)
        if time.monotonic() > end:
            return
        answered_by_all(deployment)


def delay(deployment: Deployment, seconds: float, chance: random.Random) -> None:
    """Each packet to and from one host takes 200 ms longer."""
    host = deployment.hosts[1]
    host.delay(deployment.stage, DELAY)
    time.sleep(seconds)
    host.hurry()


def split(deployment: Deployment, seconds: float, chance: random.Random) -> None:
    """Two halves, each with a registry, a caller and an instance, hear nothing of each other."""
    deployment.network.split()
    time.sleep(seconds)
    deployment.network.join()


def no_registry(deployment: Deployment, seconds: float, chance: random.Random) -> None:
    """Every registry is killed, and comes back empty."""
    for part in deployment.of("registry"):
        part.kill()
    time.sleep(seconds)
    for part in deployment.of("registry"):
        part.start()


def leader(deployment: Deployment, seconds: float, chance: random.Random) -> None:
    """The member of etcd that leads is killed, and comes back once another one leads."""
    end = time.monotonic() + seconds
    while True:
        old = eventually(lambda: leads_now(deployment), what="one leads")
        old.kill()
        eventually(lambda: leads_now(deployment), what="another member leads")
        time.sleep(min(seconds, chance.uniform(1.0, 3.0)))
        old.start()
        if time.monotonic() > end:
            return
        answered_by_all(deployment)


def leads_now(deployment: Deployment) -> Part | None:
    """The member of etcd that runs and leads."""
    running = [part for part in deployment.of("etcd") if part.running.is_running]
    return next((part for part in running if deployment.is_leader(part)), None)


def session(deployment: Deployment, seconds: float, chance: random.Random) -> None:
    """Sessions of ZooKeeper expire: that of an instance which stands still, and those of everybody while its host is cut off."""
    end = time.monotonic() + seconds
    (listing,) = deployment.listings
    while True:
        part = chance.choice(deployment.of("ledger"))
        part.running.freeze()
        listing.wait_for(lambda pid=part.running.pid: pid not in listing.pids("ledger"), what=f"{part.name} is listed no more")
        part.running.thaw()
        listing.wait_for(lambda: listing.pids("ledger") == deployment.pids("ledger"), what="it is listed again")
        (server,) = deployment.of("zookeeper")
        server.host.unplug()
        time.sleep(2.0 * SETTINGS["DIRECTORY_TTL"])
        server.host.plug()
        if time.monotonic() > end:
            return
        answered_by_all(deployment)


def answers(deployment: Deployment, seconds: float, chance: random.Random) -> None:
    """What DNS answers changes: each instance moves to another address; then nothing is named, and then the server fails."""
    server = deployment.dns
    assert server is not None
    end = time.monotonic() + seconds
    first = dict(deployment.addresses)
    others = {part: part.host.add_address() for part in deployment.of("ledger")}
    for addresses in itertools.cycle((others, first)):
        for part in deployment.of("ledger"):
            deployment.name_all(but=part)
            part.stop()
            deployment.addresses[part] = addresses[part]
            part.launch()
            deployment.name_all()
            part.wait()
            answered_by_all(deployment)
        server.set(NAME, "A")
        time.sleep(1.2)
        server.rcode = dns.rcode.SERVFAIL
        time.sleep(1.2)
        server.rcode = None
        deployment.name_all()
        if time.monotonic() > end:
            return


#: Calls while instances come and go: in the suite, and where a scenario may take its time.
FEW_CALLS, MANY_CALLS = 10_000, 100_000


def churn(deployment: Deployment, seconds: float, chance: random.Random) -> list[str]:
    """Instances come and go, in good order and in bad, while one process makes very many calls: it holds no more afterwards."""
    command = [*deployment.hosts[0].prefix, sys.executable, "-m", "tests.system.chaos.churn"]
    config = json.dumps(deployment.client_config())
    process = deployment.stage.start("churn", [*command, config], piped=True)
    calls = Churn(process)
    calls.begin(FEW_CALLS)
    before = calls.held(60.0)
    calls.begin(MANY_CALLS if seconds >= 10.0 else FEW_CALLS)
    instances, gone_at = itertools.cycle(deployment.of("ledger")), 0.0
    for number in itertools.count(1):
        part = next(instances)
        if chance.random() < 0.5 and time.monotonic() > gone_at:
            part.kill()
            gone_at = time.monotonic() + GONE
        else:
            part.stop()
        part.start()
        answered_by_all(deployment)
        if number >= len(deployment.of("ledger")) and calls.has_ended():
            break
    failed = calls.held(1.0).errors
    grown, after = "", before

    def is_as_before() -> bool:
        nonlocal grown, after
        calls.begin(FEW_CALLS // 10)
        after = calls.held(60.0)
        grown = after.more_than(before)
        return not grown

    try:
        eventually(is_as_before)
    except AssertionError:
        failed[f"after {number} restarts the caller holds {grown}"] = 1
    process.end()
    deployment.notes.append(f"before {before}, after {number} restarts {after}")
    return [f"{error}: {count}" for error, count in failed.items()]


class Scenario(NamedTuple):
    """`seconds` is its length in the suite; None where `make chaos` alone runs it, as continuous integration does.

    `may_fail`: see `Account.add`.
    """

    run: Callable[[Deployment, float, random.Random], Sequence[str] | None]
    seconds: float | None
    directory: str
    parts: tuple[tuple[str, int], ...]
    may_fail: bool = True


SCENARIOS = {
    "restart": Scenario(restart, None, "registry", REGISTRIES, may_fail=False),
    "kill": Scenario(kill, 4.0, "registry", REGISTRIES),
    "cut": Scenario(cut, 2.5, "registry", REGISTRIES),
    "one-way": Scenario(one_way, None, "registry", REGISTRIES),
    "delay": Scenario(delay, None, "registry", REGISTRIES, may_fail=False),
    "split": Scenario(split, None, "registry", REGISTRIES),
    # A short one is in tests/system/test_registries.py.
    "no-registry": Scenario(no_registry, None, "registry", REGISTRIES, may_fail=False),
    "churn": Scenario(churn, None, "registry", REGISTRIES),
    "etcd-leader": Scenario(leader, None, "etcd", ETCD, may_fail=False),
    "session": Scenario(session, None, "zookeeper", ZOOKEEPER),
    # A short one is in tests/system/test_dns.py.
    "dns": Scenario(answers, None, "dns", DNS, may_fail=False),
}


@contextmanager
def deployed(stage: Any, network: Any, folder: Any, directory: str, parts: tuple[tuple[str, int], ...]) -> Any:
    """A deployment that runs, for the block."""
    deployment = Deployment(stage, network, folder, directory, parts)
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.close()


__all__ = ["HOSTS", "LEFT", "SCENARIOS", "Deployment", "Part", "Scenario", "deployed"]
