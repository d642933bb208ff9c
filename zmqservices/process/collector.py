"""When Python's garbage collector looks for cycles in a process that serves calls.

Internal. `zmqservices run` applies it.

Reference counts free nearly all that a call makes; the collector looks at it all the same, every few hundred objects, and now
and then at everything that was imported. That is 3 % of a small call's processor time (bench/).

`zmqservices run` does this for its process once its services are up; cycles that methods make live longer for it. Whoever has
set a threshold himself has the last word.
"""

from __future__ import annotations

import gc

#: Objects that are made, and not freed again, before the youngest are looked at. Python's own is 700 or 2,000.
YOUNG = 10_000

#: Python's own, of all versions.
DEFAULTS = ((700, 10, 10), (2000, 10, 10), (2000, 10, 0))


def spare_what_lives() -> None:
    """Look at the youngest objects less often, and never again at those that are there now: modules, classes, services."""
    threshold = gc.get_threshold()
    if gc.isenabled() and threshold in DEFAULTS:
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG, *threshold[1:])
