"""How several processes that each collect all tests do so in less time."""

import gc
import importlib
from contextlib import suppress

from _pytest.outcomes import OutcomeException


def import_by_turns(folder, worker, workers):
    """Import the test files below `folder`, each of the `workers` processes beginning with another file.

    A process that imports a file first compiles it, with asserts that explain themselves; the others then read what it compiled.
    All would compile all files if they went through them in one order. A file that cannot be imported is reported by pytest,
    which tries once more.
    """
    files = sorted(folder.rglob("test_*.py"))
    begin = len(files) * worker // workers
    for file in files[begin:] + files[:begin]:
        with suppress(Exception, OutcomeException):
            importlib.import_module(".".join((folder.name, *file.relative_to(folder).with_suffix("").parts)))


def keep_what_was_collected():
    """Tests and modules stay until the process ends: the garbage collector need not look at them again and again."""
    keep_what_is_left()
    gc.enable()


def keep_what_is_left():
    """Collect the garbage of a file of tests, and keep what else it leaves, such as reports and what libraries remember.

    A process has run a hundred files at the end. Each collection of the last ones would go through a million such objects.
    """
    gc.collect()
    gc.freeze()
