"""Fixtures that close directories and registries after each test."""

from contextlib import ExitStack, closing

import pytest

from tests.discovery.stage import House


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def new_house(stack):
    """`new_house(url, ttl=1.0)`: the directories of one process."""
    return lambda url, **options: stack.enter_context(closing(House(url, **{"ttl": 1.0, **options})))
