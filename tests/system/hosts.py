"""Two hosts on this machine: network namespaces with a cable between them. Needs root and iproute2."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import uuid
from typing import Any


def run(*command: str) -> None:
    """Raises CalledProcessError with what the command said."""
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)


def why_not() -> str:
    """Why there can be no namespaces here; "" when there can."""
    if shutil.which("ip") is None:
        return "there is no `ip` command; install iproute2"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"probe-{uuid.uuid4().hex[:8]}"
    try:
        run("ip", "netns", "add", name)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
        return f"network namespaces cannot be made: {getattr(exc, 'stderr', exc)}"
    run("ip", "netns", "delete", name)
    return ""


def why_no_ipv6() -> str:
    """Why hosts here can have no IPv6 addresses; "" when they can."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as exc:
        return f"THIS KERNEL HAS NO IPV6 ({exc})"
    return ""


class Host:
    """One namespace: `prefix` before a command runs it there."""

    def __init__(self, name: str, device: str, address: str) -> None:
        #: As it stands in a URL.
        self.host = f"[{address}]" if ":" in address else address
        self.name, self.device, self.address = name, device, address
        self.prefix = ("ip", "netns", "exec", name)

    def unplug(self) -> None:
        """The cable is pulled: nobody is told, nothing is refused, packets are just gone."""
        if ":" in self.address:
            # A device that goes down loses its IPv6 addresses unless told to keep them.
            run(*self.prefix, "sysctl", "-qw", f"net.ipv6.conf.{self.device}.keep_addr_on_down=1")
        run("ip", "-n", self.name, "link", "set", self.device, "down")

    def plug(self) -> None:
        run("ip", "-n", self.name, "link", "set", self.device, "up")


class TwoHosts:
    """`with TwoHosts() as (left, right)`; gone after the block, whatever is left in them. `ipv6`: with that alone."""

    def __init__(self, ipv6: bool = False) -> None:
        self.ipv6 = ipv6

    def __enter__(self) -> tuple[Host, Host]:
        tag = uuid.uuid4().hex[:6]
        # As addresses are written, without leading zeros, and never all zeros.
        subnet = f"fd00:{int(tag[:4], 16) or 1:x}::" if self.ipv6 else f"10.{int(tag[:2], 16)}.{int(tag[2:4], 16)}."
        self.hosts = tuple(Host(f"zs-{tag}-{side}", f"zs{tag}{side}", f"{subnet}{side}") for side in (1, 2))
        left, right = self.hosts
        try:
            for host in self.hosts:
                run("ip", "netns", "add", host.name)
            run(
                *("ip", "link", "add", left.device, "netns", left.name, "type", "veth"),
                *("peer", "name", right.device, "netns", right.name),
            )
            for host in self.hosts:
                # No wait for somebody else who may have the address: there is nobody.
                length = ("64", "nodad") if self.ipv6 else ("24",)
                run("ip", "-n", host.name, "address", "add", f"{host.address}/{length[0]}", "dev", host.device, *length[1:])
                run("ip", "-n", host.name, "link", "set", "lo", "up")
                host.plug()
        except BaseException:
            self.__exit__()
            raise
        return left, right

    def __exit__(self, *exc_info: Any) -> None:
        for host in self.hosts:
            subprocess.run(["ip", "netns", "delete", host.name], capture_output=True, timeout=20)
