"""Twice as many calls as can be served, each with a limit: those that can be served are."""

from time import monotonic

import gevent

from tests.stage import linked
from zmqservices.exceptions import RpcTimeout
from zmqservices.rpc import rpc

#: Seconds of one call, of a caller's patience, and of the load.
WORK, LIMIT, LOAD = 0.02, 0.4, 3.0


def test_what_is_served_does_not_collapse_beyond_what_can_be_served(serve, connect):
    class Busy:
        name = "busy"

        @rpc
        def fine(self):
            gevent.sleep(WORK)

    serve(Busy, max_workers=1)
    service = linked(connect().busy)
    answered, too_late = [], []

    def call():
        try:
            service.fine.with_timeout(LIMIT)()
            answered.append(monotonic())
        except RpcTimeout:
            too_late.append(monotonic())

    began, calls = monotonic(), []
    while monotonic() - began < LOAD:
        calls.append(gevent.spawn(call))
        gevent.sleep(WORK / 2)
    gevent.joinall(calls, raise_error=True)

    # Those of the second half, when the queue is as long as the patience of who waits in it.
    served = [at for at in answered if at > began + LOAD / 2]
    possible = LOAD / 2 / ((answered[-1] - answered[0]) / len(answered))
    assert too_late
    assert len(served) > 0.5 * min(possible, LOAD / 2 / WORK)
