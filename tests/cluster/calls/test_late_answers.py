"""Late answers and cancellations only affect the call that they belong to."""

import itertools
import random
from time import monotonic

import gevent
import pytest

from tests.stage import Gate, aside, linked
from zmqservices.exceptions import CallCancelled, RpcTimeout
from zmqservices.rpc import rpc
from zmqservices.wire import envelope
from zmqservices.wire.messages import Cancel


class Slow:
    name = "slow"
    gate = Gate()

    @rpc
    def fine(self):
        return True

    @rpc
    def wait(self, answer):
        self.gate()
        return answer

    @rpc
    def sleep(self, seconds, answer):
        gevent.sleep(seconds)
        return answer


@pytest.fixture
def slow(serve, cluster):
    serve(Slow, max_workers=1)
    Slow.gate.opened.clear()
    return linked(cluster.slow)


def caller_of(service):
    return service._client._cluster.caller()


def last_call(service):
    """The call that was sent last."""
    return next(reversed(caller_of(service)._pending.values()))


def test_a_late_answer_does_not_answer_the_next_call(slow):
    first = slow.wait.call_async("first")
    call = last_call(slow)
    Slow.gate.wait_for(1)
    first.cancel()
    second = slow.wait.call_async("second")
    Slow.gate.wait_for(1)

    # As if it had been on its way when its caller gave up.
    call.instance.peer.on_message(envelope.encode_result(call.id, "late", None))
    call.instance.peer.on_batch_end()
    Slow.gate.open()

    assert second.result() == "second"
    with pytest.raises(CallCancelled):
        first.result()


def test_a_late_cancellation_ends_no_other_call_of_the_same_worker(slow):
    first = slow.sleep.call_async(0.0, "first")
    call = last_call(slow)
    assert first.result() == "first"
    second = slow.wait.call_async("second")
    Slow.gate.wait_for(1)

    call.instance.peer.send(envelope.encode(Cancel(call.id)))
    # It has been read once this is answered: messages are read in their order.
    with pytest.raises(RpcTimeout):
        slow.fine.with_timeout(0.1)()
    Slow.gate.open()

    assert second.result() == "second"
    assert [each for each in Slow.gate.ended if each != "passed"] == []


def pairs(slow, give_up):
    """Calls that take as long as they may, each followed at once by another: what was wrong with their answers."""
    chance, numbers, wrong = random.Random(7), itertools.count(), []
    end = monotonic() + 1.0
    while monotonic() < end:
        number = next(numbers)
        try:
            answer = give_up(slow, 0.02 + chance.uniform(-0.004, 0.004), number)
        except (RpcTimeout, CallCancelled):
            answer = number
        following = slow.sleep(0.0, -number)
        if (answer, following) != (number, -number):
            wrong.append((number, answer, following))
    return wrong


def run_out_of_time(slow, seconds, number):
    return slow.sleep.with_timeout(0.02)(seconds, number)


def hit_by_a_timeout(slow, seconds, number):
    with gevent.Timeout(0.02, False):
        return slow.sleep(seconds, number)
    return number


def cancel(slow, seconds, number):
    call = slow.sleep.call_async(seconds, number)
    gevent.sleep(0.02)
    call.cancel()
    return call.result()


@pytest.mark.parametrize("give_up", [run_out_of_time, hit_by_a_timeout, cancel])
def test_a_greenlet_that_gives_up_at_the_answer_gets_the_right_next_answer(slow, give_up):
    assert pairs(slow, give_up) == []


def test_a_thread_that_gives_up_at_the_answer_gets_the_right_next_answer(slow):
    assert aside(lambda: pairs(linked(slow), run_out_of_time)) == []
