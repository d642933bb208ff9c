"""A node that is silent because it has nothing to send is not suspect."""

import logging

import gevent

from tests.stage import linked
from zmqservices.rpc import rpc


def test_a_process_that_is_busy_with_a_call_after_a_pause_is_not_suspect(serve, connect, caplog):
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
