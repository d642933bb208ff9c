"""A client in a process of its own: `python -m tests.system.remote CONFIG` makes the calls that it reads.

In: one JSON line per call, {"service", "method", "args", "timeout"}. Out: {"value" or "error" with "text", "seconds"}.
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import Any

from tests.system.processes import PATIENCE, Process, Stage


class Remote:
    """The other end: what a test says to such a process."""

    def __init__(self, process: Process) -> None:
        self.process = process

    @classmethod
    def start(
        cls, stage: Stage, config: dict[str, Any], prefix: tuple[str, ...] = (), environment: dict[str, str] | None = None
    ) -> Remote:
        command = [*prefix, sys.executable, "-m", "tests.system.remote", json.dumps(config)]
        return cls(stage.start("client", command, environment, piped=True))

    def begin(self, name: str, *args: Any, timeout: float = 30) -> None:
        """Make a call; `end` waits for what becomes of it."""
        service, _, method = name.partition(".")
        line = json.dumps({"service": service, "method": method, "args": args, "timeout": timeout})
        stdin = self.process.popen.stdin
        assert stdin is not None
        stdin.write(line.encode() + b"\n")
        stdin.flush()

    def end(self, timeout: float = PATIENCE) -> dict[str, Any]:
        stdout = self.process.popen.stdout
        assert stdout is not None
        assert select.select([stdout], [], [], timeout)[0], f"the client has not answered within {timeout:g} s"
        line = stdout.readline()
        assert line, "the client has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def call(self, name: str, *args: Any, timeout: float = 30) -> dict[str, Any]:
        self.begin(name, *args, timeout=timeout)
        return self.end(timeout + PATIENCE)


def main() -> None:
    from zmqservices.standalone.rpc import ClusterRpcProxy

    with ClusterRpcProxy(json.loads(sys.argv[1])) as cluster:
        for line in sys.stdin:
            asked = json.loads(line)
            method = getattr(cluster[asked["service"]], asked["method"]).with_timeout(asked["timeout"])
            began = time.monotonic()
            try:
                answer = {"value": method(*asked["args"])}
            except Exception as exc:
                answer = {"error": type(exc).__name__, "text": str(exc)}
            print(json.dumps({**answer, "seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
