"""The findings of `zmqservices check`: how each fact is judged, and what to do about it. Pure: facts in, findings out.

Rule 1: a finding that is not ok says what to do.
Rule 2: an error keeps services from working now. A warning may do so later, or in other circumstances.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

OK, WARNING, ERROR = "ok", "warning", "error"

#: The most names of services that a finding lists.
NAMED = 10
#: Two clocks that differ by more seconds than these are worth a warning, or an error.
SKEW, MUCH_SKEW = 1.0, 30.0

#: A process that may open fewer files than these is an error, or a warning.
FEWEST_FILES, FEW_FILES = 256, 4096

#: Bytes that must be free on the disk of the journals.
LEAST_SPACE = 100 * 1024 * 1024

#: A certificate that ends within this many days is worth a warning.
RENEW_WITHIN = 30.0

#: File systems that lose their files at a restart, and those over a network, whose locks SQLite cannot rely on.
IN_MEMORY = frozenset(("tmpfs", "ramfs"))
OVER_NETWORK = frozenset("nfs nfs4 cifs smb3 smbfs 9p afs ceph fuse.sshfs glusterfs fuse.glusterfs".split())


class Finding(NamedTuple):
    """One line: which check, its level (OK, WARNING, ERROR), what was found, and what to do about it ("" if it is ok)."""

    check: str
    level: str
    text: str
    mend: str = ""


def of_settings(error: str, unknown: Mapping[str, str], source: str) -> Iterable[Finding]:
    """Judge the settings.

    `error`: why they cannot be read. `unknown`: for each key that looks mistyped, the key that it resembles.
    """
    if error:
        yield Finding("settings", ERROR, error, "correct the setting")
    for key, meant in unknown.items():
        yield Finding("settings", WARNING, f"{key!r:.100} is not known", f"write {meant!r} if that is meant, or leave it out")
    if not error and not unknown:
        yield Finding("settings", OK, f"{source} can be read")


def of_security(is_closed: bool, is_insecure: bool) -> Finding:
    """`is_closed`: SECURITY is set. `is_insecure`: INSECURE is set, so services may listen beyond this host without keys."""
    if is_closed:
        return Finding("security", OK, "peers are known by their certificates, and connections are encrypted")
    if is_insecure:
        mend = "make keys with `zmqservices keys`, and set SECURITY; see docs/security.rst"
        return Finding("security", WARNING, "INSECURE is set: everybody who reaches this host may call its services", mend)
    return Finding("security", OK, "without keys, nothing listens beyond this host")


def of_extra(extra: str, module: str, why: str, is_installed: bool) -> Finding:
    """Judge a library. `why`: the setting that needs it."""
    if is_installed:
        return Finding("extras", OK, f"{module} is installed; {why} needs it")
    return Finding("extras", ERROR, f"{module} is not installed, and {why} needs it", f"pip install 'zmqservices[{extra}]'")


def of_registry(address: str, problem: str, others_answer: bool) -> Finding:
    """One of the servers of the directory. `problem`: why it cannot be connected to."""
    if not problem:
        return Finding("directory", OK, f"{address} accepts connections")
    mend = "start the server there, or correct DIRECTORY; a firewall may be between"
    if others_answer:
        text = f"{address} cannot be reached: {problem}"
        return Finding("directory", WARNING, text, f"{mend}. Other servers of the directory answer meanwhile")
    return Finding("directory", ERROR, f"{address} cannot be reached: {problem}", mend)


def of_directory(url: str, seconds: float | None, instances: int, is_hosted_here: bool, is_closed: bool) -> Finding:
    """`seconds` until the directory answered, None if it did not. `is_hosted_here`: a process of this machine would host it."""
    if seconds is not None:
        return Finding("directory", OK, f"{url} answered within {seconds * 1000:.0f} ms and lists {instances} instances")
    if is_hosted_here:
        return Finding("directory", WARNING, f"nothing hosts {url} now", "start a service: the first service hosts the directory")
    needed = "a registry with the same authority as this node's certificate" if is_closed else "a registry"
    return Finding("directory", ERROR, f"{url} does not answer", f"check that {needed} runs there, and read its log")


def of_node(address: str, services: str, problem: str) -> Finding:
    """Judge a node that did not answer. `problem`: the reason."""
    if problem.startswith("Forbidden"):
        mend = "run the checks with a certificate that has --administers node:operators"
    else:
        mend = f"run `zmqservices health {services.partition(',')[0]}`, and read the log of the service"
    return Finding("nodes", WARNING, f"{address} ({services}) does not answer: {problem:.200}", mend)


def of_answers(services: Iterable[str], count: int) -> Finding:
    """Say that `count` nodes answer, with the names of their services."""
    names = sorted(set(services))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return Finding("nodes", OK, f"{_nodes(count)} answer{'s' * (count == 1)} ({', '.join(names[:NAMED])}{more})")


def of_clocks(count: int, within: float) -> Finding:
    """Say that the clocks of `count` nodes agree with this one to within so many seconds."""
    which = "the clock of 1 node agrees" if count == 1 else f"the clocks of {count} nodes agree"
    return Finding("clock", OK, f"{which} with this host's to within {within:.1f} s")


def of_certificates(count: int, days_left: float) -> Finding:
    """Say that the certificates of `count` nodes are valid for at least so many days."""
    which = "the certificate of 1 node is" if count == 1 else f"the certificates of {count} nodes are"
    return Finding("certificates", OK, f"{which} valid for at least {days_left:.0f} more days")


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def clock_error(skew: float, uncertainty: float) -> float:
    """The seconds to within which two clocks are known to agree; see `of_clock`."""
    return max(abs(skew), uncertainty, 0.1)


def of_clock(peer: str, skew: float, uncertainty: float) -> Finding:
    """`skew`: seconds by which the peer's clock is ahead of this one, give or take `uncertainty` seconds."""
    surely = abs(skew) - uncertainty
    if surely <= SKEW:
        within = clock_error(skew, uncertainty)
        return Finding("clock", OK, f"the clock of {peer} agrees with this host's to within {within:.1f} s")
    level = ERROR if surely > MUCH_SKEW else WARNING
    which = "ahead of" if skew > 0 else "behind"
    text = f"the clock of {peer} is {abs(skew):.1f} s {which} this host's"
    return Finding("clock", level, text, "synchronize both clocks with NTP")


def of_port(setting: str, address: str, problem: str, holder: str, runs_here: bool) -> Finding:
    """`holder`: the service of this host that the directory lists at that port. `runs_here`: some service runs on this host."""
    if not problem:
        return Finding("ports", OK, f"{setting} {address} is free")
    if holder:
        return Finding("ports", OK, f"{setting} {address} is used by {holder}, which runs here")
    if "in use" in problem and runs_here:
        mend = f"if none of the services here uses it, set another {setting}"
        return Finding("ports", WARNING, f"{setting} {address} is in use", mend)
    mend = f"end the program that uses it, or set another {setting}"
    if "denied" in problem:
        mend = f"set {setting} to a port from 1024 up, which every user may bind"
    return Finding("ports", ERROR, f"{setting} {address} cannot be bound: {problem}", mend)


def of_advertised(address: str, problem: str, is_loopback: bool, has_far_registry: bool) -> Finding:
    """Judge the address that other processes are told to connect to.

    `problem`: why this host cannot reach itself there. `has_far_registry`: some server of the directory is on another host.
    """
    if problem:
        mend = "set ADVERTISE_ADDRESS to an address at which others reach this host, or BIND_ADDRESS to an address of this host"
        return Finding("address", ERROR, f"this host announces {address}, and cannot reach itself there: {problem}", mend)
    if is_loopback and has_far_registry:
        mend = "set BIND_ADDRESS or ADVERTISE_ADDRESS to an address that other hosts can reach"
        return Finding("address", ERROR, f"this host announces {address}, which no other host can reach", mend)
    return Finding("address", OK, f"this host announces {address}, and can reach itself there")


def of_descriptors(soft: int, hard: int, nodes: int) -> Finding:
    """Judge the limits of open files; -1 is no limit. `zmqservices run` raises the soft limit to the hard one.

    `nodes`: the most nodes that one process is connected to.
    """
    usable = float("inf") if hard < 0 else hard
    now, then = ("any number of" if one < 0 else str(one) for one in (soft, hard))
    text = f"this shell may open {now} files, and a service {then} files"
    mend = (
        "raise the limit: `ulimit -Hn 65536` in a shell, LimitNOFILE=65536 in a systemd unit, "
        "--ulimit nofile=65536 for a container"
    )
    # Half of them are for links to nodes; the rest are for clients, files, and ZeroMQ.
    if usable < FEWEST_FILES or usable // 2 < nodes:
        return Finding("files", ERROR, f"{text}; {nodes} nodes are listed", mend)
    if usable < FEW_FILES:
        return Finding("files", WARNING, text, mend)
    return Finding("files", OK, text)


def of_space(folder: str, free: int, wanted: int) -> Finding:
    """Judge the disk of the journals. `free`: bytes. `wanted`: bytes that the journal of one source may take."""
    text = f"{_size(free)} are free in {folder}"
    if free < LEAST_SPACE:
        return Finding("journal", ERROR, text, "free some space, or set JOURNAL_FOLDER to another disk")
    if free < wanted:
        mend = "free some space, or set JOURNAL_MAX_BYTES to less: a full disk refuses events"
        return Finding("journal", WARNING, f"{text}, and each journal may take {_size(wanted)}", mend)
    return Finding("journal", OK, text)


def of_permissions(folder: str, is_writable: bool, is_open: bool) -> Finding:
    """Judge the folder of the journals. `is_open`: other users may list its files."""
    if not is_writable:
        mend = "change its owner, or set JOURNAL_FOLDER to another one"
        return Finding("journal", ERROR, f"this user may not write into {folder}", mend)
    if is_open:
        mend = f"chmod 700 {folder}: its files have the names of services and groups"
        return Finding("journal", WARNING, f"other users may list the files in {folder}", mend)
    return Finding("journal", OK, f"this user may write into {folder}")


def of_file_system(folder: str, kind: str) -> Finding:
    """Judge the file system of the journals. `kind`: its type as mount(8) names it; "" if it is not known."""
    if kind in IN_MEMORY:
        mend = "set JOURNAL_FOLDER to a folder on a disk: a restart of this host would lose all waiting events"
        return Finding("journal", WARNING, f"{folder} is in memory ({kind})", mend)
    if kind in OVER_NETWORK:
        mend = "set JOURNAL_FOLDER to a local disk: SQLite relies on its locks and on its order of writes"
        return Finding("journal", WARNING, f"{folder} is on a file system over the network ({kind})", mend)
    return Finding("journal", OK, f"{folder} is on a local file system" + (f" ({kind})" if kind else ""))


def of_versions(own: str, nodes: Mapping[str, int]) -> Finding:
    """Judge the versions that nodes run. `own`: the version of this host. `nodes`: how many nodes run each version."""
    if set(nodes) <= {own}:
        return Finding("versions", OK, f"all nodes that answered run zmqservices {own or '(not installed)'}, as this host does")
    found = ", ".join(f"{version or '(not installed)'} on {count}" for version, count in sorted(nodes.items()))
    text = f"nodes run zmqservices {found}; this host has {own or '(not installed)'}"
    return Finding("versions", WARNING, text, "run one version everywhere; two neighbouring versions are fine during an upgrade")


def of_certificate(name: str, days_left: float) -> Finding:
    """Judge the certificate of this node, or of a node that answered."""
    mend = f"run `zmqservices keys renew {name}`, and copy the new certificate to the node"
    if days_left <= 0:
        return Finding("certificates", ERROR, f"the certificate of {name} ended {-days_left:.1f} days ago", mend)
    if days_left < RENEW_WITHIN:
        return Finding("certificates", WARNING, f"the certificate of {name} ends in {days_left:.1f} days", mend)
    return Finding("certificates", OK, f"the certificate of {name} is valid for {days_left:.0f} more days")


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
