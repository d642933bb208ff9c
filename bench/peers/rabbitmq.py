"""A RabbitMQ node of the run's own: on loopback, with its own ports, cookie and files, ended with the run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bench.processes import Child, free_port

#: Where Debian keeps the script that runs a node in the foreground; the one in PATH insists on the system's user.
SCRIPTS = ("/usr/lib/rabbitmq/bin/rabbitmq-server",)
#: Seconds that a node may take to start.
PATIENCE = 90.0


class RabbitMq:
    """A port mapper and a node."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self.address = f"127.0.0.1:{free_port()}"
        self._children: list[Child] = []

    def __enter__(self) -> RabbitMq:
        home = self._folder / "rabbitmq"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        environ = self._environ(home)
        try:
            # Started here, or the node would start one of its own that outlives it.
            epmd = Child([shutil.which("epmd") or "epmd"], home / "epmd.log", environ)
            self._children.append(epmd)
            epmd.wait_for_port(f"127.0.0.1:{environ['ERL_EPMD_PORT']}")
            node = Child([self._script()], home / "node.log", environ)
            self._children.append(node)
            node.wait_for_port(self.address, PATIENCE)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _environ(self, home: Path) -> dict[str, str]:
        (home / "enabled_plugins").write_text("[].\n")
        (home / "rabbitmq.conf").write_text("log.console = false\nloopback_users.guest = true\n")
        port = self.address.rsplit(":", 1)[1]
        return {
            "HOME": str(home),
            "RABBITMQ_NODENAME": f"bench{os.getpid()}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": port,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
        }

    @staticmethod
    def _script() -> str:
        for script in SCRIPTS:
            if os.access(script, os.X_OK):
                return script
        return "rabbitmq-server"

    def __exit__(self, *exc_info: object) -> None:
        while self._children:
            self._children.pop().stop()

    def pids(self) -> list[int]:
        return [pid for child in self._children for pid in child.pids()]
