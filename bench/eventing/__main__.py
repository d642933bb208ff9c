"""Runs the publisher or a subscriber of one subject."""

from __future__ import annotations

import importlib
import json
import sys

MODULES = {
    "pyzmq": "bench.eventing.bare",
    "best-effort": "bench.eventing.ours",
    "reliable": "bench.eventing.ours",
    "nats": "bench.eventing.nats",
    "nameko": "bench.eventing.nameko",
}


def main() -> None:
    subject, role, job = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    getattr(importlib.import_module(MODULES[subject]), role)({**job, "subject": subject})


if __name__ == "__main__":
    main()
