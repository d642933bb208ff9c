"""Clients of a directory, many in one process: they hold records, or care for some services and tell how soon they see changes.

    python -m bench.ours.watchers URL JOB         (JOB is JSON; orders come by standard input, a line of JSON answers each)
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from discovery import Record, open_directory
from zmqservices.process.collector import spare_what_lives

#: Services of the cluster, and leases that one holder keeps.
SERVICES, LEASES = 100, 1000
#: Seconds that everything may take.
PATIENCE = 300.0


def name_of(service: int) -> str:
    """The name of a service by its number."""
    return f"service-{service:03d}"


def record(number: int, **fields: Any) -> Record:
    """A record as that of a service with ten methods: about a kilobyte."""
    methods = {f"method_{index}": {"signature": f"(first, second={index}, *rest)", "idempotent": False} for index in range(10)}
    return Record(
        name_of(number % SERVICES), f"{number:012x}", node=f"{number // 10:012x}", incarnation=1, version=1, methods=methods,
        endpoints={"rpc": f"tcp://10.0.{number % 250}.{number // 250 % 250}:{20000 + number % 20000}"}, pid=number,
        host=f"host-{number // 10}", **fields,
    )  # fmt: skip


def rss_kib() -> int:
    """What of this process is in memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4


class Holders:
    """Announce records 0 to `records`, and then change them one by one."""

    def __init__(self, url: str, job: dict[str, Any]) -> None:
        self.directories = []
        self.records = [record(number) for number in range(job["records"])]
        for start in range(0, job["records"], LEASES):
            directory = open_directory(url, services=(), cache_dir=None)
            directory.start()
            self.directories.append(directory)
            for one in self.records[start : start + LEASES]:
                directory.announce(one)
        if not all(directory.flush(PATIENCE) for directory in self.directories):
            sys.exit("the records were not acknowledged")

    def change(self, order: dict[str, Any]) -> dict[str, Any]:
        """Announce new versions of records at random, `times` of them, every `pause` seconds. A tag says when."""
        for _ in range(order["times"]):
            number = random.randrange(min(SERVICES, len(self.records)))
            one = self.records[number] = self.records[number].replace(tags={"at": time.monotonic()})
            self.directories[number // LEASES].announce(one)
            time.sleep(order["pause"])
        return {}


class Watchers:
    """`clients` clients that care for `services` services each, out of all."""

    def __init__(self, url: str, job: dict[str, Any]) -> None:
        self.chance = random.Random(job["seed"])
        self.url, self.job = url, job
        self.clients: list[Any] = []
        self.before = rss_kib()
        self.seen: list[float] = []

    def join(self, order: dict[str, Any]) -> dict[str, Any]:
        """Open all clients at once; return when each has all the records that it asked for."""
        chosen = [self.chance.sample(range(SERVICES), self.job["services"]) for _ in range(self.job["clients"])]
        for services in chosen:
            client = open_directory(self.url, services=map(name_of, services), cache_dir=None)
            client.start()
            self.clients.append(client)
        end = time.monotonic() + PATIENCE
        for client in self.clients:
            if not client.wait_ready(end - time.monotonic()):
                sys.exit(f"a client was not ready: {client.describe()}")
        done = time.monotonic()
        # As the client counts them: to look at them all would decode them all.
        held = sum(one["records"] for client in self.clients for one in client.view().registries)
        for client, services in zip(self.clients, chosen, strict=True):
            # One record of each service, which is the one that is changed.
            client.subscribe(self._watch([f"{number:012x}" for number in services]))
        return {"done": done, "held": held}

    def _watch(self, instances: list[str]) -> Callable[[Any], None]:
        last: dict[str, float] = {}

        def look(view: Any) -> None:
            now = time.monotonic()
            for instance in instances:
                seen = view.records.get(instance)
                at = 0.0 if seen is None else seen.record.tags.get("at", 0.0)
                if at > last.get(instance, 0.0):
                    last[instance] = at
                    self.seen.append(now - at)

        return look

    def tell(self, order: dict[str, Any]) -> dict[str, Any]:
        """What was seen since the last time, and the memory that the clients take."""
        seen, self.seen = self.seen, []
        return {"seen": seen, "rss_kib": rss_kib() - self.before}


def main() -> None:
    url, job = sys.argv[1], json.loads(sys.argv[2])
    part = Holders(url, job) if "records" in job else Watchers(url, job)
    # As in a service process. Otherwise each client would pay for the objects of all others here.
    spare_what_lives()
    print("{}", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(getattr(part, order["do"])(order)), flush=True)


if __name__ == "__main__":
    main()
