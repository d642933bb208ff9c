"""What is known of instances and nodes, and what the timeline tells of them."""

import pytest

from tests.dashboard.stage import answer, at, cluster, happening, listed
from zmqservices.dashboard.cluster_state import GONE_FOR, MOST_INSTANCES, MOST_NODES
from zmqservices.dashboard.picture import Picture
from zmqservices.dashboard.timeline import MOST_KEPT, MOST_LOST, ClusterTimeline


def told(state):
    return [(entry["what"], entry["service"], entry["instance"]) for entry in state.timeline.to_list()]


def condition(state, instance):
    services = Picture(state).to_dict()["services"]
    return next(one["state"] for service in services for one in service["instances"] if one["id"] == instance)


def test_who_was_there_first_has_not_joined():
    state = cluster(listed("orders", "o1"))

    state.listed([listed("orders", "o1"), listed("mails", "m1", port=2)], 101.0)

    assert told(state) == [("joined", "mails", "m1")]


def test_who_drains_and_goes_has_left():
    state = cluster(listed("orders", "o1"))
    state.listed([listed("orders", "o1", state="DRAINING")], 101.0)
    assert condition(state, "o1") == "draining"

    state.listed([], 102.0)

    assert condition(state, "o1") == "left"
    assert told(state) == [("draining", "orders", "o1"), ("left", "orders", "o1")]


def test_who_goes_without_a_word_was_lost():
    state = cluster(listed("orders", "o1"))

    state.listed([], 101.0)

    assert condition(state, "o1") == "lost"
    assert told(state) == [("lost", "orders", "o1")]


def test_the_lost_stay_on_the_map_for_a_while():
    state = cluster(listed("orders", "o1"))
    state.listed([], 101.0)

    state.expire(101.0 + GONE_FOR)
    assert "o1" in state.instances
    state.expire(101.1 + GONE_FOR)
    assert "o1" not in state.instances


def test_a_connection_that_breaks_is_a_loss_at_once_though_the_lease_holds():
    state = cluster(listed("orders", "o1"), listed("mails", "m1", port=2))
    state.answered(at(1), answer(100.0), 100.0)

    state.lost("tcp://127.0.0.1:1", 101.0)

    assert (condition(state, "o1"), condition(state, "m1")) == ("lost", "up")
    assert told(state) == [("lost", "orders", "o1")]
    state.listed([listed("mails", "m1", port=2)], 111.0)
    assert told(state) == [("lost", "orders", "o1")], "the end of its lease is not told a second time"


def test_a_connection_that_breaks_while_it_drains_is_no_loss():
    state = cluster(listed("orders", "o1", state="DRAINING"))
    state.answered(at(1), answer(100.0), 100.0)

    state.lost("tcp://127.0.0.1:1", 101.0)

    assert condition(state, "o1") == "draining"


def test_who_answers_again_is_back():
    state = cluster(listed("orders", "o1"))
    state.answered(at(1), answer(100.0), 100.0)
    state.lost("tcp://127.0.0.1:1", 101.0)

    state.answered(at(1), answer(102.0), 102.0)

    assert condition(state, "o1") == "up"
    assert told(state)[-1] == ("back", "orders", "o1")


@pytest.mark.parametrize("tell, expected", [
    (lambda state: state.failed(at(1), "RpcTimeout: too late"), "silent"),
    (lambda state: state.suspected("tcp://127.0.0.1:1"), "suspect"),
    (lambda state: state.listed([listed("orders", "o1", is_suspect=True)], 101.0), "suspect"),
    (lambda state: state.listed([listed("orders", "o1", state="STARTING")], 101.0), "starting"),
])  # fmt: skip
def test_what_else_an_instance_can_be(tell, expected):
    state = cluster(listed("orders", "o1"))
    state.answered(at(1), answer(100.0), 100.0)

    tell(state)

    assert condition(state, "o1") == expected


def test_publishers_are_no_services_but_have_the_dead_letters():
    state = cluster(listed("events:orders", "p1"), listed("orders", "o1"))

    assert state.publishers == {"orders": [at(1)]}
    assert list(state.instances) == ["o1"]


# --- the timeline ----------------------------------------------------------------------------------------------------


def test_what_several_nodes_saw_is_told_once():
    timeline = ClusterTimeline(began=100.0)

    timeline.take("n1", [happening(1, "ejected", 101.0)], 0.0, {})
    timeline.take("n2", [happening(1, "ejected", 102.0)], 0.0, {})
    timeline.take("n2", [happening(2, "ejected", 200.0)], 0.0, {})

    first, second = timeline.to_list()
    assert (first["at"], first["seen_by"], second["at"], second["seen_by"]) == (101.0, 2, 200.0, 1)


def test_an_entry_is_taken_once():
    timeline = ClusterTimeline(began=100.0)

    for _ in range(2):
        timeline.take("n1", [happening(1, "ejected", 101.0), happening(2, "restored", 111.0)], 0.0, {})

    assert [one["seen_by"] for one in timeline.to_list()] == [1, 1]
    assert timeline.taken == {"n1": 2}


def test_what_this_process_sees_itself_is_taken_from_before_its_start_only():
    timeline = ClusterTimeline(began=100.0)

    timeline.take("n1", [happening(1, "listed", 50.0), happening(2, "listed", 101.0, instance="o2")], 0.0, {})

    assert [one["instance"] for one in timeline.to_list()] == ["o1"]


def test_a_link_is_told_by_the_service_at_its_end():
    timeline = ClusterTimeline(began=100.0)

    timeline.take("n1", [happening(1, "link lost", 101.0, service="", instance="n2")], 0.0, {"n2": "mails"})

    assert timeline.to_list()[0]["service"] == "mails"


def test_a_clock_that_differs_is_corrected():
    state = cluster(listed("orders", "o1"), now=1000.0)

    state.answered(at(1), answer(400.0, timeline=[happening(1, "ejected", 395.0)]), 1000.0)

    assert state.timeline.to_list()[0]["at"] == 995.0


def test_the_timeline_is_bounded():
    timeline = ClusterTimeline(began=100.0)

    timeline.take("n1", [happening(n, "ejected", 10.0 * n, detail="x" * 9999) for n in range(1, 999)], 0.0, {})

    assert len(timeline.to_list()) == MOST_KEPT
    assert max(len(one["detail"]) for one in timeline.to_list()) == 300


def test_the_newest_entries_are_kept_whichever_node_answers_last():
    timeline = ClusterTimeline(began=100.0)

    timeline.take("n1", [happening(1, "ejected", 1_000_000.0)], 0.0, {})
    timeline.take("n2", [happening(n, "restored", 10.0 * n) for n in range(1, 2 * MOST_KEPT)], 0.0, {})
    timeline.take("n3", [happening(1, "ejected", 1.0)], 0.0, {})

    kept = [one["at"] for one in timeline.to_list()]
    assert (len(kept), kept[0], kept[-1]) == (MOST_KEPT, 10.0 * (MOST_KEPT + 1), 1_000_000.0)


def test_of_too_many_instances_those_that_were_shown_stay_and_the_others_are_counted():
    state = cluster(listed("orders", "o1"))

    state.listed([*(listed(f"aa{number}", f"a{number}", port=number + 2) for number in range(MOST_INSTANCES)),
                  listed("orders", "o1")], now=101.0)  # fmt: skip

    assert len(state.instances) == MOST_INSTANCES and state.instances["o1"].gone_at is None
    assert len(state.nodes) == MOST_NODES and at(1) in state.nodes
    assert (state.left_out, Picture(state).to_dict()["left_out"]) == (1, 1)
    state.listed([listed("orders", "o1")], now=102.0)
    assert state.left_out == 0


def test_an_instance_that_ends_before_its_first_answer_is_lost_unless_it_only_answers_with_errors():
    state = cluster(listed("orders", "o1", "n1"), listed("mails", "m1", "n2", port=2))
    state.failed(at(2), "Forbidden: administer node:operators is needed")

    for port in (1, 2):
        state.lost(f"tcp://127.0.0.1:{port}", 101.0)

    assert [one["instance"] for one in state.timeline.to_list()] == ["o1"]
    assert [state.nodes[at(port)].is_lost for port in (1, 2)] == [True, False]


def test_publishers_of_events_have_no_entries_beside_those_of_their_services():
    timeline = ClusterTimeline(began=100.0)

    timeline.take("n1", [happening(1, "unlisted", 50.0), happening(2, "unlisted", 50.0, service="events:orders")], 0.0, {})

    assert [(one["service"], one["what"]) for one in timeline.to_list()] == [("orders", "unlisted")]


@pytest.mark.parametrize("is_told_first", [True, False])
def test_a_lost_node_is_told_once_and_not_again_for_each_link_to_it(is_told_first):
    state = cluster(listed("orders", "o1", "n1"), listed("mails", "m1", "n2", port=2))
    state.answered(at(1), answer(100.0, [("orders", "o1", [])]), 100.0)
    links = [
        happening(1, "link lost", 101.0, service="", instance="n1"), happening(2, "link lost", 101.0, service="", instance="n3"),
        happening(3, "link lost", 50.0, service="", instance="n1"),
    ]  # fmt: skip
    if not is_told_first:
        state.lost("tcp://127.0.0.1:1", 101.0)

    state.answered(at(2), answer(102.0, [("mails", "m1", [])], "n2", timeline=links), 102.0)

    if is_told_first:
        state.lost("tcp://127.0.0.1:1", 102.0)
    told = {(one["what"], one["instance"], one["at"]) for one in state.timeline.to_list()}
    assert told == {
        ("link lost", "n1", 50.0), ("link lost", "n3", 101.0), ("lost", "o1", 102.0 if is_told_first else 101.0),
    }  # fmt: skip


def test_of_very_many_lost_nodes_the_last_are_remembered():
    timeline = ClusterTimeline(began=100.0)

    for number in range(MOST_LOST + 1):
        timeline.lose(f"n{number}", 101.0)

    links = [happening(number, "link lost", 101.0, service="", instance=f"n{number}") for number in range(MOST_LOST + 1)]
    timeline.take("m", [{**one, "number": one["number"] + 1} for one in links], 0.0, {})
    assert [one["instance"] for one in timeline.to_list()] == ["n0"]


def test_processes_that_follow_each_other_at_one_address_leave_nothing_behind():
    state = cluster(listed("orders", "o1"))

    for number in range(9):
        state.answered(at(1), answer(100.0 + number, node=f"n{number}"), 100.0 + number)
    assert list(state.timeline.taken) == ["n8"]

    state.listed([], 110.0)
    assert not state.timeline.taken
