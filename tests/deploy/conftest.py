"""Processes that run what the manifests say."""

import pytest

from tests.system.processes import Guardian, Stage


@pytest.fixture(scope="module")
def guardian():
    guardian = Guardian(forks=True)
    yield guardian
    guardian.close()


@pytest.fixture
def stage(guardian, tmp_path):
    """Starts processes that end with the test."""
    stage = Stage(guardian, tmp_path)
    yield stage
    stage.end()
