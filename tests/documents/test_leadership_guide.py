"""The examples of the guide to leader election hold."""

from tests.documents.examples import run_examples
from tests.stage import until


def test_the_examples_of_the_guide_hold():
    names = run_examples("leadership.rst", wait_until=until)

    assert names["stored"][0] == ("news", None)
