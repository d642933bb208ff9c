"""A node that has nothing to say is not suspected for that."""

import logging

import gevent

from tests.stage import linked
from zmqservices.rpc import rpc


def test_a_process_that_is_busy_with_one_call_after_a_pause_is_not_called_silent(serve, connect, caplog):
    class Slow:
        name = "slow"

        @rpc
        def fine(self, seconds=0.0):
            gevent.sleep(seconds)

    serve(Slow)
    slow = linked(connect(HEARTBEAT=0.1).slow)
    (instance,) = slow._client._cluster.caller()._pools["slow"].ready
    # As if nothing had been said for an hour.
    instance.peer._last_heard -= 3600.0

    with caplog.at_level(logging.WARNING):
        slow.fine(0.5)

    assert not [record for record in caplog.records if "has been silent" in record.getMessage()]
