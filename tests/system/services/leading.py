"""A service of which one instance leads, and writes lines of its pid and token into the file that LEADING_FILE names."""

from __future__ import annotations

import os
from typing import Any

from zmqservices import config
from zmqservices.leadership import Leadership, leadership_gained, leadership_lost
from zmqservices.timer import timer


class Leading:
    name = "leading"
    leader = Leadership()

    @timer(interval=0.02)
    def work(self) -> None:
        if self.leader.is_leader:
            self.write("works", self.leader.token)

    @leadership_gained
    def begin(self) -> None:
        self.write("gained", self.leader.token)

    @leadership_lost
    def end(self) -> None:
        self.write("lost", None)

    def write(self, what: str, token: Any) -> None:
        # One write, so that the lines of all processes stand in the order in which they were written.
        with open(config["LEADING_FILE"], "ab", buffering=0) as file:
            file.write(f"{what} {os.getpid()} {token}\n".encode())
