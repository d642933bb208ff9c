"""What `zmqservices check` says of what it found. Pure: facts in, findings out.

Rule 1: a finding that is not ok says what to do.
Rule 2: an error keeps services from working. A warning will, later or in other circumstances.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

OK, WARNING, ERROR = "ok", "warning", "error"

#: Seconds by which the clocks of two hosts may differ before it is worth a warning, and before it is an error.
SKEW, MUCH_SKEW = 1.0, 30.0

#: File descriptors of one process: fewer than that are an error, or a warning.
FEWEST_FILES, FEW_FILES = 256, 4096

#: Bytes that must be free where journals are.
LEAST_SPACE = 100 * 1024 * 1024

#: Days that a certificate must hold before it is worth a warning.
RENEW_WITHIN = 30.0

#: File systems that forget, and those over a network, whose locks SQLite cannot rely on.
IN_MEMORY = frozenset(("tmpfs", "ramfs"))
OVER_NETWORK = frozenset("nfs nfs4 cifs smb3 smbfs 9p afs ceph fuse.sshfs glusterfs fuse.glusterfs".split())


class Finding(NamedTuple):
    """One line: which check, its level (OK, WARNING, ERROR), what was found, and what to do about it ("" if it is ok)."""

    check: str
    level: str
    text: str
    mend: str = ""


def of_settings(error: str, unknown: Mapping[str, str], source: str) -> Iterable[Finding]:
    """`error`: why they cannot be read. `unknown`: keys that look mistyped, and the key that was probably meant."""
    if error:
        yield Finding("settings", ERROR, error, "correct the setting")
    for key, meant in unknown.items():
        yield Finding("settings", WARNING, f"{key!r:.100} is not known", f"write {meant!r} if that is meant, or leave it out")
    if not error and not unknown:
        yield Finding("settings", OK, f"{source} can be read")


def of_security(is_closed: bool, is_insecure: bool) -> Finding:
    """`is_closed`: SECURITY is set. `is_insecure`: INSECURE is, and the process may listen beyond this host without keys."""
    if is_closed:
        return Finding("security", OK, "peers are known by their certificates, and connections are encrypted")
    if is_insecure:
        mend = "make keys with `zmqservices keys`, and set SECURITY; see docs/security.rst"
        return Finding("security", WARNING, "INSECURE is set: whoever reaches this host may call its services", mend)
    return Finding("security", OK, "without keys, nothing listens beyond this host")


def of_extra(extra: str, module: str, why: str, is_installed: bool) -> Finding:
    """`why`: the setting that needs it."""
    if is_installed:
        return Finding("extras", OK, f"{module} is installed, which {why} needs")
    return Finding("extras", ERROR, f"{module} is not installed, and {why} needs it", f"pip install 'zmqservices[{extra}]'")


def of_registry(address: str, problem: str, others_answer: bool) -> Finding:
    """One of the servers of the directory. `problem`: why it cannot be connected to."""
    if not problem:
        return Finding("directory", OK, f"{address} accepts connections")
    mend = "start it, or correct DIRECTORY; a firewall may be between"
    if others_answer:
        return Finding("directory", WARNING, f"{address} cannot be reached: {problem}", f"{mend}. Others answer meanwhile")
    return Finding("directory", ERROR, f"{address} cannot be reached: {problem}", mend)


def of_directory(url: str, seconds: float | None, instances: int, is_hosted_here: bool, is_closed: bool) -> Finding:
    """`seconds` until it answered, None if it did not. `is_hosted_here`: a process of this machine would host it."""
    if seconds is not None:
        return Finding("directory", OK, f"{url} answered within {seconds * 1000:.0f} ms, and lists {instances} instances")
    if is_hosted_here:
        return Finding("directory", WARNING, f"nothing hosts {url} now", "start a service: the first one hosts the directory")
    needed = "a registry of this cluster, which believes this node's certificate" if is_closed else "a registry"
    return Finding("directory", ERROR, f"{url} does not answer", f"look at the log of what listens there; it must be {needed}")


def of_node(address: str, services: str, problem: str) -> Finding:
    """A node that was asked."""
    if not problem:
        return Finding("nodes", OK, f"{address} ({services}) answers")
    if problem.startswith("Forbidden"):
        mend = "for these checks, use a certificate with --administers node:operators"
    else:
        mend = f"`zmqservices health {services.partition(',')[0]}` tells more; look at its log"
    return Finding("nodes", WARNING, f"{address} ({services}) does not answer: {problem:.200}", mend)


def of_clock(peer: str, skew: float, uncertainty: float) -> Finding:
    """`skew`: seconds that the peer's clock is ahead of this one, known to `uncertainty` seconds."""
    surely = abs(skew) - uncertainty
    if surely <= SKEW:
        return Finding("clock", OK, f"that of {peer} is like this one's, within {max(abs(skew), uncertainty):.1f} s")
    level = ERROR if surely > MUCH_SKEW else WARNING
    which = "ahead of" if skew > 0 else "behind"
    return Finding("clock", level, f"that of {peer} is {abs(skew):.1f} s {which} this one's", "let NTP set both clocks")


def of_port(setting: str, address: str, problem: str, holder: str, runs_here: bool) -> Finding:
    """`holder`: the service of this host that is listed at that port. `runs_here`: services run on this host."""
    if not problem:
        return Finding("ports", OK, f"{setting} {address} is free")
    if holder:
        return Finding("ports", OK, f"{setting} {address} is that of {holder}, which runs here")
    if "in use" in problem and runs_here:
        mend = f"if it is not that of the services that run here, set another {setting}"
        return Finding("ports", WARNING, f"{setting} {address} is in use", mend)
    mend = "ports from 1024 up are open to everybody" if "denied" in problem else f"end what uses it, or set another {setting}"
    return Finding("ports", ERROR, f"{setting} {address} cannot be bound: {problem}", mend)


def of_advertised(address: str, problem: str, is_loopback: bool, has_far_registry: bool) -> Finding:
    """`problem`: why this host cannot reach itself there. `has_far_registry`: some server of the directory is on another host."""
    if problem:
        mend = "give ADVERTISE_ADDRESS an address at which this host is reached, or BIND_ADDRESS one that it has"
        return Finding("address", ERROR, f"others are told {address}, at which this host does not reach itself: {problem}", mend)
    if is_loopback and has_far_registry:
        mend = "set BIND_ADDRESS or ADVERTISE_ADDRESS to an address that they can reach"
        return Finding("address", ERROR, f"others are told {address}, which no other host can reach", mend)
    return Finding("address", OK, f"others are told {address}, at which this host reaches itself")


def of_descriptors(soft: int, hard: int, nodes: int) -> Finding:
    """Limits of open files; -1 is none. `zmqservices run` raises the soft one. A process is connected to `nodes` at most."""
    usable = float("inf") if hard < 0 else hard
    now, then = ("any number" if one < 0 else str(one) for one in (soft, hard))
    text = f"open files: {now} are allowed here, and {then} to services, which raise the limit"
    mend = "raise it: `ulimit -Hn 65536`, LimitNOFILE=65536 of the unit, --ulimit nofile=65536 of the container"
    # Half of them are for links to nodes; the others for clients, files, and ZeroMQ.
    if usable < FEWEST_FILES or usable // 2 < nodes:
        return Finding("files", ERROR, f"{text}; {nodes} nodes are listed", mend)
    if usable < FEW_FILES:
        return Finding("files", WARNING, text, mend)
    return Finding("files", OK, text)


def of_space(folder: str, free: int, wanted: int) -> Finding:
    """`wanted`: bytes that the journal of one source may take."""
    text = f"{_size(free)} are free in {folder}"
    if free < LEAST_SPACE:
        return Finding("journal", ERROR, text, "free some space, or set JOURNAL_FOLDER to another disk")
    if free < wanted:
        mend = "free some space, or set JOURNAL_MAX_BYTES to less: a full disk refuses events"
        return Finding("journal", WARNING, f"{text}, and each journal may take {_size(wanted)}", mend)
    return Finding("journal", OK, text)


def of_permissions(folder: str, is_writable: bool, is_open: bool) -> Finding:
    """`is_open`: other users may look into it."""
    if not is_writable:
        mend = "change its owner, or set JOURNAL_FOLDER to another one"
        return Finding("journal", ERROR, f"this user may not write into {folder}", mend)
    if is_open:
        mend = f"chmod 700 {folder}: the names of services and groups can be read there"
        return Finding("journal", WARNING, f"other users may look into {folder}", mend)
    return Finding("journal", OK, f"{folder} can be written")


def of_file_system(folder: str, kind: str) -> Finding:
    """`kind`: as mount(8) names it; "" where it is not known."""
    if kind in IN_MEMORY:
        mend = "set JOURNAL_FOLDER to a disk, if events are to outlive this host's next start"
        return Finding("journal", WARNING, f"{folder} is in memory ({kind})", mend)
    if kind in OVER_NETWORK:
        mend = "set JOURNAL_FOLDER to a local disk: SQLite needs its locks and its order of writes"
        return Finding("journal", WARNING, f"{folder} is on a file system over the network ({kind})", mend)
    return Finding("journal", OK, f"{folder} is on a local file system" + (f" ({kind})" if kind else ""))


def of_versions(own: str, nodes: Mapping[str, int]) -> Finding:
    """The number of nodes by version."""
    if set(nodes) <= {own}:
        return Finding("versions", OK, f"all nodes that answered run {own or 'no installed version'}, as this host")
    found = ", ".join(f"{version or '(not installed)'} on {count}" for version, count in sorted(nodes.items()))
    text = f"nodes run zmqservices {found}; this host has {own or '(not installed)'}"
    return Finding("versions", WARNING, text, "bring all to one version; between two neighbouring ones an upgrade is in order")


def of_certificate(name: str, days_left: float) -> Finding:
    """The certificate of this node, or of one that was asked."""
    mend = f"`zmqservices keys renew {name}` makes another; then start the node again"
    if days_left <= 0:
        return Finding("certificates", ERROR, f"that of {name} ended {-days_left:.1f} days ago", mend)
    if days_left < RENEW_WITHIN:
        return Finding("certificates", WARNING, f"that of {name} ends in {days_left:.1f} days", mend)
    return Finding("certificates", OK, f"that of {name} holds for {days_left:.0f} days")


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
