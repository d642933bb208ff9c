"""The Python examples of a document, run one after the other as they stand there."""

import textwrap
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(text):
    """The Python blocks, each with empty lines before it, so that errors name the page's own lines."""
    inside, block, first = False, [], 0
    for number, line in enumerate([*text.splitlines(), "end"]):
        if inside and line and not line.startswith(" "):
            yield "\n" * first + textwrap.dedent("\n".join(block))
            inside, block = False, []
        if inside:
            block.append(line)
        if line == ".. code-block:: python":
            inside, first = True, number + 1


def run_examples(page, **names):
    """Run them with `names` besides their own; returns all names."""
    names["__name__"] = page.replace(".", "_")
    for block in blocks((DOCS / page).read_text("utf-8")):
        exec(compile(block, page, "exec"), names)
    return names
