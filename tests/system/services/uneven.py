"""A service whose instances are not alike: a call takes as many times longer as the setting `slowness` says."""

from __future__ import annotations

import os

import gevent

from zmqservices.dependency_providers import Config
from zmqservices.rpc import rpc

#: Seconds of a call where nothing is said.
WORK = 0.01


class Uneven:
    name = "uneven"
    config = Config()

    @rpc(idempotent=True)
    def work(self) -> int:
        gevent.sleep(WORK * self.config.get("slowness", 1))
        return os.getpid()
