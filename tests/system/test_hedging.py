"""One of two instances is frozen, and its connections stay open: hedged calls are answered all the same."""

from tests.system.processes import eventually
from zmqservices.exceptions import RpcTimeout
from zmqservices.standalone.rpc import ClusterRpcProxy

#: At once. So many that some go to each instance, even to one that was much slower than the other one so far.
CALLS = 60


def called(remote, timeout):
    """The answers to calls that were made at once; None for one that was not answered within `timeout` seconds."""
    calls = [remote.maths.pause_again.with_timeout(timeout).call_async(0.005) for _ in range(CALLS)]
    answers = []
    for call in calls:
        try:
            answers.append(call.result())
        except RpcTimeout:
            answers.append(None)
    return answers


def test_calls_with_a_second_attempt_do_not_wait_for_a_frozen_instance(make_cluster):
    # So slow that nobody else notices: neither the directory nor a heartbeat.
    cluster = make_cluster(DIRECTORY_TTL=60, HEARTBEAT=60)
    frozen, living = cluster.run_all("maths", "maths")
    both = {frozen.pid, living.pid}
    hedged_client = ClusterRpcProxy(cluster.client_config(), timeout=45, hedge=True)
    plain_client = ClusterRpcProxy(cluster.client_config(), timeout=45)

    with hedged_client as hedged, plain_client as plain:
        for client in (hedged, plain):
            # Their links are up, and it is known how long calls take.
            eventually(lambda client=client: set(called(client, 45)) == both)
        frozen.freeze()
        # Once more where by chance none went to the frozen one: it may have seemed slow before.
        eventually(lambda: set(called(hedged, 45)) == {living.pid} and hedged_client.call_state()[0]["hedges_won"])
        eventually(lambda: None in called(plain, 1))
        [state], [plain_state] = hedged_client.call_state(), plain_client.call_state()
        frozen.thaw()

    assert state["hedged"] >= state["hedges_won"] >= 1
    assert plain_state["hedged"] == 0
