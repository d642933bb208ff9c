"""`zmqservices test`: runs pytest in a process that is monkey-patched as a running service is."""

from __future__ import annotations

import click

from zmqservices.cli.options import AS_NAMEKO, be_nameko
from zmqservices.cli.patching import import_from_here, monkey_patch
from zmqservices.exceptions import CommandError


@click.command("test", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@AS_NAMEKO
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]...")
def test_command(arguments: tuple[str, ...], as_nameko: bool) -> int:
    """Run pytest, monkey-patched as `zmqservices run` is. Ends with pytest's exit code.

    \b
    Example:
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
    """pytest warns of packages with a plugin that are imported already: it cannot rewrite their asserts. Tell it so.

    PYTEST_DONT_REWRITE in a docstring is pytest's own word for that. An installed package is meant, not an editable one.
    """
    import discovery
    import zmqservices

    for package in (zmqservices, discovery):
        package.__doc__ = f"{package.__doc__}\nPYTEST_DONT_REWRITE"
