"""Makes calls in a process of its own and prints what they cost as one line of JSON.

    python -m bench.client bare PORT CALLS IN_FLIGHT
    python -m bench.client ours DIRECTORY CALLS IN_FLIGHT
    python -m bench.client thread DIRECTORY CALLS IN_FLIGHT
"""

from __future__ import annotations

import json
import resource
import sys
from time import perf_counter

from bench import limits


def ours(directory: str, calls: int, in_flight: int) -> float:
    """`in_flight` greenlets, each making one call after the other; the seconds that it took."""
    import gevent

    from zmqservices.standalone.rpc import ClusterRpcProxy

    gevent.get_hub()  # This thread runs a hub, so the client is driven by it.
    with ClusterRpcProxy({"DIRECTORY": directory}) as cluster:
        add = cluster.adder.add
        add(1, 2)

        def work(count: int) -> None:
            for number in range(count):
                if add(number, 1) != number + 1:
                    raise AssertionError("add() answered wrongly")

        start = perf_counter()
        share = max(calls // in_flight, 1)
        for worker in [gevent.spawn(work, share) for _ in range(in_flight)]:
            worker.get()
        return (perf_counter() - start) * calls / (share * in_flight)


def thread(directory: str, calls: int, in_flight: int) -> float:
    """A plain thread without a hub: `in_flight` calls sent ahead, their answers collected in order."""
    from collections import deque

    from zmqservices.standalone.rpc import ClusterRpcProxy

    with ClusterRpcProxy({"DIRECTORY": directory}) as cluster:
        add = cluster.adder.add
        add(1, 2)
        start = perf_counter()
        if in_flight == 1:
            for number in range(calls):
                add(number, 1)
        else:
            open_calls: deque[object] = deque()
            for number in range(calls):
                open_calls.append(add.call_async(number, 1))
                if len(open_calls) >= in_flight:
                    open_calls.popleft().result()  # type: ignore[attr-defined]
            for call in open_calls:
                call.result()  # type: ignore[attr-defined]
        return perf_counter() - start


def main() -> None:
    kind, where, calls, in_flight = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    before = resource.getrusage(resource.RUSAGE_SELF)
    if kind == "bare":
        taken = limits.call(int(where), calls, in_flight)
    else:
        taken = {"ours": ours, "thread": thread}[kind](where, calls, in_flight)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"kind": kind, "calls": calls, "in_flight": in_flight, "seconds": taken, "cpu": cpu}))


if __name__ == "__main__":
    main()
