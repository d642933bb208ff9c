"""A frozen instance: it neither answers nor closes its connections."""

import time

from tests.system.load import Load, told
from tests.system.processes import eventually
from zmqservices.exceptions import RemoteUnavailable

#: Seconds within which a frozen peer is given up, at HEARTBEAT 0.5: a ping each half second, two of them unanswered.
NOTICED = 2.5


def test_a_frozen_instance_gets_no_calls_until_it_thaws(make_cluster):
    # Leases of a minute: it is the heartbeat that must notice.
    cluster = make_cluster(DIRECTORY_TTL=60)
    instances = cluster.run("maths", count=3)
    frozen = instances[0]

    with Load(cluster.client_config(), lambda remote, _: remote.maths.whoami(), greenlets=16, pause=0.01) as load:
        eventually(lambda: frozen.pid in {outcome.value for outcome in load.outcomes})
        frozen.freeze()
        frozen_at = time.monotonic()
        # Some were in flight, or sent since; when they are told, nobody is sent there any more.
        eventually(load.failed, what="those in flight are told")
        later = load.wait_for(500, since=max(time.monotonic(), frozen_at + NOTICED))
        frozen.thaw()
        thawed_at = time.monotonic()
        eventually(lambda: frozen.pid in {o.value for o in load.begun(thawed_at)}, what="it is called again")

    # Those in flight are told; they do not hang until their deadline.
    assert all(isinstance(outcome.error, RemoteUnavailable) for outcome in load.failed()), told(load.failed())
    assert all(outcome.ended - frozen_at < NOTICED + 20.0 for outcome in load.failed())
    # And the others do not suffer: no call goes there any more, so none waits.
    assert not [outcome for outcome in later if outcome.error], told(later)
    assert max(outcome.seconds for outcome in later) < 10.0
    assert {outcome.value for outcome in later if outcome.began < thawed_at} == {p.pid for p in instances[1:]}


def test_a_plain_thread_does_not_wait_for_a_frozen_instance(make_cluster):
    cluster = make_cluster(DIRECTORY_TTL=60)
    frozen, other = cluster.run("maths", count=2)

    with cluster.client() as remote:
        eventually(lambda: remote.maths.whoami() == frozen.pid)
        call = remote.maths.add.call_async(2, 3)
        assert call.result() == 5
        frozen.freeze()
        # Without calls in flight nobody looks at the sockets; ZeroMQ's own heartbeats go on behind them.
        cluster.listing.wait_for(lambda: True)
        time.sleep(NOTICED)
        began = time.monotonic()
        assert {remote.maths.whoami() for _ in range(20)} == {other.pid}
        assert time.monotonic() - began < 5.0
        frozen.thaw()
        eventually(lambda: remote.maths.whoami() == frozen.pid, what="it is called again")


def test_a_registry_forgets_an_instance_that_is_frozen_for_longer_than_its_lease(cluster):
    frozen, other = cluster.run("maths", count=2)

    frozen.freeze()
    cluster.wait_unlisted("maths", frozen.pid)
    assert cluster.listing.pids("maths") == {other.pid}
    frozen.thaw()
    cluster.wait_listed("maths", frozen)

    with cluster.client() as remote:
        eventually(lambda: remote.maths.whoami() == frozen.pid, what="it is called again")
