"""Our own: a service that dispatches and services that handle, with reliable and best-effort events."""

from __future__ import annotations

import sys
from typing import Any

from bench.eventing import BURST, PATIENCE, SOURCE, TYPE, Count, tell

#: Greenlets that dispatch at the same time, and so share commits.
DISPATCHERS = 50


def _config(job: dict[str, Any]) -> dict[str, Any]:
    return {"DIRECTORY": job["directory"], "NAMESPACE": "bench", "JOURNAL_FOLDER": job["folder"], "DIRECTORY_CACHE": "none"}


def publish(job: dict[str, Any]) -> None:
    import gevent

    from zmqservices.containers import ServiceContainer
    from zmqservices.events import EventDispatcher

    class Publisher:
        name = SOURCE
        dispatch = EventDispatcher(reliable=job["subject"] == "reliable")

    container = ServiceContainer(Publisher, _config(job))
    container.start()
    [provider] = container.dependencies
    tell("here")
    gevent.get_hub().threadpool.apply(sys.stdin.readline)
    headers = {"call_id_stack": ["bench.publish.1"]}
    numbers = iter(range(job["events"]))

    def work() -> None:
        for number in numbers:
            provider._source.dispatch(TYPE, {"number": number}, headers, None, None, provider.is_reliable)
            if not provider.is_reliable and number % BURST == 0:
                gevent.sleep(0)

    gevent.joinall([gevent.spawn(work) for _ in range(DISPATCHERS)], raise_error=True)
    tell("done")
    gevent.sleep(PATIENCE)


def subscribe(job: dict[str, Any]) -> None:
    import gevent

    from zmqservices.containers import ServiceContainer
    from zmqservices.events import BROADCAST, SERVICE_POOL, event_handler

    reliable, count = job["subject"] == "reliable", Count()

    class Subscriber:
        name = f"subscriber-{job['number']}"

        @event_handler(SOURCE, TYPE, SERVICE_POOL if reliable else BROADCAST, reliable_delivery=reliable)
        def handle(self, payload: Any) -> None:
            count.one()

    ServiceContainer(Subscriber, _config(job)).start()
    tell("here")
    while not count.is_over(job, may_lose=not reliable):
        gevent.sleep(0.01)
    count.tell()
    gevent.sleep(PATIENCE)
