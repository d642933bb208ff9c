"""`python -m bench --help` says what each command, case and subject measures."""

from click.testing import CliRunner

from bench import cases, subjects
from bench.cli import bench


def test_help_describes_every_command_case_and_subject():
    text = CliRunner().invoke(bench, ["--help"], terminal_width=200).output

    assert "..." not in text.partition("Options:")[2], "no summary is cut"
    described = {line.split()[0]: line.split(None, 1)[1] for line in text.splitlines() if len(line.split()) > 1}
    assert all(described.get(name) for name in [*bench.commands, *cases.ALL, *subjects.ALL])
