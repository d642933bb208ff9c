"""What `make check` makes of the answers of pip-audit."""

import json
import runpy
from pathlib import Path

import pytest

verdict = runpy.run_path(str(Path(__file__).parents[2] / ".ci" / "audit"))["verdict"]
GOOD = {"name": "six", "version": "1.17.0", "vulns": []}
BAD = {"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}, {"id": "X", "fix_versions": []}]}
UNKNOWN = {"name": "other", "skip_reason": "Dependency not found on PyPI and could not be audited: other (1)"}


@pytest.mark.parametrize(
    ("status", "found", "errors", "expected", "line"),
    [
        (0, [GOOD, UNKNOWN], "", 0, "no known faults in 1 packages; 1 could not be asked for"),
        (1, [GOOD, BAD], "Found 2 known vulnerabilities", 1, "old 1.0: PYSEC-1, mended in 1.1"),
        (0, [UNKNOWN], "", 0, "NOT AUDITED: PyPI did not answer for any of the installed packages; is there a network?"),
        (1, None, "Traceback...\nConnectionError: none", 0, "NOT AUDITED: pip-audit got no answer (ConnectionError: none)"),
        (2, None, "", 0, "NOT AUDITED: pip-audit got no answer (exit status 2)"),
    ],
)
def test_a_known_fault_fails_and_no_network_is_told(status, found, errors, expected, line):
    output = "" if found is None else json.dumps({"dependencies": found, "fixes": []})

    assert verdict(status, output, errors) == (expected, [line, *(["old 1.0: X, mended in no version yet"] if expected else [])])
