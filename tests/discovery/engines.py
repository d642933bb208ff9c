"""What tests of engines share: places of their own, sessions, and what users are told."""

import itertools

from discovery import Options
from discovery.backend import factory_for
from tests.discovery.stage import eventually

_numbers = itertools.count()


def new_prefix():
    """A place that no other test uses."""
    return f"test-{next(_numbers)}"


def session_of(url, namespace="default", ttl=1.0):
    """A session of a process of its own."""
    (seed,) = factory_for(url)(url, Options(namespace, None, ttl)).seeds
    return seed.session(namespace)


def error_of(directory):
    """The sentence that a user sees once the first attempt failed."""
    return eventually(lambda: directory.view().registries[0]["error"])
