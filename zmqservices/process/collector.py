"""Makes Python's garbage collector run less often in a process that serves calls.

Internal. `zmqservices run` applies it.

Reference counts free nearly every object of a call. Yet by default the collector examines young objects every few hundred
allocations, and from time to time everything that was imported: 3 % of a small call's processor time (see bench/).

`zmqservices run` relaxes it once its services are up. Then reference cycles of methods live longer. If the application has set
other thresholds, nothing is changed.
"""

from __future__ import annotations

import gc

#: Surviving allocations between two collections of the youngest objects. Python's default is 700 or 2,000.
YOUNG = 10_000

#: The default thresholds of all Python versions.
DEFAULTS = ((700, 10, 10), (2000, 10, 10), (2000, 10, 0))


def spare_what_lives() -> None:
    """Collect young objects less often, and never again examine those that exist now: modules, classes, services."""
    threshold = gc.get_threshold()
    if gc.isenabled() and threshold in DEFAULTS:
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG, *threshold[1:])
