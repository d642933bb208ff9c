"""What a program imports to keep the memory of large payloads."""

import platform
import subprocess
import sys

import pytest

CODE = """
import sys, zmqservices
assert "ctypes" not in sys.modules, "importing the package loads nothing for it"
from zmqservices.process import keep_large_blocks
print(keep_large_blocks())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_program_keeps_large_blocks_by_a_public_name():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=50)

    assert done.stdout == "True\n", done.stderr
