"""The limits in the documents are those of the code."""

import importlib
import re
from functools import cache
from pathlib import Path

from docutils import nodes
from docutils.core import publish_doctree

from discovery.server.limits import RegistryLimits
from zmqservices import constants

LIMITS = Path(__file__).parents[2] / "docs" / "limits.rst"
UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
NUMBER = re.compile(r"(?<![\w.])([0-9][0-9,]*(?:\.[0-9]+)?)(?: ([KMG]iB))?")
#: Defaults by the setting that they are of.
DEFAULTS = {
    value: getattr(constants, f"DEFAULT_{name.removesuffix('_CONFIG_KEY')}", None)
    for name, value in vars(constants).items()
    if name.endswith("_CONFIG_KEY")
}


@cache
def rows():
    """(what, limit, names of settings and constants) of each row of each table."""
    found = []
    document = publish_doctree(LIMITS.read_text("utf-8"), settings_overrides={"report_level": 5, "input_encoding": "utf-8"})
    for body in document.findall(nodes.tbody):
        for row in body.findall(nodes.row):
            cells = list(row.findall(nodes.entry))
            if len(cells) < 4:
                continue  # A table in words; its numbers are held by the tests of what it is about.
            what, limit, setting, _ = cells
            found.append((what.astext(), limit.astext(), [name.astext() for name in setting.findall(nodes.literal)]))
    return found


def value_of(name):
    """Of a constant, or the default of a setting; None for a setting without one."""
    if name in DEFAULTS:
        return DEFAULTS[name]
    if name.startswith("--"):
        return getattr(RegistryLimits(), name.removeprefix("--").replace("-", "_"))
    package = "discovery" if name.startswith("discovery.") else "zmqservices"
    module, _, constant = name.removeprefix("discovery.").rpartition(".")
    return getattr(importlib.import_module(f"{package}.{module}"), constant)


def numbers(text):
    """Those that a cell names, in bytes where they have a unit."""
    return [float(number.replace(",", "")) * UNITS.get(unit, 1) for number, unit in NUMBER.findall(text)]


def test_each_limit_is_that_of_the_code():
    wrong = []
    for what, limit, names in rows():
        values = [value for value in map(value_of, names) if value is not None]
        if numbers(limit)[: len(values)] != values:
            wrong.append(f"{what}: the page says {limit!r}, and {', '.join(names)} is {values}")

    assert wrong == []


def test_there_are_limits_for_everything():
    assert len(rows()) > 50
