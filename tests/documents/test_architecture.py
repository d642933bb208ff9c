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
        files = re.findall(r"``(zmqservices/[\w/]+\.py)``", step)
        for name in re.findall(r"``([A-Z][a-zA-Z]+)(?:\.\w+)?``", step):
            if files:
                assert any(f"class {name}" in (HOME / file).read_text(encoding="utf-8") for file in files), (name, files)


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
