"""Wheels of this tree and of earlier ones, each installed into a folder of its own, for nodes of two releases side by side."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import pytest

from tests.system.fork_server import ROOT

#: What a wheel is made of.
PARTS = ["pyproject.toml", "setup.cfg", "README.rst", "CHANGES.rst", "LICENSE", "discovery", "zmqservices"]

#: The oldest tree with which this one works, until the first release: then its newest tag takes this place.
OLDEST = "50d43a345b89848abf9b6cfcbf4747812d8326ed"

_BUILD = "import sys, setuptools.build_meta as build; build.build_wheel(sys.argv[1])"


def _git(*arguments: str) -> bytes | None:
    """What git says; None where it fails, as in a tree without history."""
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _without(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def revision(which: str) -> str:
    """The commit of "the release before" or "the commit before". Skips where the history is missing, which fails in CI."""
    names = ["HEAD^"]
    if which == "the release before":
        released = (_git("describe", "--tags", "--match", "v*", "--abbrev=0", "HEAD^") or b"").decode().strip()
        names = [released or OLDEST]
    found = _git("rev-parse", "--verify", "--quiet", f"{names[0]}^{{commit}}")
    if found is None:
        _without(f"there is no commit {names[0]} here; a clone with its whole history is needed: `git fetch --unshallow --tags`")
    return found.decode().strip()


def install(source: str | None, folder: Path) -> Path:
    """The wheel of a commit (None: of this tree as it is), installed there; for PYTHONPATH."""
    if tuple(map(int, version("setuptools").split(".")[:2])) < (70, 1):
        _without("wheels are built with setuptools 70.1 or newer; `pip install -U setuptools` brings it")
    tree, wheels, place = folder / "tree", folder / "wheels", folder / "installed"
    tree.mkdir(parents=True)
    if source is None:
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, tree / part)
    else:
        archive = _git("archive", source, *PARTS)
        assert archive is not None, f"git cannot archive {source}"
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(tree, filter="data")
    _run(sys.executable, "-c", _BUILD, str(wheels), cwd=tree)
    (wheel,) = wheels.glob("*.whl")
    # As it is: what pip does besides takes ten times as long.
    shutil.unpack_archive(wheel, place, "zip")
    return place


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
