"""Many clients share a few instances: each learns from the answers how many calls of the others wait where."""

import threading

from zmqservices.cluster.calls.instances import ServicePool

CLIENTS, CALLS = 16, 24


def found_queues(cluster, services):
    """Clients of each service make one call after the other. Answers how many calls each found waiting, sorted, by service."""
    found = {service: [] for service in services}

    def call(service):
        with cluster.client(timeout=60) as remote:
            work = remote[service].work
            for _ in range(CALLS):
                found[service].append(work(0.02))

    threads = [threading.Thread(target=call, args=(service,)) for service in services for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {service: sorted(waited) for service, waited in found.items()}


def test_many_clients_leave_no_instance_with_a_long_queue(peaceful_cluster, monkeypatch):
    cluster, hear = peaceful_cluster, ServicePool.heard
    monkeypatch.setattr(ServicePool, "heard", lambda pool, *args: pool.service == "told" and hear(pool, *args))
    for process in [cluster.launch("queued", max_workers=1) for _ in range(4)]:
        cluster.wait_listed("told", process)
        cluster.wait_listed("blind", process)

    found = found_queues(cluster, ("told", "blind"))

    # Both have as many calls on as many instances at the same time, so what differs is where they wait.
    p99 = CLIENTS * CALLS * 99 // 100
    unevenness = {service: sum(waited**2 for waited in found[service]) for service in found}
    assert len(found["told"]) == len(found["blind"]) == CLIENTS * CALLS
    assert found["told"][p99] <= found["blind"][p99], found
    assert unevenness["told"] < 0.9 * unevenness["blind"], found
