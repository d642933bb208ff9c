"""The tests of the testing kit use its own fixtures, as any user does."""

import gevent
import pytest


@pytest.fixture(autouse=True)
def bound_on_time():
    """No test of this folder takes longer than this, whatever it waits for."""
    with gevent.Timeout(50):
        yield
