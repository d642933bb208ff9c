"""The context of a worker: headers, ids, and the stack of calls (semantics 25, 26)."""

import itertools
from types import SimpleNamespace

import pytest

from tests.hosting.stage import Call, entry
from zmqservices.containers import ServiceContainer, WorkerContext, new_call_id


class Service:
    name = "service"

    @entry
    def run(self):
        return "done"


@pytest.fixture
def make_context():
    def make(data=None, config=None):
        container = ServiceContainer(Service, config or {})
        return WorkerContext(container, None, SimpleNamespace(method_name="run"), data=data)

    return make


def test_25_added_data_are_passed_on_and_context_data_is_a_copy(make_context):
    context = make_context({"user": 1})

    context.data["user"] = 2
    context.context_data["user"] = 3

    assert context.context_data["user"] == 2


def test_26_a_call_id_names_service_method_and_call(make_context):
    context = make_context()

    service, method, unique = context.call_id.split(".")

    assert (service, method) == ("service", "run")
    assert unique and context.call_id == context.call_id
    assert make_context().call_id != context.call_id


def test_26_the_stack_comes_out_of_the_callers_data_and_grows_by_this_call(make_context):
    data = {"call_id_stack": ["a", "b"], "user": 1}

    context = make_context(data)

    assert data == {"user": 1}
    assert context.call_id_stack == ["a", "b", context.call_id]
    assert context.context_data == {"user": 1, "call_id_stack": ["a", "b", context.call_id]}
    assert context.origin_call_id == "a"
    assert context.immediate_parent_call_id == "b"


def test_26_the_first_call_has_no_parent_and_no_origin(make_context):
    context = make_context()

    assert context.call_id_stack == [context.call_id]
    assert context.origin_call_id is None
    assert context.immediate_parent_call_id is None


def test_26_the_parent_is_known_even_if_no_parents_are_tracked(make_context):
    context = make_context({"call_id_stack": ["a", "b"]}, {"parent_calls_tracked": 0})

    assert context.call_id_stack == [context.call_id]
    assert (context.origin_call_id, context.immediate_parent_call_id) == ("a", "b")


def test_26_the_stack_is_trimmed_to_the_tracked_parents_and_this_call(make_context):
    context = make_context({"call_id_stack": ["a", "b", "c"]}, {"parent_calls_tracked": 1})

    assert context.call_id_stack == ["c", context.call_id]


@pytest.mark.parametrize("junk", [42, "text", None, {"a": 1}])
def test_a_stack_of_the_wrong_type_is_ignored(make_context, junk):
    context = make_context({"call_id_stack": junk})

    assert context.call_id_stack == [context.call_id]


def test_ids_never_repeat():
    assert len({new_call_id() for _ in range(1000)}) == 1000


def test_ids_can_be_made_predictable_and_are_then_counted_in_the_order_of_calls(make_container, monkeypatch):
    numbers = itertools.count()
    monkeypatch.setattr("zmqservices.containers.new_call_id", lambda: str(next(numbers)))
    container = make_container(Service)

    calls = [Call(container, "run"), Call(container, "run", how="spawn_worker")]

    assert [call.context.call_id for call in reversed(calls)] == ["service.run.1", "service.run.0"]


def test_a_context_has_the_fields_of_its_call(make_context):
    context = make_context(config={"a": 1})

    assert context.service_name == "service"
    assert context.config == {"a": 1}
    assert (context.args, context.kwargs, context.data, context.deadline) == ((), {}, {}, None)
    assert "service.run" in repr(context)


def test_a_context_is_hashable_and_accepts_attributes(make_context):
    context = make_context()

    context.note = "kept"

    assert {context: 1}[context] and context.note == "kept"
