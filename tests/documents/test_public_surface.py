"""The public surface is what docs/api lists; every other module says that it is internal, or its package does."""

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]

#: Documented modules without `__all__`, and why.
WITHOUT_ALL = {"zmqservices.constants": "every name in it is public"}

#: Packages that only hold documented modules.
SHELVES = {"zmqservices.contrib", "zmqservices.standalone", "zmqservices.testing", "zmqservices.web"}


@cache
def modules():
    """The syntax tree of every module, by its name."""
    found = {}
    for package in ("zmqservices", "discovery"):
        for path in sorted((HOME / package).rglob("*.py")):
            parts = path.relative_to(HOME).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if parts[-1] != "__main__":
                found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


DOCUMENTED = {
    name
    for page in sorted((HOME / "docs/api").glob("*.rst"))
    for name in re.findall(r"^\.\. automodule:: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
}


def is_marked_internal(name):
    paragraphs = (ast.get_docstring(modules()[name]) or "").split("\n\n")
    return any(paragraph.startswith("Internal") for paragraph in paragraphs[:2])


def is_internal(name):
    """By its own mark, or by that of a package that it is in."""
    parts = name.split(".")
    return any(is_marked_internal(".".join(parts[:length])) for length in range(1, len(parts) + 1))


def test_every_module_is_documented_or_internal():
    assert [name for name in modules() if name not in DOCUMENTED | SHELVES and not is_internal(name)] == []


def test_no_documented_module_is_marked_internal():
    assert [name for name in sorted(DOCUMENTED) if is_marked_internal(name)] == []


def test_packages_that_only_hold_modules_define_nothing():
    for name in SHELVES:
        assert not [node for node in modules()[name].body if isinstance(node, ast.ClassDef | ast.FunctionDef)], name


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_a_documented_module_says_which_of_its_names_are_public(name):
    module = import_module(name)

    if name in WITHOUT_ALL:
        assert not hasattr(module, "__all__")
    else:
        assert [public for public in module.__all__ if not hasattr(module, public)] == []
