"""The check of arguments against a signature agrees with Python itself."""

import functools
import inspect
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqservices.utils.signatures import CallShape


def positional(self, a, b, c=1): ...
def only_positional(self, a, /, b, c=1): ...
def only_by_name(self, a, *, b, c=1): ...
def many(self, a, *args, b=1): ...
def any_name(self, a, b=1, **kwargs): ...
def shadowed(self, a, /, **kwargs): ...
def everything(self, a, /, b, *args, c, d=1, **kwargs): ...
def nothing(self): ...
def wrapped(*args, **kwargs): ...
def positions(*args): ...


PLAIN = [positional, only_positional, only_by_name, many, any_name, shadowed, everything, nothing]
FUNCTIONS = [*PLAIN, wrapped, positions]


@given(
    function=st.sampled_from(FUNCTIONS),
    args=st.lists(st.integers(), max_size=4),
    kwargs=st.dictionaries(st.sampled_from(["a", "b", "c", "d", "x", "self"]), st.integers(), max_size=4),
)
def test_the_check_agrees_with_python(function, args, kwargs):
    try:
        function(None, *args, **kwargs)
        python_says = True
    except TypeError:
        python_says = False

    assert CallShape(function).fits(args, kwargs) is python_says


def test_the_signature_of_a_wrapper_counts():
    @functools.wraps(positional)
    def wrapper(*args, **kwargs): ...

    assert CallShape(wrapper).fits((), {})


def test_a_callable_without_a_signature_takes_any_arguments():
    assert CallShape(Mock()).fits((1, 2, 3), {"a": 1})


def test_a_static_method_has_no_self():
    shape = CallShape(lambda a: a, has_self=False)

    assert shape.fits((1,), None) and not shape.fits((), None)


@pytest.mark.parametrize("function", PLAIN)
@pytest.mark.parametrize("given", [0, 1, 2, 5])
@pytest.mark.parametrize("names", [(), ("c",), ("x",), ("self",)])
def test_arguments_that_do_not_fit_get_pythons_message_without_self(function, given, names):
    shape = CallShape(function)
    args, kwargs = (1,) * given, dict.fromkeys(names, 1)
    # The same without `self`, for Python to judge.
    described = inspect.signature(function).replace(parameters=shape_without_self(function))
    space = {}
    exec(f"def {function.__name__}{described}: ...", space)

    try:
        space[function.__name__](*args, **kwargs)
        python_says = None
    except TypeError as error:
        python_says = str(error)

    if shape.fits(args, kwargs) or "self" in names:
        # That `self` is given by name as well is told in words of its own.
        assert python_says is None or "self" in names
    else:
        assert shape.why_not(args, kwargs) == python_says


def shape_without_self(function):
    _, *rest = inspect.signature(function).parameters.values()
    return rest
