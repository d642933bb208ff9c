"""Many clients in one process: `python -m bench.ours.crowd URL '{"clients": 100, "in_flight": 64, "seconds": 2, "links": 1}'`.

Says "ready" when every client has had its answers and all links stand, waits for "go", and prints what its calls took.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from typing import Any

from bench import styles
from bench.drive import Timing, tell, wait_for_go
from bench.vitals import files_of, rss_of, threads_of

#: Seconds that links may take to stand.
PATIENCE = 60.0
#: Seconds that greetings get after the connections stand.
GREETINGS = 0.5


def established() -> int:
    """TCP connections of this process that stand."""
    sockets = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    with open("/proc/self/net/tcp") as tcp:
        return sum(1 for line in tcp.readlines()[1:] if (f := line.split())[3] == "01" and f[9] in sockets)


def main() -> None:
    import gevent

    from zmqservices.standalone.rpc import ClusterRpcProxy

    gevent.get_hub()
    url, job = sys.argv[1], json.loads(sys.argv[2])
    services: list[Any] = []
    for _ in range(job["clients"]):
        services.append(ClusterRpcProxy({"DIRECTORY": url, "rpc_wait_for_service": 30}).start().adder)
        services[-1].add(1, 2)
    until = time.monotonic() + PATIENCE
    while established() < job["links"] and time.monotonic() < until:
        gevent.sleep(0.05)
    gevent.sleep(GREETINGS)

    # Each call in flight goes round all clients, so that all of them are at work.
    turns = itertools.cycle(services)

    class Everybody:
        def add(self, a: int, b: int) -> int:
            value: int = next(turns).add(a, b)
            return value

    def work(seconds: float) -> styles.Taken:
        return styles.greenlets(Everybody, styles.Work(job["in_flight"], seconds))

    work(max(job["seconds"] / 4, 0.05))
    tell("ready")
    wait_for_go()
    pid = os.getpid()
    timing = Timing()
    result = timing.result(work(job["seconds"]))
    held = {
        "links": established(),
        "client_rss_mb": rss_of(pid),
        "client_files": files_of(pid),
        "client_threads": threads_of(pid),
    }
    tell(json.dumps({**result, **held, "versions": {}, "client_python": ""}))
    os._exit(0)


if __name__ == "__main__":
    main()
