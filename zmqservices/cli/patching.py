"""The one place where the standard library is monkey-patched."""

import os
import sys


def monkey_patch() -> None:
    """Make the standard library cooperate with greenlets. To be called before anything heavy is imported."""
    from gevent import monkey

    monkey.patch_all()


def import_from_here() -> None:
    """Let modules of the current directory be imported, as `python -m` would."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
