"""One of two instances is frozen, and its connections stand: calls that have a second attempt are answered all the same."""

from zmqservices.exceptions import RpcTimeout
from zmqservices.standalone.rpc import ClusterRpcProxy

CALLS = 30


def outcomes(remote, timeout):
    """Calls made at once: how many were answered, and how many not within `timeout` seconds."""
    calls = [remote.maths.pause_again.with_timeout(timeout).call_async(0.005) for _ in range(CALLS)]
    answered = 0
    for call in calls:
        try:
            call.result()
            answered += 1
        except RpcTimeout:
            pass
    return answered, CALLS - answered


def warm_up(remote, instances):
    places = set()
    while len(places) < len(instances):
        places = {remote.maths.pause_again(0.005) for _ in range(40)}


def test_calls_with_a_second_attempt_do_not_wait_for_a_frozen_instance(make_cluster):
    # So slow that nobody else notices: neither the directory nor a heartbeat.
    cluster = make_cluster(DIRECTORY_TTL=60, HEARTBEAT=20)
    instances = cluster.run_all("maths", "maths")
    hedged_client = ClusterRpcProxy(cluster.client_config(), timeout=60, hedge=True)
    plain_client = ClusterRpcProxy(cluster.client_config(), timeout=60)

    with hedged_client as hedged, plain_client as plain:
        warm_up(hedged, instances)
        warm_up(plain, instances)
        instances[0].freeze()
        with_second, without = outcomes(hedged, 60), outcomes(plain, 2)
        [state], [plain_state] = hedged_client.call_state(), plain_client.call_state()
        instances[0].thaw()

    assert with_second == (CALLS, 0)
    assert without[1] > 0
    assert state["hedges_won"] >= 1
    assert state["hedged"] >= state["hedges_won"]
    assert plain_state["hedged"] == 0
