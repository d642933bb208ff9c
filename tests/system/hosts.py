"""Hosts on this machine: network namespaces that a switch connects. Needs root and iproute2."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import uuid
from typing import Any

from tests.system.processes import PATIENCE, Process, Stage

#: An address of the link layer that nobody has: frames that are sent there are lost.
NOBODY = "02:00:00:00:de:ad"


def run(*command: str) -> None:
    """Raises CalledProcessError with what the command said."""
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)


def ip(namespace: str, *commands: str) -> None:
    """Run commands of `ip` in a namespace ("": that of this process). AssertionError with what it said."""
    command = ("ip", *(("-n", namespace) if namespace else ()), "-batch", "-")
    text = "\n".join(commands) + "\n"
    ended = subprocess.run(command, input=text, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 0, f"{' '.join(command)} said {ended.stderr!r} of {text!r}"


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
    try:
        run("ip", "-n", name, "link", "add", "probe", "type", "bridge")
        run("ip", "-n", name, "link", "add", "one", "type", "veth", "peer", "name", "other")
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
        return f"this kernel has no bridge or no veth devices: {getattr(exc, 'stderr', exc)}"
    finally:
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
    """One namespace: `prefix` before a command runs it there. Its cable ends at `port` of a `bridge` of the switch."""

    def __init__(self, name: str, switch: str, number: int, bridge: str, address: str) -> None:
        #: As it stands in a URL.
        self.host = f"[{address}]" if ":" in address else address
        self.name, self.number, self.address, self.bridge = name, number, address, bridge
        # Tests of anything but keys trust this network.
        self.prefix = ("ip", "netns", "exec", name, "env", "ZMQSERVICES_INSECURE=true")
        self.device, self.port, self._switch = "wire0", f"port{number}", switch
        self._delay: Process | None = None

    def unplug(self) -> None:
        """The cable is pulled at the switch: nobody is told, nothing is refused, packets are just gone."""
        run("ip", "-n", self._switch, "link", "set", self.port, "nomaster")

    def plug(self) -> None:
        run("ip", "-n", self._switch, "link", "set", self.port, "master", self.bridge)

    def add_address(self) -> str:
        """One more of IPv4; what it is."""
        assert ":" not in self.address and self.number < 10, f"{self.address} has no free neighbour"
        address = f"{self.address}0"
        ip(self.name, f"address add {address}/24 dev {self.device}")
        return address

    def lose_address(self) -> None:
        """The address that it had from the beginning is gone, and whatever is bound to it is reached no more."""
        ip(self.name, f"address delete {self.address}/24 dev {self.device}")

    def lose_packets_to(self, other: Host) -> None:
        """From now on nothing that this host sends reaches the other. What the other sends arrives."""
        family = "-6" if ":" in other.address else "-4"
        run(
            *("ip", family, "-n", self.name, "neighbour", "replace", other.address),
            *("lladdr", NOBODY, "dev", self.device, "nud", "permanent"),
        )

    def reach(self, other: Host) -> None:
        """The end of `lose_packets_to`."""
        family = "-6" if ":" in other.address else "-4"
        run("ip", family, "-n", self.name, "neighbour", "delete", other.address, "dev", self.device)

    def delay(self, stage: Stage, seconds: float) -> None:
        """Each packet to and from this host takes that much longer; see `delayed_wire`."""
        assert self._delay is None, f"{self.name} has a delay already"
        ends = (f"in{self.number}", f"out{self.number}")
        ip(
            self._switch,
            f"link add {ends[0]} type veth peer name {ends[1]}",
            f"link set {ends[1]} master {self.bridge} up",
            f"link set {ends[0]} up",
        )
        command = ["ip", "netns", "exec", self._switch, sys.executable, "-m", "tests.system.delayed_wire"]
        process = stage.start(f"wire-{self.number}", [*command, self.port, ends[0], str(seconds)])
        process.has_said("carries")
        self._delay = process
        # Between its taking over and this, packets come twice; TCP does not mind.
        self.unplug()

    def hurry(self) -> None:
        """The end of `delay`."""
        assert self._delay is not None, f"{self.name} has no delay"
        self.plug()
        self._delay.kill()
        self._delay.wait(PATIENCE)
        self._delay = None
        run("ip", "-n", self._switch, "link", "delete", f"in{self.number}")


class Hosts:
    """`with Hosts(5) as hosts`: gone after the block, whatever is left in them.

    `left`: so many of them are at a switch of their own, and a cable goes from there to the others' (`split`, `join`).
    `ipv6`: with such addresses alone. `with_this`: the namespace of this process is at the switch as well.
    """

    def __init__(self, count: int, left: int = 0, ipv6: bool = False, with_this: bool = False) -> None:
        self._tag = uuid.uuid4().hex[:6]
        # As addresses are written, without leading zeros, and never all zeros.
        one, two = int(self._tag[:2], 16), int(self._tag[2:4], 16)
        self._subnet = f"fd00:{one * 256 + two or 1:x}::" if ipv6 else f"10.{one}.{two}."
        self._length = "64 dev {} nodad" if ipv6 else "24 dev {}"
        self._switch = f"zs-{self._tag}-switch"
        self._with_this = with_this
        #: Where the hosts reach this process, if it is at the switch.
        self.this_address = f"{self._subnet}{'fe' if ipv6 else '254'}"
        self.hosts = tuple(
            Host(
                f"zs-{self._tag}-{number}", self._switch, number,
                "left" if number <= left else "right", f"{self._subnet}{number}",
            )
            for number in range(1, count + 1)
        )  # fmt: skip

    def __enter__(self) -> tuple[Host, ...]:
        try:
            for name in (self._switch, *(host.name for host in self.hosts)):
                run("ip", "netns", "add", name)
            self._lay_switch()
            self._lay_cables()
        except BaseException:
            self.__exit__()
            raise
        return self.hosts

    def _lay_switch(self) -> None:
        ip(
            self._switch,
            *(f"link add {side} type bridge mcast_snooping 0" for side in ("left", "right")),
            *(f"link set {side} up" for side in ("left", "right")),
            "link add middle-l type veth peer name middle-r",
            "link set middle-l master left up",
            "link set middle-r master right up",
        )

    def _lay_cables(self) -> None:
        for host in self.hosts:
            ip(
                host.name,
                f"link add {host.device} type veth peer name {host.port} netns {self._switch}",
                # No wait for somebody else who may have the address: there is nobody.
                f"address add {host.address}/{self._length.format(host.device)}",
                "link set lo up",
                f"link set {host.device} up",
            )
        ip(self._switch, *(f"link set {host.port} master {host.bridge} up" for host in self.hosts))
        if self._with_this:
            device = f"zs{self._tag}"
            ip(
                "",
                f"link add {device} type veth peer name this netns {self._switch}",
                f"address add {self.this_address}/{self._length.format(device)}",
                f"link set {device} up",
            )
            ip(self._switch, "link set this master right up")

    def split(self) -> None:
        """The hosts at the left switch and the others, this process's among them, are cut off from each other."""
        ip(self._switch, "link set middle-l nomaster", "link set middle-r nomaster")

    def join(self) -> None:
        ip(self._switch, "link set middle-l master left", "link set middle-r master right")

    def __exit__(self, *exc_info: Any) -> None:
        for name in (*(host.name for host in self.hosts), self._switch):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=20)
