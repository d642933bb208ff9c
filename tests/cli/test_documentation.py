"""docs/cli.rst names every command and every option."""

from pathlib import Path

import click
import pytest

from zmqservices.cli.main import COMMANDS, cli

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cli.rst").read_text("utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_its_section_and_its_options_are_named(name):
    command = cli.get_command(click.Context(cli), name)
    options = [option.opts[0] for option in command.params if isinstance(option, click.Option)]

    assert f"$ zmqservices {name}" in PAGE or f"(zmqservices {name} " in PAGE
    assert [option for option in options if option not in PAGE] == []
