"""What travels with a call besides its arguments: context data and the stack of call ids."""

import pytest

from tests.stage import Context
from zmqservices.exceptions import MessageTooLarge, UnserializableValueError
from zmqservices.extensions import DependencyProvider
from zmqservices.rpc import RpcProxy, rpc


class Last:
    name = "last"
    context = Context()

    @rpc
    def data(self):
        return dict(self.context.data)

    @rpc
    def stack(self):
        return self.context.call_id_stack


class Middle:
    name = "middle"
    context = Context()
    last = RpcProxy("last")

    @rpc
    def data(self):
        return self.last.data()

    @rpc
    def stack(self):
        return self.context.call_id_stack, self.last.stack()

    @rpc
    def change(self, **changes):
        before = self.last.data()
        self.context.data.update(changes)
        return before, self.last.data()

    @rpc
    def change_the_copy(self):
        self.context.context_data["user_id"] = "lost"
        return self.last.data()

    @rpc
    def parents(self):
        return self.context.origin_call_id, self.context.immediate_parent_call_id


def test_25_context_data_travels_through_all_hops(serve, connect):
    serve(Last)
    serve(Middle)
    cluster = connect(context_data={"user_id": 7, "language": "pl", "tags": ("a", b"b")})

    assert cluster.last.data() == {"user_id": 7, "language": "pl", "tags": ("a", b"b")}
    assert cluster.middle.data() == {"user_id": 7, "language": "pl", "tags": ("a", b"b")}


def test_25_what_a_method_adds_travels_with_its_later_calls(serve, connect):
    serve(Last)
    serve(Middle)
    cluster = connect(context_data={"user_id": 7})

    before, after = cluster.middle.change(user_id=8, extra="x")

    assert before == {"user_id": 7}
    assert after == {"user_id": 8, "extra": "x"}
    assert cluster.middle.data() == {"user_id": 7}


def test_25_changing_the_copy_changes_nothing(serve, connect):
    serve(Last)
    serve(Middle)

    assert connect(context_data={"user_id": 7}).middle.change_the_copy() == {"user_id": 7}


def test_25_a_provider_may_add_context_before_the_method(serve, cluster):
    class Tagging(DependencyProvider):
        def worker_setup(self, worker_ctx):
            worker_ctx.data["tag"] = worker_ctx.service_name

    class Tagged(Middle):
        name = "tagged"
        tagging = Tagging()

    serve(Last)
    serve(Tagged)

    assert cluster.tagged.data() == {"tag": "tagged"}


def test_26_headers_without_a_value_are_left_out_with_a_warning(serve, cluster):
    serve(Last)
    serve(Middle)

    with pytest.warns(UserWarning, match="context data 'user_id' is None and is not sent"):
        _, after = cluster.middle.change(user_id=None, language="en")

    assert after == {"language": "en"}


def test_26_a_client_s_context_without_a_value_is_left_out_with_a_warning(serve, connect):
    serve(Last)

    with pytest.warns(UserWarning, match="context data 'user_id' is None and is not sent"):
        cluster = connect(context_data={"user_id": None, "language": "en"})

    assert cluster.last.data() == {"language": "en"}


def test_context_that_cannot_travel_is_refused_where_the_call_is_made(serve, connect):
    serve(Last)

    with pytest.raises(UnserializableValueError):
        connect(context_data={"user": object()}).last.data()
    with pytest.raises(MessageTooLarge):
        connect(context_data={"user": "x" * 20_000}, max_message_size=10_000).last.data()


def test_26_the_stack_of_call_ids_grows_by_each_hop(serve, cluster):
    serve(Last)
    serve(Middle)

    middle, last = cluster.middle.stack()

    assert len(middle) == 2 and len(last) == 3
    assert last[:2] == middle
    assert [call_id.rsplit(".", 1)[0] for call_id in last[1:]] == ["middle.stack", "last.stack"]
    assert last[0].startswith("standalone_rpc_proxy.call.")


def test_26_parents_are_known_by_name(serve, cluster):
    serve(Last)
    serve(Middle)

    origin, parent = cluster.middle.parents()

    assert origin == parent
    assert origin.startswith("standalone_rpc_proxy.call.")


def test_26_the_stack_is_cut_to_the_parents_that_are_tracked(serve, cluster):
    class Recursive:
        name = "recursive"
        context = Context()
        again = RpcProxy("recursive")

        @rpc
        def descend(self, levels):
            if levels:
                return self.again.descend(levels - 1)
            return self.context.call_id_stack

    serve(Recursive, parent_calls_tracked=2)

    stack = cluster.recursive.descend(5)

    assert len(stack) == 3
    assert all(call_id.startswith("recursive.descend.") for call_id in stack)


def test_two_calls_never_have_the_same_id(serve, cluster):
    serve(Last)

    stacks = [cluster.last.stack() for _ in range(20)]

    assert len({stack[0] for stack in stacks}) == 20
    assert len({stack[1] for stack in stacks}) == 20
