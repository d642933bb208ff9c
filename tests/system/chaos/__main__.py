"""Runs the chaos scenarios for any time: `python -m tests.system.chaos --seconds 60 [--seed N] [SCENARIO...]`, as root."""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
import time
from functools import partial
from itertools import groupby
from pathlib import Path

from tests.system.chaos.accounts import Account
from tests.system.chaos.scenarios import HOSTS, LEFT, SCENARIOS, deployed
from tests.system.hosts import Hosts, why_not
from tests.system.processes import Guardian, Stage

ROW = "{:<12} {:>6} {:>8} {:>8} {:>7} {:>7} {:>9} {:>8} {:>7} {:>7} {:>6} {:>6}"
HEAD = (
    "scenario", "calls", "answered", "in doubt", "refused", "slowest", "too late", "stalled", "events", "healed", "took",
    "faults",
)  # fmt: skip


def row(name: str, account: Account, took: float) -> str:
    outcomes = account.outcomes
    return ROW.format(
        name, account.calls, outcomes["answered"], outcomes["in doubt"], outcomes["refused"], f"{account.slowest:.2f} s",
        f"{max(0.0, account.latest) * 1000:.0f} ms", f"{account.stalled * 1000:.0f} ms", account.events,
        f"{account.healed_after:.1f} s", f"{took:.0f} s", len(account.faults),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.system.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each scenario makes trouble (60)")
    parser.add_argument("--seed", type=int, default=None, help="what happens is decided by this number")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; all of them")
    given = parser.parse_args()
    unknown = set(given.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    if reason := why_not():
        print(f"Chaos needs hosts of its own: {reason}", file=sys.stderr)
        return 2
    seed = random.randrange(10**6) if given.seed is None else given.seed
    print(f"--seconds {given.seconds:g} --seed {seed}\n\n{ROW.format(*HEAD)}", flush=True)
    chosen = [name for name in SCENARIOS if not given.scenarios or name in given.scenarios]
    faults = 0
    for (directory, parts), names in groupby(chosen, key=lambda name: (SCENARIOS[name].directory, SCENARIOS[name].parts)):
        faults += run_all(list(names), given.seconds, seed, directory, parts)
    return 1 if faults else 0


def run_all(names: list[str], seconds: float, seed: int, directory: str, parts: tuple[tuple[str, int], ...]) -> int:
    """The scenarios over one deployment, one after the other. Returns how many faults were found."""
    faults, is_whole = 0, False
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    guardian = Guardian(forks=True)
    stage = Stage(guardian, folder)
    # What the directories' clients of this process have to say.
    logging.basicConfig(filename=folder / "this.log", force=True)
    network = Hosts(HOSTS, left=LEFT, with_this=True)
    try:
        with network, deployed(stage, network, folder, directory, parts) as deployment:
            for name in names:
                began = time.monotonic()
                chance = random.Random(f"{seed} {name}")
                run = partial(SCENARIOS[name].run, deployment, seconds, chance)
                account = deployment.observe(run, SCENARIOS[name].may_fail)
                print(row(name, account, time.monotonic() - began), flush=True)
                if account.errors:
                    print("    not answered:", ", ".join(f"{what} {n}" for what, n in account.errors.items()), flush=True)
                for note in deployment.notes:
                    print(f"    {note}", flush=True)
                deployment.notes.clear()
                for fault in account.faults[:20]:
                    print(f"    {fault}", flush=True)
                faults += len(account.faults)
                if account.is_over:
                    break
        is_whole = True
    finally:
        stage.end()
        guardian.close()
        if faults or not is_whole:
            print(f"    The logs are in {folder}", flush=True)
        else:
            shutil.rmtree(folder)
    return faults


if __name__ == "__main__":
    sys.exit(main())
