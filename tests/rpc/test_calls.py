"""Calls and their answers: values that keep their types, asynchronous calls, payloads, serializers, proxies."""

import copy
import pickle
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum
from uuid import UUID

import gevent
import pytest

from tests.stage import Gate
from zmqservices.exceptions import MessageTooLarge, RemoteError, UnserializableValueError
from zmqservices.rpc import ClusterRpc, RpcProxy, ServiceRpc, rpc
from zmqservices.wire.payloads import LARGE

VALUES = [
    None,
    True,
    -1,
    2**63,
    -(2**70),
    1.5,
    float("inf"),
    "text",
    "żółć \N{SNOWMAN} \0",
    b"\xff\0",
    (1, ("two", b"three")),
    [],
    [1, [2, (3,)]],
    {1, 2},
    frozenset({"a"}),
    {1: "int", None: "none", b"b": "bytes", (1, 2): "tuple", "s": {"deep": [{}]}},
    datetime(2024, 2, 29, 12, 30, 1, 999_999),
    datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
    date(1, 1, 1),
    time(23, 59, 59, 1),
    timedelta(days=-1, microseconds=7),
    Decimal("1.10"),
    UUID("12345678123456781234567812345678"),
]


class Echo:
    name = "echo"

    @rpc
    def echo(self, value):
        return value

    @rpc
    def both(self, *args, **kwargs):
        return args, kwargs

    @rpc
    def types(self, value):
        return type(value).__name__


# --- values -------------------------------------------------------------------------------------------------


def test_35_arguments_and_results_keep_their_types(serve, cluster):
    serve(Echo)

    for value in VALUES:
        answer = cluster.echo.echo(value)

        assert answer == value
        assert type(answer) is type(value)
    assert cluster.echo.echo(VALUES) == VALUES


def test_35_subclasses_of_builtins_travel_as_their_builtin(serve, cluster):
    class Colour(IntEnum):
        RED = 3

    serve(Echo)

    assert cluster.echo.types(Colour.RED) == "int"
    assert cluster.echo.types(OrderedDict(a=1)) == "dict"


def test_positional_and_keyword_arguments_arrive_as_they_were_given(serve, cluster):
    serve(Echo)

    assert cluster.echo.both() == ((), {})
    assert cluster.echo.both(1, 2) == ((1, 2), {})
    assert cluster.echo.both(a=1) == ((), {"a": 1})
    assert cluster.echo.both(1, method="add", timeout=3) == ((1,), {"method": "add", "timeout": 3})


def test_a_default_holds_where_the_caller_says_nothing(serve, cluster):
    class Defaults:
        name = "defaults"

        @rpc
        def add(self, a, b=10, *, c=100):
            return a + b + c

    serve(Defaults)

    assert cluster.defaults.add(1) == 111
    assert cluster.defaults.add(1, 2) == 103
    assert cluster.defaults.add(1, c=3) == 14


# --- asynchronous calls -------------------------------------------------------------------------------------


def test_34_results_may_be_collected_in_any_order(serve, cluster):
    serve(Echo)

    calls = [cluster.echo.echo.call_async(number) for number in range(50)]

    assert [call.result() for call in reversed(calls)] == list(reversed(range(50)))


def test_34_a_result_may_be_asked_for_again(serve, cluster):
    serve(Echo)

    call = cluster.echo.echo.call_async([1])

    assert call.result() == [1]
    assert call.result() == [1]
    assert call.get_response() == [1]


def test_calls_of_one_client_run_side_by_side(serve, cluster):
    class Slow:
        name = "slow"
        gate = Gate()

        @rpc
        def wait(self, number):
            self.gate()
            return number

    serve(Slow)

    calls = [cluster.slow.wait.call_async(number) for number in range(5)]
    Slow.gate.wait_for(5)
    Slow.gate.open()

    assert [call.result() for call in calls] == [0, 1, 2, 3, 4]


def test_a_later_call_may_be_answered_first(serve, cluster):
    class Mixed:
        name = "mixed"
        gate = Gate()

        @rpc
        def slow(self):
            self.gate()
            return "slow"

        @rpc
        def fast(self):
            return "fast"

    serve(Mixed)

    slow = cluster.mixed.slow.call_async()

    assert cluster.mixed.fast() == "fast"
    Mixed.gate.open()
    assert slow.result() == "slow"


# --- payloads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1, 300 * 1024, 10 * 1024 * 1024])
def test_large_bytes_travel_both_ways(serve, cluster, size):
    serve(Echo)
    value = bytes(range(256)) * (size // 256) + bytes(size % 256)

    assert cluster.echo.echo(value) == value
    assert cluster.echo.echo(value=value) == value


def test_several_large_values_travel_in_one_call(serve, cluster):
    serve(Echo)
    one, other = b"1" * LARGE, b"2" * (LARGE + 5)

    assert cluster.echo.both(one, other, x=one, y=other) == ((one, other), {"x": one, "y": other})
    assert cluster.echo.echo([one, {"deep": other}]) == [one, {"deep": other}]
    assert cluster.echo.echo("x" * LARGE) == "x" * LARGE


def test_large_and_small_messages_on_one_link_keep_their_places(serve, cluster):
    serve(Echo)
    values = [bytes([number]) * (LARGE if number % 3 else 10) for number in range(30)]

    calls = [cluster.echo.echo.call_async(value) for value in values]

    assert [call.result() for call in calls] == values


def test_arguments_over_the_limit_are_refused_where_they_are_given(serve, connect):
    serve(Echo)
    cluster = connect(max_message_size=100_000)

    with pytest.raises(MessageTooLarge, match=r"echo\.echo take 100,\d+ bytes; max_message_size is 100,000"):
        cluster.echo.echo(b"x" * 100_000)

    assert cluster.echo.echo(b"x" * 99_000) == b"x" * 99_000


def test_arguments_over_the_limit_are_refused_even_where_nobody_serves(connect):
    cluster = connect(max_message_size=100_000)

    with pytest.raises(MessageTooLarge):
        cluster.nobody.echo(b"x" * 100_000)


def test_a_result_over_the_limit_is_an_error_of_that_call_alone(serve, cluster):
    class Large:
        name = "large"

        @rpc
        def make(self, size):
            return b"x" * size

    serve(Large, max_message_size=100_000)

    with pytest.raises(RemoteError, match=r"MessageTooLarge the result of large\.make takes 100,\d+ bytes"):
        cluster.large.make(100_000)

    assert cluster.large.make(50_000) == b"x" * 50_000


# --- what cannot travel -------------------------------------------------------------------------------------


def test_32_an_unserializable_argument_raises_here_and_the_proxy_stays_usable(serve, cluster):
    serve(Echo)

    with pytest.raises(UnserializableValueError, match="object object at"):
        cluster.echo.echo(object())
    with pytest.raises(UnserializableValueError):
        cluster.echo.echo.call_async(value={"deep": [object()]})
    with pytest.raises(UnserializableValueError):
        cluster.nobody.echo(object())

    assert cluster.echo.echo(1) == 1


def test_32_an_unserializable_result_is_an_error_reply_and_the_service_lives(serve, cluster):
    class Strange:
        name = "strange"
        ran = []

        @rpc
        def unserializable(self):
            return object()

        @rpc
        def generator(self):
            return (self.ran.append("body") for _ in range(1))

        @rpc
        def fine(self):
            return "fine"

    serve(Strange)

    with pytest.raises(RemoteError, match="UnserializableValueError Unserializable value: `<object object at"):
        cluster.strange.unserializable()
    with pytest.raises(RemoteError, match="UnserializableValueError Unserializable value: `<generator object"):
        cluster.strange.generator()

    assert Strange.ran == []
    assert cluster.strange.fine() == "fine"


# --- serializers --------------------------------------------------------------------------------------------


def test_33_a_reply_comes_in_the_serialization_of_its_request(serve, connect):
    serve(Echo)
    native, json = connect(), connect(serializer="json")

    assert native.echo.echo((1, 2)) == (1, 2)
    assert json.echo.echo((1, 2)) == [1, 2]
    assert json.echo.types((1, 2)) == "list"
    assert json.echo.echo({1: "one"}) == {"1": "one"}


def test_35_json_keeps_the_types_that_kombu_keeps(serve, connect):
    serve(Echo)
    cluster = connect(serializer="json")
    kept = [date(2024, 2, 29), datetime(2024, 2, 29, 1, tzinfo=UTC), time(1), Decimal("1.10"), UUID(int=7), b"\xff"]

    assert cluster.echo.echo(kept) == kept
    with pytest.raises(UnserializableValueError):
        cluster.echo.echo({1, 2})
    assert cluster.echo.both(1, x=2) == [[1], {"x": 2}]


def test_35_a_json_result_that_cannot_travel_is_an_error_reply(serve, connect):
    class Sets:
        name = "sets"

        @rpc
        def make(self):
            return {1, 2}

    serve(Sets)

    with pytest.raises(RemoteError, match=r"UnserializableValueError.*\{1, 2\}"):
        connect(serializer="json").sets.make()
    assert connect().sets.make() == {1, 2}


def test_a_large_json_document_travels_too(serve, connect):
    serve(Echo)

    assert connect(serializer="json").echo.echo("x" * 2 * LARGE) == "x" * 2 * LARGE


def upper_dumps(value):
    return repr(value).upper()


def upper_loads(text):
    return eval(text.lower())


def test_a_serializer_of_ones_own_is_named_in_the_settings(serve, connect):
    own = {
        "SERIALIZERS": {"upper": {"encoder": f"{__name__}.upper_dumps", "decoder": f"{__name__}.upper_loads"}},
        "serializer": "upper",
    }
    serve(Echo, **own)

    assert connect(**own).echo.echo(["one", 2]) == ["one", 2]


def test_a_serializer_that_the_service_does_not_know_is_refused_by_name(serve, connect):
    serve(Echo)
    own = {
        "SERIALIZERS": {"upper": {"encoder": f"{__name__}.upper_dumps", "decoder": f"{__name__}.upper_loads"}},
        "serializer": "upper",
    }

    with pytest.raises(Exception, match="(?i)upper.*not known"):
        connect(**own).echo.echo(1)


def test_a_serializer_that_accept_does_not_name_is_never_asked(serve, connect):
    own = {"SERIALIZERS": {"upper": {"encoder": f"{__name__}.upper_dumps", "decoder": f"{__name__}.upper_never"}}}
    serve(Echo, ACCEPT=["msgpack"], **own)

    with pytest.raises(Exception, match="upper.*not accepted"):
        connect(serializer="upper", **own).echo.echo(1)


def test_nor_is_one_that_the_settings_only_make_known(serve, connect):
    own = {"SERIALIZERS": {"upper": {"encoder": f"{__name__}.upper_dumps", "decoder": f"{__name__}.upper_never"}}}
    serve(Echo, **own)

    with pytest.raises(Exception, match="upper.*not accepted"):
        connect(serializer="upper", **own).echo.echo(1)


def upper_never(document):
    raise AssertionError("nothing may be decoded")


# --- proxies ------------------------------------------------------------------------------------------------


def test_36_attributes_of_nameko_s_proxies_do_not_shadow_remote_methods(serve, cluster):
    class Named:
        name = "named"

        @rpc
        def options(self):
            return "options"

        @rpc
        def worker_ctx(self):
            return "worker_ctx"

        @rpc
        def reply_listener(self):
            return "reply_listener"

        @rpc
        def _private(self):
            return "private"

    serve(Named)

    for method in ("options", "worker_ctx", "reply_listener"):
        assert getattr(cluster.named, method)() == method
    assert cluster.named._private() == "private"
    assert cluster.named.service_name == "named"


def test_36_names_with_two_underscores_are_python_s_own(serve, cluster):
    serve(Echo)

    assert not hasattr(cluster.echo, "__len__")
    assert not callable(cluster)
    assert repr(cluster.echo) == "<remote service echo>"
    assert repr(cluster.echo.echo) == "<remote method echo.echo>"
    with pytest.raises(TypeError):
        pickle.dumps(cluster.echo.echo)


def test_a_method_may_be_kept_and_copied(serve, cluster):
    serve(Echo)

    echo = cluster.echo.echo

    assert echo(1) == 1
    assert copy.copy(cluster.echo).echo(2) == 2


def test_a_service_whose_name_is_no_identifier_is_called_by_item(serve, cluster):
    class Dashed:
        name = "with-dash"

        @rpc
        def hello(self):
            return "hello"

    serve(Dashed)

    assert cluster["with-dash"].hello() == "hello"


def test_services_call_each_other_by_injected_proxies(serve, cluster):
    class Caller:
        name = "caller"
        echo = RpcProxy("echo")
        other = ServiceRpc("echo")
        everybody = ClusterRpc()

        @rpc
        def direct(self, value):
            return self.echo.echo(value)

        @rpc
        def several(self, values):
            calls = [self.other.echo.call_async(value) for value in values]
            return [call.result() for call in calls]

        @rpc
        def by_name(self, service, method, value):
            return getattr(self.everybody[service], method)(value)

    serve(Echo)
    serve(Caller)

    assert cluster.caller.direct((1,)) == (1,)
    assert cluster.caller.several([1, 2, 3]) == [1, 2, 3]
    assert cluster.caller.by_name("echo", "echo", 5) == 5


def test_publisher_options_of_nameko_applications_are_accepted(serve, cluster):
    class Caller:
        name = "caller"
        echo = RpcProxy("echo", use_confirms=False, serializer="json", retry_policy={"max_retries": 1})

        @rpc
        def ask(self):
            return self.echo.echo(1)

    serve(Echo)
    serve(Caller)

    assert cluster.caller.ask() == 1


def test_7_a_decorated_method_is_still_a_method():
    assert Echo().echo(3) == 3


def test_two_decorators_of_different_kinds_make_one_method_callable_once(serve, cluster):
    class Twice:
        name = "twice"

        @rpc
        @rpc(expected_exceptions=ValueError)
        def both(self):
            return "both"

    serve(Twice)

    assert cluster.twice.both() == "both"


def test_static_methods_are_called_without_an_instance(serve, cluster):
    class Static:
        name = "static"

        @rpc
        @staticmethod
        def add(a, b):
            return a + b

    serve(Static)

    assert cluster.static.add(1, 2) == 3
    with pytest.raises(Exception, match="missing 1 required positional argument: 'b'"):
        cluster.static.add(1)


def test_many_greenlets_share_one_client(serve, cluster):
    serve(Echo)

    def ask(number):
        return [cluster.echo.echo((number, index)) for index in range(20)]

    greenlets = [gevent.spawn(ask, number) for number in range(32)]

    for number, greenlet in enumerate(greenlets):
        assert greenlet.get(timeout=10) == [(number, index) for index in range(20)]
