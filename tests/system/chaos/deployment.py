"""A cluster over five hosts: starts and restarts its processes, and checks that all is as it should be.

At the left switch are hosts 1 and 2, at the right one 3, 4 and 5. Each half has a directory, a caller and services.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.discovery.dns_server import DnsServer
from tests.system.chaos.accounts import Account, CallerFile, Span
from tests.system.clusters import QUICK, Listing
from tests.system.hosts import Host, Hosts
from tests.system.processes import Process, Stage, eventually
from tests.system.tallies import Tallies

NAMESPACE = "chaos"
#: Of all programs, where DNS is the directory.
NAME = "shop.chaos.test"
PORT = 4190
#: A frozen handler's events go to another one after `events_ack_wait`. An instance that fails again and again, as some do here,
#: is ejected for six times `rpc_ejection` at most: less than HEALING.
SETTINGS = {**QUICK, "events_ack_wait": 3.0, "events_backoff": 0.05, "max_workers": 100, "rpc_ejection": 2.0}
#: What the callers do: so many greenlets each, and so many seconds between two calls of one of them.
GREENLETS, PAUSE = 8, 0.12
#: Seconds within which all must be as before, once the network and the processes are.
HEALING = 20.0


class Part:
    """One program on one host, started as often as need be."""

    def __init__(self, deployment: Deployment, kind: str, host: Host) -> None:
        self.kind, self.host, self._deployment = kind, host, deployment
        self.name = f"{kind}-{host.number}"
        self.process: Process | None = None

    @property
    def running(self) -> Process:
        assert self.process is not None, f"{self.name} was never started"
        return self.process

    def launch(self) -> None:
        """Start it; `wait` waits until it is there."""
        command = getattr(self._deployment, f"{self.kind}_command")(self)
        cache = str(self._deployment.folder / f"cache-{self.host.number}")
        environment = {"ZMQSERVICES_DIRECTORY": self._deployment.url, "ZMQSERVICES_NAMESPACE": NAMESPACE, "XDG_CACHE_HOME": cache}
        self.process = self._deployment.stage.start(self.name, [*self.host.prefix, *command], environment)

    def wait(self) -> None:
        text = READY.get(self.kind)
        if text:
            self.running.has_said(text)

    def start(self) -> None:
        self.launch()
        self.wait()

    def stop(self) -> None:
        """In good order, and with success."""
        self.running.terminate()
        status = self.running.wait()
        assert status == 0, f"{self.name} ended with {status}: {self.running.output()[-1000:]}"

    def kill(self) -> None:
        self.running.kill()
        self.running.wait()
        for file in self._deployment.files:
            if file.path.name.startswith(f"{self.name}-") and not file.is_over:
                file.was_killed = True


#: What each kind says once it is there.
READY = {
    "registry": "serving at", "ledger": "Services started", "orders": "Services started", "mails": "Services started",
}  # fmt: skip
SERVICES = ("ledger", "orders", "mails")


class Deployment:
    """`directory`: what stands in for one, "registry", "etcd", "zookeeper" or "dns". `parts`: kinds, and their hosts' numbers."""

    def __init__(self, stage: Stage, network: Hosts, folder: Path, directory: str, parts: Sequence[tuple[str, int]]) -> None:
        self.stage, self.network, self.folder = stage, network, folder
        self.hosts = network.hosts
        self.parts = [Part(self, kind, self.hosts[number - 1]) for kind, number in parts]
        self.tallies = Tallies(folder / "tallies")
        self.files: list[CallerFile] = []
        self.listings: list[Listing] = []
        #: What a scenario has to tell besides.
        self.notes: list[str] = []
        self._indexes = itertools.count(1)
        #: When no instance could be reached from a host, by its number.
        self.alone: dict[int, list[Span]] = {}
        #: Where DNS leads to, if it is the directory; each program at a port of its own host.
        self.dns: DnsServer | None = None
        self.addresses = {part: part.host.address for part in self.parts}
        self.urls = getattr(self, f"{directory}_urls")()
        self.url = ",".join(self.urls)

    # --- the programs -------------------------------------------------------------------------------------------------

    def registry_urls(self) -> list[str]:
        return [f"tcp://{part.host.host}:{PORT}" for part in self.of("registry")]

    def registry_command(self, part: Part) -> list[str]:
        url = f"tcp://{part.host.host}:{PORT}"
        return [sys.executable, "-m", "discovery", "serve", "--bind", url, "--ttl", str(SETTINGS["DIRECTORY_TTL"])]

    def etcd_urls(self) -> list[str]:
        return [f"etcd://{','.join(f'{part.host.host}:2379' for part in self.of('etcd'))}/chaos"]

    def etcd_command(self, part: Part) -> list[str]:
        at = f"http://{part.host.host}"
        members = ",".join(f"{other.name}=http://{other.host.host}:2380" for other in self.of("etcd"))
        return [
            shutil.which("etcd") or "etcd", "--name", part.name, "--data-dir", str(self.folder / part.name),
            "--log-level", "error", "--logger", "zap", "--unsafe-no-fsync",
            "--listen-client-urls", f"{at}:2379", "--advertise-client-urls", f"{at}:2379",
            "--listen-peer-urls", f"{at}:2380", "--initial-advertise-peer-urls", f"{at}:2380", "--initial-cluster", members,
            "--heartbeat-interval", "100", "--election-timeout", "1000",
        ]  # fmt: skip

    def is_leader(self, part: Part) -> bool:
        """Whether this member of etcd leads."""
        request = urllib.request.Request(f"http://{part.host.host}:2379/v3/maintenance/status", b"{}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                status = json.load(answer)
        except OSError:
            return False
        return bool(status.get("leader") == status["header"]["member_id"])

    def zookeeper_urls(self) -> list[str]:
        return [f"zookeeper://{','.join(f'{part.host.host}:2181' for part in self.of('zookeeper'))}/chaos"]

    def zookeeper_command(self, part: Part) -> list[str]:
        """One member alone, in a JVM as small as it gets."""
        folder = self.folder / part.name
        folder.mkdir(exist_ok=True)
        lines = ["tickTime=100", f"dataDir={folder}", "clientPort=2181", "admin.enableServer=false", "maxSessionTimeout=10000"]
        (folder / "zoo.cfg").write_text("\n".join([*lines, "forceSync=no", "preAllocSize=64", "maxClientCnxns=0"]))
        options = ["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/zookeeper.jar"]
        return ["java", *options, "org.apache.zookeeper.server.ZooKeeperServerMain", str(folder / "zoo.cfg")]

    def dns_urls(self) -> list[str]:
        self.dns = DnsServer(self.network.this_address)
        self.name_all()
        return [f"dns://{NAME}:{PORT}?server={self.dns.address}"]

    def name_all(self, but: Part | None = None) -> None:
        """From now on DNS names all programs that are called or publish, but one."""
        assert self.dns is not None
        self.dns.set(NAME, "A", *(self.addresses[part] for part in self.of("ledger", "orders") if part is not but))

    def _service_command(self, part: Part) -> list[str]:
        journals = self.folder / f"journals-{part.host.number}"
        settings = {**SETTINGS, "TALLY": self.tallies.folder, "JOURNAL_FOLDER": journals}
        if self.dns is not None and part.kind != "mails":
            settings["BIND_ADDRESS"] = f"tcp://{self.addresses[part]}:{PORT}"
        definitions = [piece for key, value in settings.items() for piece in ("-d", f"{key}={value}")]
        target = f"tests.system.chaos.services:{part.kind.capitalize()}"
        return [sys.executable, "-m", "zmqservices", "run", target, *definitions]

    ledger_command = orders_command = mails_command = _service_command

    def client_config(self) -> dict[str, Any]:
        return {"DIRECTORY": self.url, "NAMESPACE": NAMESPACE, **SETTINGS}

    def caller_command(self, part: Part) -> list[str]:
        index = next(self._indexes)
        file = CallerFile(self.folder / f"{part.name}-{index}", part.host.number)
        self.files.append(file)
        settings = {"index": index, "file": str(file.path), "pause": PAUSE, "greenlets": GREENLETS}
        settings["config"] = self.client_config()
        return [sys.executable, "-m", "tests.system.chaos.caller", json.dumps(settings)]

    # --- all of them --------------------------------------------------------------------------------------------------

    def of(self, *kinds: str) -> list[Part]:
        return [part for part in self.parts if part.kind in kinds]

    def start(self) -> None:
        """Everything, the directory first and the callers last."""
        # Handlers before the publisher: what is dispatched before their group is known to anybody is not kept for them.
        for kinds in (("registry", "etcd", "zookeeper"), ("ledger", "mails"), ("orders",), ("caller",)):
            for part in self.of(*kinds):
                part.launch()
            for part in self.of(*kinds):
                part.wait()
        # Each registry alone; an engine is one directory, however many members it has.
        self.listings = [Listing(url, NAMESPACE) for url in self.urls]
        self.settle(time.monotonic())

    def close(self) -> None:
        for listing in self.listings:
            listing.close()
        if self.dns is not None:
            self.dns.close()

    def pids(self, service: str) -> set[int]:
        return {part.running.pid for part in self.of(service)}

    # --- what became of it --------------------------------------------------------------------------------------------

    def read_on(self) -> None:
        for file in self.files:
            file.read_on()

    def callers(self) -> list[CallerFile]:
        """The files of those that run now."""
        return [file for file in self.files if not file.is_over and not file.was_killed]

    def why_unsettled(self, since: float) -> str:
        """What is not as it should be; "" when everything is: every process runs, every directory lists every instance, every
        caller had an answer of every instance to a call begun since then, and every event is handled."""
        for part in self.parts:
            if not part.running.is_running:
                return f"{part.name} ended with {part.running.popen.returncode}: {part.running.output()[-500:]}"
        for listing in self.listings:
            # Behind a name of DNS, processes without methods and events are not listed.
            services = SERVICES if self.dns is None else ("ledger", "orders")
            wrong = {name: listing.pids(name) for name in services if listing.pids(name) != self.pids(name)}
            if wrong or not listing.directory.view().fresh:
                return f"{listing.directory.describe()} lists {wrong}; those that run: { {n: self.pids(n) for n in wrong} }"
        self.read_on()
        for file in self.callers():
            calls = [call for call in file.calls.values() if call.began >= since and call.pid is not None]
            missing = self.pids("ledger") - {call.pid for call in calls}
            if missing:
                return f"{file.path.name} had no answer of {missing} among {len(calls)}"
        lost = self.tallies.missing()
        if self.dns is not None:
            # DNS keeps no notes: what is dispatched before the first member of a group came is not kept for it.
            lost = {number for number in lost if number > min(self.tallies.numbers("handled"), default=number)}
        return f"{len(lost)} events are not handled: {sorted(lost)[:5]}" if lost else ""

    def settle(self, since: float) -> None:
        """Return once all is as it should be; AssertionError after HEALING seconds."""
        reason = ""

        def is_settled() -> bool:
            nonlocal reason
            reason = self.why_unsettled(since)
            return not reason

        try:
            eventually(is_settled, HEALING)
        except AssertionError:
            raise AssertionError(f"all is not as before within {HEALING:g} s: {reason}") from None

    @contextmanager
    def being_alone(self, *hosts: Host, recovery: float = 3.0) -> Any:
        """From these hosts no instance can be reached in the block, and for `recovery` seconds after it, while links come up."""
        begin = time.monotonic()
        yield
        for host in hosts:
            self.alone.setdefault(host.number, []).append(Span(begin, time.monotonic() + recovery))

    def observe(self, scenario: Callable[[], Any], may_fail: bool) -> Account:
        """Run a scenario, wait until all is as before, and account for every call and event since its beginning. What else the
        scenario found is what it returns. `may_fail`: see `Account.add`."""
        account = Account()
        begin = time.monotonic()
        before = {name: len(self.tallies.lines(name)) for name in ("dispatched", "refused", "handled")}
        try:
            account.faults += scenario() or []
            healed = time.monotonic()
            self.settle(healed)
        except AssertionError as exc:
            account.is_over, healed = True, time.monotonic()
            account.faults.append(str(exc))
        account.healed_after = time.monotonic() - healed
        span = Span(begin, time.monotonic())
        self._wait_for_ends(span)
        executed = Counter(self.tallies.numbers("executed"))
        for file in self.files:
            account.add(file, span, executed, self.alone.get(file.host, ()), may_fail)
        account.events = len(self.tallies.lines("dispatched")) - before["dispatched"]
        account.refused_events = len(self.tallies.lines("refused")) - before["refused"]
        handled = [number for number, _ in self.tallies.lines("handled")[before["handled"] :]]
        account.events_twice = sum(1 for count in Counter(handled).values() if count > 1)
        return account

    def _wait_for_ends(self, span: Span) -> None:
        """Until each call that was begun within `span` has ended, or should have."""

        def have_ended() -> bool:
            self.read_on()
            under_way = [
                call
                for file in self.callers()
                for call in file.calls.values()
                if call.began < span.end and call.ended is None and call.deadline + 2.0 > time.monotonic()
            ]
            return not under_way

        eventually(have_ended, 20.0, "each call has ended, or is late")
