"""The architecture page leads to files that are there."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
PAGE = (HOME / "docs" / "architecture.rst").read_text(encoding="utf-8")


def test_every_file_and_package_that_it_names_exists():
    named = re.findall(r"``((?:zmqservices|discovery)/[\w/]*(?:\.py)?)``", PAGE)

    assert len(named) > 30
    assert [name for name in named if not (HOME / name).exists()] == []


def test_every_class_that_it_names_is_in_the_file_named_last_before_it():
    for step in re.split(r"\n(?=\d+\. |\S)", PAGE):
        files = re.findall(r"``((?:zmqservices|discovery)/[\w/]+\.py)``", step)
        for name in re.findall(r"``([A-Z][a-zA-Z]+)(?:\.\w+)?``", step):
            if files:
                assert any(f"class {name}" in (HOME / file).read_text(encoding="utf-8") for file in files), (name, files)


@pytest.mark.parametrize(
    ("question", "file", "definition"),
    [
        ("Where a call is balanced", "zmqservices/resilience/balance.py", "class "),
        ("Where an event waits", "zmqservices/journal/store.py", "class "),
        ("Where a lease expires", "discovery/server/table.py", "def expire"),
        ("Where a lease is renewed", "discovery/client/state.py", "def _renew"),
        ("Where it is decided whether a peer may make a call", "zmqservices/cluster/calls/guarded.py", "may_call"),
        ("Where a peer's certificate is checked", "discovery/security/verdicts.py", "def believed"),
        ("Where a record's signature is checked", "discovery/security/envelopes.py", "class Verifier"),
        ("Where it is decided who may register a record", "discovery/server/admission.py", "def register"),
    ],
)
def test_a_stranger_finds_the_file_that_a_question_is_about(question, file, definition):
    row = PAGE.split(f"   * - {question}\n", 1)[1].split("   * - ", 1)[0]

    assert f"``{file}``" in row
    assert definition in (HOME / file).read_text(encoding="utf-8")


def classes():
    sources = (path.read_text("utf-8") for package in ("zmqservices", "discovery") for path in (HOME / package).rglob("*.py"))
    return set(re.findall(r"^class (\w+)", "\n".join(sources), re.MULTILINE))


def test_every_class_in_the_glossary_exists():
    glossary = (HOME / "docs" / "glossary.rst").read_text("utf-8")
    named = set(re.findall(r"^   ([A-Z][a-z]+[A-Z]\w+)$", glossary, re.MULTILINE))

    assert len(named) > 20
    assert named - classes() == set()


@pytest.mark.parametrize("drawing", sorted((HOME / "docs" / "images").glob("*.svg")), ids=lambda path: path.name)
def test_every_class_in_a_drawing_exists(drawing):
    texts = ElementTree.parse(drawing).iter("{http://www.w3.org/2000/svg}text")
    titles = [text.text or "" for text in texts if text.get("class") == "title"]
    named = {name for title in titles for name in re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", title)}

    assert titles
    assert named - classes() == set()
