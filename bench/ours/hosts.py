"""Many instances of the service in one process, each with a door of its own: `python -m bench.ours.hosts URL PORT...`.

What a client cannot tell from as many processes, so that a thousand instances fit on one machine.
"""

from __future__ import annotations

import sys


def main() -> None:
    import gevent

    from bench.ours.service import Adder
    from zmqservices.containers import ServiceContainer

    url, ports = sys.argv[1], sys.argv[2:]
    containers = []
    for port in ports:
        # Another address is another place in the cluster: see `cluster.node`.
        container = ServiceContainer(Adder, {"DIRECTORY": url, "BIND_ADDRESS": f"tcp://127.0.0.1:{port}"})
        container.start()
        containers.append(container)
    print("ready", flush=True)
    gevent.get_hub().join()


if __name__ == "__main__":
    main()
