"""A service whose queue is too old refuses calls, however few wait."""

import gevent
import pytest

from tests.stage import Gate, linked, until
from zmqservices.exceptions import ConfigurationError, Overloaded
from zmqservices.rpc import rpc

#: Seconds that the queue may be old.
LIMIT = 0.2


def slow():
    class Slow:
        name = "slow"
        gate = Gate()

        @rpc
        def fine(self):
            """Answers at once."""

        @rpc
        def held(self):
            self.gate()

    return Slow


@pytest.fixture
def container(serve):
    return serve(slow(), max_workers=1, max_queued_seconds=LIMIT)


def begin(service, container, count, waiting):
    calls = [service.held.call_async() for _ in range(count)]
    until(lambda: container.pool.backlog() == waiting)
    return calls


def test_an_old_queue_refuses_calls_and_a_young_one_takes_them(container, connect):
    service = linked(connect(rpc_retries_per_second=0).slow)
    calls = begin(service, container, 20, waiting=19)
    gevent.sleep(LIMIT)

    with pytest.raises(Overloaded, match=r"the oldest of 19 calls has waited [\d.]+ s for a worker of 'slow'; max_queued_s"):
        service.fine()
    container.service_cls.gate.opened.set()
    for call in calls:
        call.result()

    service.fine()


def test_calls_that_run_for_long_are_no_queue(container, connect):
    service = linked(connect().slow)
    [call] = begin(service, container, 1, waiting=0)
    gevent.sleep(2 * LIMIT)

    waits = service.fine.call_async()
    container.service_cls.gate.opened.set()

    waits.result()
    call.result()


def test_a_caller_asks_another_instance_at_once(serve, connect):
    busy = serve(slow(), max_workers=1, max_queued_seconds=LIMIT)
    service = linked(connect().slow)
    begin(service, busy, 5, waiting=4)
    gevent.sleep(LIMIT)
    free = serve(slow(), max_workers=1, max_queued_seconds=LIMIT, HEARTBEAT=3.0)  # Other settings: a node of its own.
    until(lambda: len(service._client._cluster.caller()._pools["slow"].ready) == 2)

    for _ in range(20):
        service.fine.with_timeout(30)()

    busy.service_cls.gate.opened.set()
    assert free.pool.backlog() == 0


def test_a_wrong_value_is_told(serve):
    with pytest.raises(ConfigurationError, match="max_queued_seconds is 'soon'; a number of seconds is needed, such as 30"):
        serve(slow(), max_queued_seconds="soon")
