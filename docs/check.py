"""Every .rst file of the project parses without a warning: `python docs/check.py`."""

import sys
from pathlib import Path

from docutils.core import publish_doctree
from docutils.utils import SystemMessage

HOME = Path(__file__).resolve().parent.parent
#: Level 2 is a warning; from there on docutils raises instead of going on.
WARNING = 2


def complaint(path: Path) -> str | None:
    """What docutils has against the file; None when it is fine."""
    settings = {"halt_level": WARNING, "report_level": 5, "input_encoding": "utf-8", "_disable_config": True}
    try:
        publish_doctree(path.read_text("utf-8"), source_path=str(path), settings_overrides=settings)
    except SystemMessage as message:
        return str(message)
    return None


def main() -> int:
    """Name each file with a fault; 1 when there is one."""
    paths = sorted([*HOME.glob("*.rst"), *HOME.glob("docs/**/*.rst"), *HOME.glob("examples/**/*.rst")])
    complaints = [text for text in map(complaint, paths) if text]
    sys.stdout.write("\n".join([*complaints, f"{len(paths)} files read, {len(complaints)} with a fault\n"]))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
