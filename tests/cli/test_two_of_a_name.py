"""Two service classes with one name are refused, so that neither is left out without an error."""

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


def test_two_services_with_one_name_are_refused_and_the_error_names_both():
    with pytest.raises(ConfigurationError, match=r"'twice': .*:First and .*:Second; .* zmqservices run .*:Second"):
        run([First, Second], {})
