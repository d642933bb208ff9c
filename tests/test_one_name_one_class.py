"""One word has one meaning: no two classes that other modules may use share a name."""

import ast
from collections import defaultdict
from pathlib import Path

HOME = Path(__file__).parents[1]

#: Names that more than one module may define, and why.
EXCEPTIONS = {
    "Ack": "a message of the calls' protocol, and one of the directory's: two specifications that never meet",
    "Subscribe": "a message of the calls' protocol, and one of the directory's: two specifications that never meet",
    "Config": "the settings, and Nameko's dependency provider of that name",
    "Event": "a message of the calls' protocol, and eventlet's class of that name",
}


def classes():
    for package in ("zmqservices", "discovery"):
        for path in sorted((HOME / package).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    yield node.name, str(path.relative_to(HOME))


def test_no_two_classes_share_a_name():
    homes = defaultdict(list)
    for name, path in classes():
        homes[name].append(path)

    assert len(homes) > 300
    assert {name: paths for name, paths in homes.items() if len(paths) > 1 and name not in EXCEPTIONS} == {}


def test_every_exception_is_still_one():
    names = [name for name, _ in classes()]

    assert [name for name in EXCEPTIONS if names.count(name) < 2] == []
