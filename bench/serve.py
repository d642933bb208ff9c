"""The server process of a subject: `python -m bench.serve SUBJECT HOST:PORT`."""

from __future__ import annotations

import sys

from bench import subjects


def main() -> None:
    name, address = sys.argv[1:3]
    subjects.find(name).serve(address)


if __name__ == "__main__":
    main()
