"""Declaring extensions on a class, and binding them to a container (semantics 1-8)."""

import functools
import inspect

import pytest

from tests.hosting.stage import Entry, Recorder, entry, entrypoint_of
from zmqservices.containers import ServiceContainer, get_container_cls, get_service_name
from zmqservices.exceptions import ConfigurationError, IncorrectSignature
from zmqservices.extensions import (
    DependencyProvider,
    Extension,
    SharedExtension,
    is_dependency,
    is_entrypoint,
    is_extension,
    iter_extensions,
    register_entrypoint,
)


def test_1_a_clone_is_made_with_the_very_same_arguments(make_container):
    inits = []

    class Provider(DependencyProvider):
        def __init__(self, settings):
            inits.append(settings)

    settings = {"a": 1}

    class Service:
        name = "service"
        provider = Provider(settings)

    make_container(Service, start=False)

    assert len(inits) == 2
    assert all(one is settings for one in inits)


def test_2_the_container_of_a_clone_is_a_weak_proxy(make_container):
    class Service:
        name = "service"
        recorder = Recorder()

    container = make_container(Service, start=False)
    (bound,) = container.dependencies

    assert bound.container.service_cls is Service
    assert bound.container is not container
    assert bound.is_bound() and not Service.recorder.is_bound()


def test_2_a_clone_cannot_be_bound_again(make_container):
    class Service:
        name = "service"
        recorder = Recorder()

    container = make_container(Service, start=False)
    (bound,) = container.dependencies

    with pytest.raises(RuntimeError, match="Cannot `bind` a bound extension."):
        bound.bind(container, "recorder")


class Inner(Extension):
    def __init__(self, value=None):
        self.value = value


def test_3_sub_extensions_are_found_on_the_class_and_on_the_instance(make_container):
    class Outer(DependencyProvider):
        on_class = Inner("class")

        def __init__(self, value):
            self.on_instance = Inner(value)

    class Service:
        name = "service"
        outer = Outer("instance")

    container = make_container(Service, start=False)
    (outer,) = container.dependencies

    assert {one.value for one in container.subextensions} == {"class", "instance"}
    assert outer.on_instance.is_bound() and outer.on_class.is_bound()
    assert container.extensions == container.subextensions | {outer}
    assert set(iter_extensions(outer)) == container.subextensions


def test_3_an_error_of_a_property_is_raised_when_the_container_is_made():
    class Wrong(DependencyProvider):
        @property
        def setting(self):
            raise ConfigurationError("that cannot be")

    class Service:
        name = "service"
        wrong = Wrong()

    with pytest.raises(ConfigurationError, match="that cannot be"):
        ServiceContainer(Service, {})


class Shared(SharedExtension):
    def __init__(self, value=None):
        self.value = value


class SharedToo(Shared):
    pass


class KeyedByValue(Shared):
    @property
    def sharing_key(self):
        return (type(self), self.value)


def users_of(cls):
    class User(DependencyProvider):
        def __init__(self, value):
            self.shared = cls(value)

    class Service:
        name = "service"
        first = User(1)
        second = User(2)

    return sorted(ServiceContainer(Service, {}).dependencies, key=lambda one: one.attr_name)


def test_4_a_shared_extension_is_bound_once_and_the_first_arguments_win():
    first, second = users_of(Shared)

    assert first.shared is second.shared
    assert [first.shared.value, second.shared.value] == [1, 1]


def test_4_a_subclass_is_shared_apart_from_its_base(make_container):
    class User(DependencyProvider):
        one = Shared()
        other = SharedToo()

    class Service:
        name = "service"
        user = User()

    container = make_container(Service, start=False)

    assert set(container.shared_extensions) == {Shared, SharedToo}
    assert len(container.subextensions) == 2


def test_4_extensions_with_different_sharing_keys_are_not_shared():
    first, second = users_of(KeyedByValue)

    assert [first.shared.value, second.shared.value] == [1, 2]


def test_4_containers_share_nothing():
    class Service:
        name = "service"
        shared = type("User", (DependencyProvider,), {"inner": Shared()})()

    one, other = ServiceContainer(Service, {}), ServiceContainer(Service, {})

    assert one.shared_extensions[Shared] is not other.shared_extensions[Shared]


def test_5_the_attribute_name_is_set_on_clone_and_declaration(make_container):
    class Service:
        name = "service"
        recorder = Recorder()

    (bound,) = make_container(Service, start=False).dependencies

    assert bound.attr_name == "recorder"
    assert Service.recorder.attr_name == "recorder"


def methods_of(service_cls):
    return sorted(one.method_name for one in ServiceContainer(service_cls, {}).entrypoints)


def test_6_overriding_a_method_without_decorating_it_drops_the_entrypoint():
    class Base:
        name = "service"

        @entry
        def kept(self): ...

        @entry
        def dropped(self): ...

    class Service(Base):
        def dropped(self): ...

    assert methods_of(Service) == ["kept"]


def test_6_a_wrapper_above_the_decorator_keeps_the_entrypoint():
    def logged(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    class Service:
        name = "service"

        @logged
        @entry
        def method(self): ...

    assert methods_of(Service) == ["method"]


def test_6_the_same_decorator_twice_makes_two_entrypoints():
    class Service:
        name = "service"

        @entry
        @entry
        def method(self): ...

    assert methods_of(Service) == ["method", "method"]


def test_6_static_methods_count_in_either_order():
    class Service:
        name = "service"

        @staticmethod
        @entry
        def inside(): ...

        @entry
        @staticmethod
        def outside(): ...

    assert methods_of(Service) == ["inside", "outside"]


def test_7_decorating_does_not_change_the_function():
    def method(self, a):
        return a * 2

    decorated = entry(method)

    assert decorated is method
    assert decorated(None, 2) == 4
    assert entry(expected_exceptions=ValueError)(method) is method


def test_8_a_service_needs_a_name():
    class Nameless: ...

    with pytest.raises(ConfigurationError, match=r"must define a `name` attribute \(.*Nameless\)"):
        ServiceContainer(Nameless, {})


def test_8_a_service_name_is_a_text():
    class Numbered:
        name = 42

    with pytest.raises(ConfigurationError, match=r"Numbered.name is 42"):
        get_service_name(Numbered)


class Service:
    name = "service"

    @entry
    def method(self, a, b=2): ...

    @staticmethod
    @entry
    def static(a): ...


@pytest.mark.parametrize("config", [{}, {"max_workers": None}, {"max_workers": 0}])
def test_8_max_workers_is_ten_by_default(config):
    container = ServiceContainer(Service, config)

    assert container.max_workers == 10
    assert container.pool.free() == 10


@pytest.mark.parametrize("value", ["ten", -1, 2.5, True, "auto:", "auto:2", "auto:many", "auto 50"])
def test_8_an_invalid_max_workers_is_refused(value):
    with pytest.raises(ConfigurationError, match=f"max_workers is {value!r}"):
        ServiceContainer(Service, {"max_workers": value})


@pytest.mark.parametrize(("value", "most"), [("auto", 100), ("auto:500", 500), ("auto:3", 3)])
def test_max_workers_may_follow_the_durations_of_calls(value, most):
    container = ServiceContainer(Service, {"max_workers": value})

    assert container.max_workers == most
    assert container.pool.size == min(10, most)


def test_the_serializer_and_what_is_accepted_come_from_the_configuration():
    plain, chosen = ServiceContainer(Service, {}), ServiceContainer(Service, {"serializer": "json"})

    assert (plain.serializer, chosen.serializer) == ("msgpack", "json")
    assert chosen.accept == ["json"]
    assert ServiceContainer(Service, {"ACCEPT": ["json", "msgpack"]}).accept == ["json", "msgpack"]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"serializer": "carrier-pigeon"}, "serializer is 'carrier-pigeon', which is not known here"),
        ({"ACCEPT": ["json", "carrier-pigeon"]}, "ACCEPT has 'carrier-pigeon', which is not known here"),
        ({"ACCEPT": "json"}, "ACCEPT is 'json'; a list"),
    ],
)
def test_08_an_unknown_serializer_is_refused_when_the_container_is_made(config, text):
    with pytest.raises(ConfigurationError, match=text):
        ServiceContainer(Service, config)


def test_without_a_configuration_the_global_one_is_used():
    from zmqservices import config

    with config.patch({"max_workers": 3}):
        container = ServiceContainer(Service)

    assert container.config is config
    assert container.max_workers == 3


class OtherContainer(ServiceContainer): ...


def test_the_container_class_can_be_configured():
    assert get_container_cls({}) is ServiceContainer
    assert get_container_cls({"SERVICE_CONTAINER_CLS": "zmqservices.containers.ServiceContainer"}) is ServiceContainer
    with pytest.raises(ImportError, match="'nowhere.Container'|nowhere"):
        get_container_cls({"SERVICE_CONTAINER_CLS": "nowhere.Container"})


def test_a_mistyped_option_is_refused_with_a_hint():
    with pytest.raises(TypeError, match="'expected_exception'; did you mean 'expected_exceptions'"):
        entry(expected_exception=ValueError)(lambda self: None)


def test_the_former_name_of_sensitive_arguments_warns():
    with pytest.warns(DeprecationWarning, match="sensitive_arguments"):
        assert Entry(sensitive_variables="a").sensitive_arguments == "a"


def test_extensions_are_recognized_by_their_kind():
    assert is_extension(Shared()) and is_dependency(Recorder()) and is_entrypoint(Entry())
    assert not is_dependency(Shared()) and not is_entrypoint(Service.method)


def test_an_entrypoint_can_be_registered_by_hand():
    def method(self): ...

    register_entrypoint(method, Entry())

    assert methods_of(type("Service", (), {"name": "service", "method": method})) == ["method"]


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "problem"),
    [
        ("method", (1,), {}, None),
        ("method", (1, 2), None, None),
        ("method", (), {"a": 1, "b": 2}, None),
        ("method", (), {}, "missing 1 required positional argument: 'a'"),
        ("method", (1, 2, 3), {}, "takes from 1 to 2 positional arguments but 3 were given"),
        ("method", (1,), {"c": 1}, "unexpected keyword argument 'c'"),
        ("method", (1,), {"a": 1}, "multiple values for argument 'a'"),
        ("static", (1,), {}, None),
        ("static", (), {}, "missing 1 required positional argument: 'a'"),
        ("static", (1, 2), {}, "takes 1 positional argument but 2 were given"),
    ],
)
def test_arguments_are_checked_against_the_method(make_container, method, args, kwargs, problem):
    entrypoint = entrypoint_of(make_container(Service, start=False), method)

    if problem is None:
        entrypoint.check_signature(args, kwargs)
    else:
        with pytest.raises(IncorrectSignature, match=problem):
            entrypoint.check_signature(args, kwargs)


def test_the_repr_of_an_extension_says_what_it_is(make_container):
    class WithRecorder(Service):
        recorder = Recorder()

    container = make_container(WithRecorder, start=False)
    (recorder,) = container.dependencies

    assert "[unbound]" in repr(WithRecorder.recorder)
    assert "service" in repr(recorder)
    assert "service.method" in repr(entrypoint_of(container, "method"))
    assert "service" in repr(container)
    assert inspect.isfunction(Service.method)
