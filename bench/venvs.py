"""Makes a virtual environment for each peer, once, and keeps it under `.bench/`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes import HOME
from bench.subject import Subject

#: The folder of the environments, the logs, and the files of brokers.
CACHE = HOME / ".bench"
#: Seconds that an installation may take.
PATIENCE = 600
#: Folders with servers that are not in the PATH of every user.
SYSTEM_PATHS = "/usr/sbin:/usr/local/sbin:/sbin"


class Unavailable(Exception):
    """A subject cannot be measured here; the text says why, for the table."""


def interpreter(subject: Subject, cache: Path = CACHE) -> str:
    """The Python that runs the subject, its environment made where it is missing. Raises Unavailable."""
    check_programs(subject)
    if not subject.requirements:
        return sys.executable
    base = base_python(subject)
    wanted = "\n".join([base, *subject.requirements])
    folder = cache / "venvs" / f"{subject.name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        make(folder, base, subject)
        (folder / "installed").write_text(wanted + "\n")
    return str(python)


def check_programs(subject: Subject) -> None:
    """Raises Unavailable, naming the package, when a program is missing."""
    os.environ["PATH"] = ":".join(dict.fromkeys([*os.environ.get("PATH", "").split(":"), *SYSTEM_PATHS.split(":")]))
    for program, package in subject.programs:
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not installed; on Debian: apt-get install {package}")


def base_python(subject: Subject) -> str:
    """The interpreter to make the environment with. Raises Unavailable."""
    if subject.python is None or sys.version_info[:2] == tuple(map(int, subject.python.split("."))):
        return sys.executable
    found = shutil.which(f"python{subject.python}")
    if found is None:
        raise Unavailable(f"it needs Python {subject.python}, which was not found")
    return found


def make(folder: Path, base: str, subject: Subject) -> None:
    """Make and fill an environment. Raises Unavailable with pip's last words."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for command in (
        [base, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *subject.requirements],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise Unavailable(f"its environment could not be made: {exc}") from exc
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
            raise Unavailable(f"its environment could not be made: {' | '.join(lines[-3:])[-400:]}")
