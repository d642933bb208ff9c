"""The examples of docs/extensions.rst do what the page says."""

import textwrap
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extensions.rst"


def examples(text):
    """The code blocks of the page, each with the empty lines before it, so that errors name the page's own lines."""
    lines = text.splitlines()
    inside, block, first = False, [], 0
    for number, line in enumerate([*lines, "end"]):
        if inside and line and not line.startswith(" "):
            yield "\n" * first + textwrap.dedent("\n".join(block))
            inside, block = False, []
        if inside:
            block.append(line)
        if line == ".. code-block:: python":
            inside, first = True, number + 1


def test_the_examples_of_the_page_run_in_their_order():
    names = {"__name__": "extensions_page"}
    blocks = list(examples(PAGE.read_text("utf-8")))

    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)

    assert len(blocks) == 8
    assert names["ticks"]
