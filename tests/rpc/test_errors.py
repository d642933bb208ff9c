"""What callers get for exceptions: classes, texts, arguments, tracebacks; and errors from before a worker exists."""

import functools
import logging

import gevent
import pytest

from zmqservices import exceptions
from zmqservices.exceptions import (
    ConfigurationError,
    IncorrectSignature,
    MethodNotFound,
    RemoteError,
    RemoteTraceback,
    UnknownService,
    ZmqServicesError,
)
from zmqservices.extensions import DependencyProvider
from zmqservices.rpc import RpcProxy, rpc


class ExampleError(Exception):
    pass


class Unknown(Exception):
    pass


# --- exceptions of methods ----------------------------------------------------------------------------------


def test_28_an_exception_that_nobody_registered_comes_as_a_remote_error(serve, cluster):
    class Failing:
        name = "failing"

        @rpc
        def fail(self):
            raise ExampleError("error")

    serve(Failing)

    with pytest.raises(RemoteError) as caught:
        cluster.failing.fail()

    assert str(caught.value) == "ExampleError error"
    assert caught.value.exc_type == "ExampleError"
    assert caught.value.value == "error"


def test_28_a_registered_exception_comes_as_itself_with_its_arguments(serve, cluster, register):
    class Failing:
        name = "failing"

        @rpc
        def fail(self):
            raise ExampleError("no", 3)

    register(ExampleError)
    serve(Failing)

    with pytest.raises(ExampleError) as caught:
        cluster.failing.fail()

    assert caught.value.args == ("no", "3")


def test_28_a_class_of_the_same_name_in_another_module_is_not_mistaken(serve, cluster, register):
    @register
    class Unknown(Exception):
        __module__ = "elsewhere"

    there = globals()["Unknown"]

    class Failing:
        name = "failing"

        @rpc
        def fail(self):
            raise there("not yours")

    serve(Failing)
    exceptions.registry.pop(f"{__name__}.Unknown", None)

    with pytest.raises(RemoteError, match="Unknown not yours"):
        cluster.failing.fail()


def test_28_a_registered_class_is_rebuilt_whatever_its_constructor_takes(serve, cluster, register):
    @register
    class Picky(Exception):
        def __init__(self, *, code):
            super().__init__(f"code {code}")
            self.code = code

    class Failing:
        name = "failing"

        @rpc
        def fail(self):
            raise Picky(code=7)

    serve(Failing)

    with pytest.raises(Picky, match="^code 7$") as caught:
        cluster.failing.fail()

    assert caught.value.code == 7


def test_29_arguments_of_exceptions_are_texts(serve, cluster, register):
    class Failing:
        name = "failing"

        @rpc
        def fail(self):
            raise ExampleError(1, None, {"a": 2}, (3,), b"x")

    register(ExampleError)
    serve(Failing)

    with pytest.raises(ExampleError) as caught:
        cluster.failing.fail()

    assert caught.value.args == ("1", None, {"a": "2"}, ["3"], "b'x'")


class Unprintable:
    def __str__(self):
        raise ValueError("no text")

    __repr__ = __str__


class UnprintableError(Exception):
    def __str__(self):
        raise ValueError("no text")

    __repr__ = __str__


class IterableError(Exception):
    def __iter__(self):
        return iter(self.args)


class ReducedError(Exception):
    """Its arguments are gone when somebody looks."""

    @property
    def args(self):
        raise ValueError("no arguments")


def looped():
    loop = {}
    loop["loop"] = loop
    return loop


def looped_list():
    loop = []
    loop.append(loop)
    return loop


@pytest.fixture
def unlogged():
    """Nothing is logged: pytest's log handler raises what a text cannot be made of, where others only complain."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExampleError(Unprintable()),
        lambda: UnprintableError("x"),
        lambda: IterableError(IterableError(1)),
        lambda: ReducedError("x"),
        lambda: ExampleError(looped()),
        lambda: ExampleError(looped_list()),
        lambda: ExampleError({"a": object(), 1: {2, 3}, None: b"b"}),
        lambda: ExampleError({(1, 2): {"list": []}}),
        lambda: ExampleError("\ud800"),
        lambda: type("Eé\n" * 3, (Exception,), {"__module__": None})("odd class"),
    ],
    ids=lambda make: "",
)
def test_29_whatever_an_exception_is_made_of_it_is_answered(serve, cluster, make, unlogged):
    class Failing:
        name = "failing"

        @rpc
        def fail(self):
            raise make()

        @rpc
        def fine(self):
            return "fine"

    serve(Failing)

    with pytest.raises(RemoteError) as caught:
        cluster.failing.fail()

    assert caught.value.exc_type == type(make()).__name__
    assert cluster.failing.fine() == "fine"


def test_an_exception_larger_than_a_message_is_cut_and_the_link_stands(serve, connect, unlogged):
    class Failing:
        name = "failing"

        @rpc
        def fail(self):
            raise ExampleError("x" * 3_000_000)

        @rpc
        def slow(self):
            gevent.sleep(0.05)
            return "slow"

    serve(Failing, max_message_size=1_000_000)
    cluster = connect(max_message_size=1_000_000)
    other = cluster.failing.slow.call_async()

    with pytest.raises(RemoteError) as caught:
        cluster.failing.fail()

    assert str(caught.value) == "ExampleError " + "x" * 10_000 + "... (3,000,000 characters)"
    assert other.result() == "slow"


def test_30_unknown_service_across_a_hop_is_a_remote_error(serve, cluster):
    class Middle:
        name = "middle"
        nobody = RpcProxy("nobody")

        @rpc
        def ask(self):
            self.nobody.hello()

    serve(Middle, rpc_wait_for_service=0.05)

    with pytest.raises(RemoteError, match="UnknownService Unknown service `nobody`: no instance of 'nobody' is known"):
        cluster.middle.ask()


def test_a_remote_error_across_two_hops_keeps_its_text(serve, cluster):
    class Last:
        name = "last"

        @rpc
        def fail(self):
            raise ExampleError("deep")

    class Middle:
        name = "middle"
        last = RpcProxy("last")

        @rpc
        def ask(self):
            self.last.fail()

    serve(Last)
    serve(Middle)

    with pytest.raises(RemoteError) as caught:
        cluster.middle.ask()

    assert caught.value.exc_type == "RemoteError"
    assert caught.value.value == "ExampleError deep"


@pytest.mark.parametrize(
    "make", [lambda: gevent.Timeout(3), lambda: gevent.GreenletExit("gone"), lambda: BaseException("b")]
)
def test_18_what_is_no_exception_is_answered_too(serve, cluster, make):
    class Failing:
        name = "failing"

        @rpc
        def fail(self):
            raise make()

        @rpc
        def fine(self):
            return "fine"

    serve(Failing, max_workers=1)

    with pytest.raises(RemoteError) as caught:
        cluster.failing.fail()

    assert caught.value.exc_type == type(make()).__name__
    assert cluster.failing.fine() == "fine"


def test_18_a_timeout_that_a_method_set_for_itself_is_an_error_reply(serve, cluster):
    class Impatient:
        name = "impatient"

        @rpc
        def wait(self):
            with gevent.Timeout(0.01):
                gevent.sleep(5)

    serve(Impatient)

    with pytest.raises(RemoteError, match="Timeout 0.01 second"):
        cluster.impatient.wait()


# --- tracebacks ---------------------------------------------------------------------------------------------


def test_the_remote_traceback_is_the_cause(serve, cluster):
    class Failing:
        name = "failing"

        @rpc
        def fail(self):
            try:
                self.deeper()
            except KeyError as exc:
                raise ExampleError("wrapped") from exc

        def deeper(self):
            raise KeyError("deepest")

    serve(Failing)

    with pytest.raises(RemoteError) as caught:
        cluster.failing.fail()

    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "in deeper" in cause.text
    assert "KeyError: 'deepest'" in cause.text
    assert "ExampleError: wrapped" in cause.text
    assert str(cause).startswith('\n"""\nTraceback')


def test_a_registered_exception_has_the_traceback_too(serve, cluster, register):
    class Failing:
        name = "failing"

        @rpc
        def fail(self):
            raise ExampleError("here")

    register(ExampleError)
    serve(Failing)

    with pytest.raises(ExampleError) as caught:
        cluster.failing.fail()

    assert "in fail" in caught.value.__cause__.text


def test_a_service_may_keep_its_tracebacks_to_itself(serve, cluster):
    class Failing:
        name = "failing"

        @rpc
        def fail(self):
            raise ExampleError("here")

    serve(Failing, rpc_tracebacks=False)

    with pytest.raises(RemoteError) as caught:
        cluster.failing.fail()

    assert caught.value.__cause__ is None


def test_a_switch_that_is_no_switch_is_a_configuration_error(serve):
    class Failing:
        name = "failing"

        @rpc
        def fail(self):
            pass

    with pytest.raises(ConfigurationError, match="rpc_tracebacks is 'no'"):
        serve(Failing, rpc_tracebacks="no")


# --- how often ----------------------------------------------------------------------------------------------


def test_34_an_error_may_be_raised_again_and_is_a_new_one_each_time(serve, cluster):
    class Failing:
        name = "failing"

        @rpc
        def fail(self):
            raise ExampleError("again")

    serve(Failing)
    call = cluster.failing.fail.call_async()

    caught = []
    for _ in range(3):
        with pytest.raises(RemoteError, match="again") as info:
            call.result()
        caught.append(info.value)

    assert len({id(exc) for exc in caught}) == 3
    assert all(len(exc.__traceback__.tb_frame.f_code.co_name) for exc in caught)


def test_34_a_local_error_is_a_new_one_each_time_too(serve, cluster):
    class Slow:
        name = "slow"

        @rpc
        def slow(self, seconds):
            gevent.sleep(seconds)

    serve(Slow)
    cluster.slow.slow(0)  # The link stands: what runs out is the method's time.
    call = cluster.slow.slow.with_timeout(0.2).call_async(5)

    caught = []
    for _ in range(2):
        with pytest.raises(exceptions.RpcTimeout) as info:
            call.result()
        caught.append(info.value)

    assert caught[0] is not caught[1]
    assert str(caught[0]) == str(caught[1])


# --- errors from before a worker exists ---------------------------------------------------------------------


class Lifecycle(DependencyProvider):
    """Notes that there was a worker."""

    def __init__(self, seen):
        self.seen = seen

    def worker_setup(self, worker_ctx):
        self.seen.append("setup")


def test_27_unknown_methods_and_wrong_arguments_are_refused_without_a_worker(serve, cluster):
    class Maths:
        name = "maths"
        seen = []
        lifecycle = Lifecycle(seen)

        @rpc
        def add(self, a, b, *, c=0):
            return a + b + c

        def not_rpc(self):
            return "secret"

    serve(Maths)

    with pytest.raises(MethodNotFound, match="^the service 'maths' has no method 'task_c'; it has add$"):
        cluster.maths.task_c()
    with pytest.raises(MethodNotFound, match="not_rpc"):
        cluster.maths.not_rpc()
    with pytest.raises(MethodNotFound):
        cluster.maths._client_of_nobody()
    with pytest.raises(IncorrectSignature, match=r"add\(\) missing 1 required positional argument: 'b'"):
        cluster.maths.add(1)
    with pytest.raises(IncorrectSignature, match=r"takes 2 positional arguments but 3"):
        cluster.maths.add(1, 2, 3)
    with pytest.raises(IncorrectSignature, match="unexpected keyword argument 'd'"):
        cluster.maths.add(1, 2, d=3)
    with pytest.raises(IncorrectSignature, match="multiple values for argument 'a'"):
        cluster.maths.add(1, a=2)

    assert Maths.seen == []
    assert cluster.maths.add(1, 2, c=3) == 6
    assert Maths.seen == ["setup"]


def test_every_name_may_be_a_keyword(serve, cluster):
    class Taker:
        name = "taker"

        @rpc
        def take(this, /, **kwargs):
            return kwargs

    serve(Taker)
    names = dict.fromkeys(
        ["self", "cls", "args", "kwargs", "timeout", "service", "method", "client", "call", "worker_ctx", "entrypoint"], 1
    )

    assert cluster.taker.take(**names) == names
    assert cluster.taker.take.call_async(**names).result() == names


def test_27_a_wrapper_that_takes_anything_is_taken_at_its_word(serve, cluster):
    def wrapped(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    class Maths:
        name = "maths"

        @rpc
        @wrapped
        def add(self, a, b):
            return a + b

    serve(Maths)

    assert cluster.maths.add(1, 2) == 3
    with pytest.raises(RemoteError, match=r"TypeError .*missing 1 required positional argument: 'b'"):
        cluster.maths.add(1)


def test_31_unknown_service_is_raised_when_the_call_is_made(connect):
    cluster = connect(rpc_wait_for_service=0.05)

    with pytest.raises(UnknownService) as caught:
        cluster.nobody.hello.call_async()
    with pytest.raises(UnknownService):
        cluster.nobody.hello()

    assert str(caught.value).startswith("Unknown service `nobody`: no instance of 'nobody' is known; directory tcp://")
    assert caught.value.retryable


def test_31_a_service_that_comes_within_the_wait_is_called(serve, cluster):
    class Late:
        name = "late"

        @rpc
        def hello(self):
            return "hello"

    waiting = gevent.spawn(cluster.late.hello)
    gevent.sleep(0.05)
    assert not waiting.ready()
    serve(Late)

    assert waiting.get(timeout=30) == "hello"


def test_a_failing_constructor_or_dependency_is_an_error_reply(serve, cluster):
    class Broken(DependencyProvider):
        def get_dependency(self, worker_ctx):
            raise ExampleError("no dependency")

    class Service:
        name = "service"
        broken = Broken()

        @rpc
        def hello(self):
            return "hello"

    class Unmade:
        name = "unmade"

        def __init__(self):
            raise ExampleError("no instance")

        @rpc
        def hello(self):
            return "hello"

    serve(Service)
    serve(Unmade)

    for _ in range(2):
        with pytest.raises(RemoteError, match="no dependency"):
            cluster.service.hello()
        with pytest.raises(RemoteError, match="no instance"):
            cluster.unmade.hello()


def test_22_expected_exceptions_are_warnings(serve, cluster, caplog):
    class Failing:
        name = "failing"

        @rpc(expected_exceptions=ExampleError)
        def expected(self):
            raise ExampleError("yours")

        @rpc
        def unexpected(self):
            raise ExampleError("mine")

    serve(Failing)
    with caplog.at_level(logging.WARNING):
        for method in ("expected", "unexpected"):
            with pytest.raises(RemoteError):
                getattr(cluster.failing, method)()

    levels = {record.getMessage().rsplit(" ", 1)[-1]: record.levelname for record in caplog.records}
    assert levels["yours"] == "WARNING"
    assert levels["mine"] == "ERROR"


# --- declarations -------------------------------------------------------------------------------------------


def test_an_option_that_does_not_exist_is_refused_with_a_hint():
    with pytest.raises(TypeError, match="Rpc has no option 'idempotnet'; did you mean 'idempotent'"):
        rpc(idempotnet=True)(lambda self: None)


@pytest.mark.parametrize("timeout", [0, -1, "5", True])
def test_a_timeout_of_a_method_that_is_none_is_refused(timeout):
    with pytest.raises(ConfigurationError, match=rf"@rpc\(timeout={timeout!r}\)"):
        rpc(timeout=timeout)(lambda self: None)


def test_all_errors_of_calls_have_one_root():
    for name in ("RpcTimeout", "RemoteUnavailable", "UnknownService", "Overloaded", "MaybeExecuted", "CallCancelled"):
        assert issubclass(getattr(exceptions, name), ZmqServicesError)


def test_23_handle_result_may_replace_what_the_caller_and_the_providers_see(serve, cluster, monkeypatch):
    from zmqservices.rpc import Rpc, RpcServer

    class Seen(DependencyProvider):
        def __init__(self, seen):
            self.seen = seen

        def worker_result(self, worker_ctx, result=None, exc_info=None):
            self.seen.append((result, exc_info and exc_info[0]))

    class DoublingServer(RpcServer):
        def handle_result(self, call, worker_ctx, result, exc_info):
            if exc_info is None and isinstance(result, int):
                result *= 2
            return super().handle_result(call, worker_ctx, result, exc_info)

    class DoublingRpc(Rpc):
        server = DoublingServer()

    class Maths:
        name = "maths"
        results = []
        seen = Seen(results)

        @DoublingRpc.decorator
        def add(self, a, b):
            return a + b

        @DoublingRpc.decorator
        def odd(self):
            return object()

    serve(Maths)

    assert cluster.maths.add(1, 2) == 6
    with pytest.raises(RemoteError):
        cluster.maths.odd()

    assert Maths.results == [(6, None), (None, exceptions.UnserializableValueError)]
