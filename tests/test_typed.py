"""Parameters have types of their own: `Any` is for values that may truly be anything, and says nothing to a reader."""

import ast
from collections import Counter
from pathlib import Path

HOME = Path(__file__).parents[1]
#: The part of a package's parameters that may be `Any`; a package of few parameters may have FEW in any case.
SHARE, FEW = 0.1, 3


def parameters():
    for package in ("zmqservices", "discovery"):
        for path in sorted((HOME / package).rglob("*.py")):
            room = "/".join(path.relative_to(HOME).parts[:2])
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.arguments):
                    named = [*node.posonlyargs, *node.args, *node.kwonlyargs, node.vararg, node.kwarg]
                    yield from ((room, each.annotation) for each in named if each is not None and each.annotation is not None)


def test_few_parameters_of_each_package_may_be_anything():
    every, anything = Counter(), Counter()
    for room, annotation in parameters():
        every[room] += 1
        anything[room] += isinstance(annotation, ast.Name) and annotation.id == "Any"

    assert every.total() > 5000
    assert {room: count for room, count in anything.items() if count > max(FEW, SHARE * every[room])} == {}
