"""Sessions at a shell as documents show them: commands after `$`, and what they print."""

import re
import subprocess
import textwrap

import gevent

from tests.documents.examples import DOCS

_LITERAL = re.compile(r"::\n\n((?:    .*\n|\n)+)")


def sessions(page, command):
    """The commands of the page that begin with `command`, each with the output that is shown."""
    for block in _LITERAL.findall((DOCS / page).read_text("utf-8")):
        for part in re.split(r"^\$ ", textwrap.dedent(block), flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            if line.startswith(command):
                yield line, output.strip()


def run(line):
    """What a shell prints for the line. The hub turns meanwhile."""
    done = gevent.get_hub().threadpool.spawn(subprocess.run, ["sh", "-c", line], capture_output=True, text=True, timeout=20)
    return done.get().stdout.strip()
