"""docs/moving-from-nameko.rst: its examples run, it names every name, and every row of behaviour has its test."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.test_nameko_names import DECORATORS, GONE, NAMES

HOME = Path(__file__).parents[2]
PAGE = (HOME / "docs" / "moving-from-nameko.rst").read_text(encoding="utf-8")
EVERY_NAME, BEHAVIOUR = PAGE.split("\nEvery name\n---")[1].split("\nBehaviour, point by point\n---")

#: Tests of a behaviour that do not have its number in their names.
NAMED_OTHERWISE = {
    41: ("events/test_deliveries.py", "test_a_dispatch_succeeds_when_nobody_handles_it"),
    42: ("events/test_handlers.py", "test_two_methods_of_a_service_both_get_the_event"),
    43: ("events/test_deliveries.py", "test_one_that_always_fails_makes_a_dead_letter_and_the_rest_flows"),
    44: ("events/test_deliveries.py", "test_a_wrong_signature_is_an_error_of_the_handler"),
    45: ("events/test_deliveries.py", "test_as_many_events_run_at_once_as_there_are_workers_and_they_begin_in_order"),
    46: ("events/test_deliveries.py", "test_events_are_kept_while_the_handler_is_away"),
}

#: number: (same, better or other; what happens)
ROWS = {
    int(number): (here, " ".join(text.split()))
    for number, here, text in re.findall(r"(?m)^   \* - (\d+)\n     - (\w+)\n     - (.+\n(?:       .+\n)*)", BEHAVIOUR + "\n")
}


def test_the_examples_run_in_their_order(tmp_path):
    found = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", PAGE)
    (tmp_path / "page.py").write_text("\n".join(textwrap.dedent(block) for block in found))

    # In an interpreter of its own: the alias stays.
    done = subprocess.run(
        [sys.executable, "-W", "error", "page.py"], cwd=tmp_path,
        env={"PATH": "", "HOME": str(tmp_path), "ZMQSERVICES_LOCAL_PORT": str(free_port())},
        capture_output=True, text=True, timeout=50,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert len(found) == 4


def rows_of_names():
    """module: the text of its rows."""
    rows, module = {}, None
    for row in EVERY_NAME.split("\n   * -")[1:]:
        first, _, rest = row.partition("\n")
        module = first.strip().strip("`") or module
        rows[module] = rows.get(module, "") + rest
    return rows


@pytest.mark.parametrize("module", sorted({*NAMES, *GONE, *DECORATORS} - {"", "constants"}))
def test_every_name_of_a_module_is_in_its_row(module):
    row = rows_of_names()[module]
    names = {*NAMES.get(module, ()), *GONE.get(module, ()), *DECORATORS.get(module, ())}

    assert [name for name in sorted(names) if f"``{name.partition('.')[0]}``" not in row] == []


def test_what_is_gone_is_called_gone():
    rows = rows_of_names()

    assert [module for module in GONE if "Gone: " not in rows[module]] == []


def numbers_of_tests():
    """The numbers in the names of all tests, `test_13_15_...` or `test_semantic_47_...`, and of those named otherwise."""
    found = {number for number, (file, name) in NAMED_OTHERWISE.items() if f"def {name}(" in _source(HOME / "tests" / file)}
    for path in (HOME / "tests").rglob("test_*.py"):
        if path.name != "test_nameko_names.py":
            for numbers in re.findall(r"def test_(?:semantic_)?((?:\d+_)+)", _source(path)):
                found |= {int(number) for number in numbers.strip("_").split("_")}
    return found


def _source(path):
    return path.read_text(encoding="utf-8") if path.exists() else ""


def test_every_behaviour_has_its_row():
    assert sorted(ROWS) == list(range(1, 60))
    assert {here for here, _ in ROWS.values()} == {"same", "better", "other"}


def test_every_row_has_a_test_that_names_its_number():
    tested = numbers_of_tests()

    assert [number for number in ROWS if number not in tested] == []
