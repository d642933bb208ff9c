"""Coverage-guided fuzzing of one target or of all: `python -m tests.fuzz wire --seconds 60`, `make fuzz FUZZ_SECONDS=3600`.

What was found worth keeping stays in `.fuzz/TARGET`, and the next run begins with it. An input that is a bug ends the run with 1;
it lies in the file that is named then, and becomes a row in tests/fuzz/cases.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

NAMES = (
    "wire", "wire-payload", "codec", "json", "directory", "journal", "websocket", "websocket-frames", "http", "http-body",
    "topics", "addresses",
)  # fmt: skip
WITHOUT = "atheris is not installed: it has wheels for Linux on x86_64 alone, and none for this Python; `pip install atheris`"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", default="all", choices=("all", *NAMES))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz"), help="where what was found is kept (default: %(default)s)")
    arguments = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print(WITHOUT, file=sys.stderr)
        return 2
    if arguments.target != "all":
        return fuzz(arguments.target, arguments.seconds, arguments.corpus / arguments.target)
    failed = []
    for name in NAMES:
        print(f"--- {name}", flush=True)
        options = ["--seconds", str(arguments.seconds), "--corpus", str(arguments.corpus)]
        command = [sys.executable, "-m", "tests.fuzz", name, *options]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print("all targets held" if not failed else f"inputs that are bugs were found for {', '.join(failed)}")
    return 1 if failed else 0


def fuzz(name: str, seconds: int, corpus: Path) -> int:
    """Never returns where an input is a bug: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["zmqservices", "discovery", "json", "msgpack", "wsproto"]):
        from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)

    options = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={corpus}/bug-", str(corpus)], target.hold)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
