"""The services of a WELCOME, as a called node lists them."""

import pytest

from zmqservices.cluster.calls.welcomed_services import WelcomedServices
from zmqservices.wire.messages import WAITING


def test_a_node_that_lists_nothing_serves_everything():
    welcomed = WelcomedServices(None)

    assert welcomed.serves("maths", "a1")
    assert not welcomed.tells_waiting


@pytest.mark.parametrize("info", [{}, {"services": None}, {"services": {}}])
def test_a_node_with_an_empty_list_serves_nothing(info):
    assert not WelcomedServices(info).serves("maths", None)


def test_a_draining_service_gets_no_calls():
    welcomed = WelcomedServices({"services": {"maths": {"draining": True}, "words": {"draining": False}}})

    assert not welcomed.serves("maths", None)
    assert welcomed.serves("words", None)


def test_only_the_named_instances_get_calls():
    welcomed = WelcomedServices({"services": {"maths": {"instances": ["a1", "a2"]}}})

    assert welcomed.serves("maths", "a1")
    assert not welcomed.serves("maths", "b7")
    assert welcomed.serves("maths", None)


@pytest.mark.parametrize("entry", [None, {}, {"instances": "a1"}])
def test_a_service_without_instances_may_be_any_of_them(entry):
    assert WelcomedServices({"services": {"maths": entry}}).serves("maths", "a1")


def test_methods_that_may_be_repeated_are_known_by_service():
    welcomed = WelcomedServices({"services": {"maths": {"idempotent": ["add"]}, "words": None}, WAITING: True})

    assert welcomed.idempotent == {"maths": frozenset({"add"})}
    assert welcomed.tells_waiting
