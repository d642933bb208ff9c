"""Nameko on RabbitMQ: events of its standalone dispatcher (with publisher confirms, its default), handled by services."""

from __future__ import annotations

from typing import Any

from bench.eventing import PATIENCE, SOURCE, TYPE, Count, tell, wait_for_go


def _config(job: dict[str, Any]) -> dict[str, Any]:
    return {"AMQP_URI": f"pyamqp://guest:guest@{job['broker']}"}


def publish(job: dict[str, Any]) -> None:
    import time

    from nameko.standalone.events import event_dispatcher

    dispatch = event_dispatcher(_config(job))
    tell("here")
    wait_for_go()
    for number in range(job["events"]):
        dispatch(SOURCE, TYPE, {"number": number})
    tell("done")
    time.sleep(PATIENCE)


def subscribe(job: dict[str, Any]) -> None:
    import eventlet

    eventlet.monkey_patch()

    from nameko.containers import ServiceContainer
    from nameko.events import event_handler

    count = Count()

    class Subscriber:
        name = f"subscriber-{job['number']}"

        @event_handler(SOURCE, TYPE)
        def handle(self, payload: Any) -> None:
            count.one()

    ServiceContainer(Subscriber, _config(job)).start()
    tell("here")
    while not count.is_over(job, may_lose=False):
        eventlet.sleep(0.01)
    count.tell()
    eventlet.sleep(PATIENCE)
