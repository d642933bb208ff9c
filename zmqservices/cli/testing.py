"""`zmqservices test`: runs pytest in a process that is monkey-patched as `zmqservices run` is."""

from __future__ import annotations

import click

from zmqservices.cli.options import AS_NAMEKO, be_nameko
from zmqservices.cli.patching import import_from_here, monkey_patch
from zmqservices.exceptions import CommandError


@click.command("test", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@AS_NAMEKO
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]...")
def test_command(arguments: tuple[str, ...], as_nameko: bool) -> int:
    """Run pytest in a process that is monkey-patched as `zmqservices run` is.

    All arguments go to pytest, and the exit code is pytest's.

    \b
    Examples:
        zmqservices test tests -k hello
        zmqservices test --as-nameko tests
    """
    monkey_patch()
    import_from_here()
    if as_nameko:
        be_nameko()
    try:
        import pytest
    except ImportError as error:
        raise CommandError("pytest is not installed; `pip install zmqservices[testing]` brings it") from error
    _keep_from_rewriting()
    return int(pytest.main(list(arguments)))


def _keep_from_rewriting() -> None:
    """Keep pytest from a warning that it cannot rewrite the asserts of these packages, which are imported already.

    PYTEST_DONT_REWRITE in a docstring is pytest's own mark for that. The warning comes only for packages that are installed
    (not in editable mode).
    """
    import discovery
    import zmqservices

    for package in (zmqservices, discovery):
        package.__doc__ = f"{package.__doc__}\nPYTEST_DONT_REWRITE"
