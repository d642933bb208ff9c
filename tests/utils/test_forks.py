"""Objects of a parent in its forked child."""

import gc
import os

import pytest

from zmqservices.utils.forks import ForkHook

# Python 3.12 warns of forks in a process that has threads; the child does nothing that a thread could have locked.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


class Member:
    is_forked = False

    def mark(self):
        self.is_forked = True


def in_fork(check):
    """What `check()` says in a forked child."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_members_are_told_in_the_child_and_not_in_the_parent():
    member, stranger = Member(), Member()
    hook = ForkHook(Member.mark)
    hook.add(member)

    assert in_fork(lambda: member.is_forked and not stranger.is_forked)
    assert not member.is_forked


def test_members_are_not_kept_alive():
    told = []
    hook = ForkHook(told.append)
    hook.add(Member())
    gc.collect()

    assert in_fork(lambda: told == [])
