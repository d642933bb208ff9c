"""Two classes with one name are not both run, and none of them in silence."""

import pytest

from zmqservices.cli.run import run
from zmqservices.exceptions import ConfigurationError
from zmqservices.rpc import rpc


class First:
    name = "twice"

    @rpc
    def first(self): ...


class Second(First):
    @rpc
    def second(self): ...


def test_two_classes_of_one_name_are_refused_and_both_are_named():
    with pytest.raises(ConfigurationError, match=r"'twice': .*:First and .*:Second; .* zmqservices run .*:Second"):
        run([First, Second], {})
