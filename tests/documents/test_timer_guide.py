"""The examples of the guide to timers hold."""

from tests.documents.examples import run_examples
from tests.stage import until


def test_the_examples_of_the_guide_hold():
    names = run_examples("timer.rst", wait_until=until)

    assert "tidied" in names["checks"]
