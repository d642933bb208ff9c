"""Three processes count words under load, while one of them is killed and another one is stopped.

When half of the calls have ended, the first process gets SIGKILL and the second one SIGTERM. The demo exits with 0 only if every
call was answered or ended in a named error, no idempotent call failed, and only calls in flight at the killed process were lost.
"""

from __future__ import annotations

import itertools
import os
import queue
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from zmqservices.exceptions import MaybeExecuted
from zmqservices.standalone.rpc import ClusterRpcProxy

CALLS = 3000
THREADS = 8
FILES = 200


def text_files() -> list[str]:
    """Text files that every machine with Python has: the modules of the standard library."""
    library = Path(sysconfig.get_path("stdlib"))
    return [str(path) for path in itertools.islice(sorted(library.rglob("*.py")), FILES)]


class Processes:
    """The services. Each runs in its own process, and clients find it without any configuration."""

    def __init__(self) -> None:
        # The demo's own namespace keeps it apart from other services on this machine.
        self.environment = {**os.environ, "ZMQSERVICES_NAMESPACE": f"demo-{os.getpid()}"}
        self.started: list[subprocess.Popen[bytes]] = []

    def run(self, module: str, *options: str) -> subprocess.Popen[bytes]:
        return self.command("run", module, *options)

    def command(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `zmqservices ARGUMENTS`."""
        process = subprocess.Popen([sys.executable, "-m", "zmqservices", *arguments], env=self.environment)
        self.started.append(process)
        return process

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.terminate()
        for process in self.started:
            process.wait(30)


class Load:
    """Makes calls from several plain threads through one client, and counts their outcomes."""

    def __init__(self, cluster: Any, paths: list[str]) -> None:
        self._cluster = cluster
        self._work: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        for number in range(CALLS):
            self._work.put(("count" if number % 2 else "tally", paths[number % len(paths)]))
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.by_instance: Counter[int] = Counter()
        self.half_way = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> None:
        threads = [threading.Thread(target=self._call_all) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _call_all(self) -> None:
        while True:
            try:
                method, path = self._work.get_nowait()
            except queue.Empty:
                return
            instance, outcome = 0, "answered"
            try:
                instance = getattr(self._cluster.words, method)(path)["instance"]
            except Exception as exc:
                outcome = type(exc).__name__
            with self._lock:
                self.outcomes[method, outcome] += 1
                self.by_instance[instance] += instance != 0
                if self.outcomes.total() == CALLS // 2:
                    self.half_way.set()


def wait_for(cluster: Any, instances: int) -> None:
    """Wait until `instances` different instances of `words` have answered."""
    seen: set[int] = set()
    end = time.monotonic() + 30
    while len(seen) < instances:
        if time.monotonic() > end:
            raise SystemExit(f"only {len(seen)} of {instances} instances answered within 30 s")
        seen.add(cluster.words.count.with_timeout(30)(__file__)["instance"])


def report_on(load: Load, fates: dict[int, str]) -> bool:
    """Print the outcomes. Return whether every claim holds."""
    print(f"\n{CALLS} calls from {THREADS} threads over {len(fates)} instances\n")
    print(f"  {'instance':>10s}  {'answered':>8s}  fate")
    for pid, fate in fates.items():
        print(f"  {pid:>10d}  {load.by_instance[pid]:>8d}  {fate}")
    print(f"\n  {'method':<28s}  {'outcome':<16s}  calls")
    names = {"count": "count (idempotent)", "tally": "tally (at most once)"}
    for (method, outcome), calls in sorted(load.outcomes.items()):
        print(f"  {names[method]:<28s}  {outcome:<16s}  {calls}")
    lost = load.outcomes["tally", MaybeExecuted.__name__]
    claims = {
        "every call was answered or ended in a named error": load.outcomes.total() == CALLS,
        "every idempotent call was answered": load.outcomes["count", "answered"] == CALLS // 2,
        "only calls in flight at the killed instance were lost, each as MaybeExecuted": (
            load.outcomes["tally", "answered"] + lost == CALLS // 2 and lost <= THREADS
        ),
        "the calls were spread over all instances": all(load.by_instance[pid] for pid in fates),
    }
    print()
    for claim, held in claims.items():
        print(f"  {'yes' if held else 'NO '}  {claim}")
    return all(claims.values())


def main() -> int:
    processes = Processes()
    try:
        words = [processes.run("examples.words") for _ in range(3)]
        processes.run("examples.report")
        config = {"NAMESPACE": processes.environment["ZMQSERVICES_NAMESPACE"], "rpc_wait_for_service": 30}
        paths = text_files()
        with ClusterRpcProxy(config, timeout=30) as cluster:
            wait_for(cluster, len(words))
            total = cluster.report.report(paths)
            again = cluster.report.report(paths)
            print(
                f"report: {total['words']:,} words in {total['files']} files, counted by {len(total['instances'])} "
                f"instances; the second report had to count {again['asked']} files"
            )
            load = Load(cluster, paths)
            running = threading.Thread(target=load.run)
            running.start()
            load.half_way.wait(60)
            os.kill(words[0].pid, signal.SIGKILL)
            os.kill(words[1].pid, signal.SIGTERM)
            running.join()
        stopped = words[1].wait(30)
        fates = {
            words[0].pid: "killed (SIGKILL) half-way",
            words[1].pid: f"asked to stop (SIGTERM) half-way; exit status {stopped}",
            words[2].pid: "was left alone",
        }
        held = report_on(load, fates) and stopped == 0 and again["asked"] == 0
    finally:
        processes.end()
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
