"""What every test relies on: hypothesis without deadlines of its own, and settings that do not leak."""

import os

import pytest
from hypothesis import HealthCheck, settings

from zmqservices import config

# The machine that runs the tests may be busy: a slow example is no failure, a hanging test is one.
settings.register_profile("zmqservices", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zmqservices")


@pytest.fixture(autouse=True)
def settings_are_put_back():
    """Settings are after the test what they were before it; none come from the developer's shell."""
    for name in ("ZMQSERVICES_DIRECTORY", "ZMQSERVICES_NAMESPACE"):
        os.environ.pop(name, None)
    before = dict(config)
    yield
    config.clear()
    config.update(before)
