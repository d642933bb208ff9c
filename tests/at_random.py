"""How many random examples a test tries: `@settings(max_examples=examples(500))`."""

from hypothesis import settings


def examples(thorough):
    """The share of `thorough` that the profile of this run asks for: all of them in `make fuzz`."""
    return max(10, thorough * settings().max_examples // 100)
