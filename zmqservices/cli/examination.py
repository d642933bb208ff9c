"""Collects the facts that `zmqservices check` judges, about this host, the directory and the nodes."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import shutil
import socket
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmqservices import configuration, constants
from zmqservices.cli import diagnosis
from zmqservices.cli.alive import DEAD
from zmqservices.cli.diagnosis import Finding
from zmqservices.cli.listing import directory_of, nobody_hosts, state_of
from zmqservices.cli.nodes import NodeAnswer, ask, nodes_of
from zmqservices.exceptions import ConfigurationError

if TYPE_CHECKING:
    from discovery import Capabilities, Directory, Seen
    from zmqservices.cluster.settings import Settings

#: The extra that each kind of directory needs, and the modules that the extra installs.
OF_DIRECTORIES = {
    "etcd": ("etcd", ("h2",)),
    "zookeeper": ("zookeeper", ("kazoo",)),
    "consul": ("consul", ("h11",)),
    "dns": ("dns", ("dns",)),
    "dns+srv": ("dns", ("dns",)),
}
#: The module that each setting needs, and the extra that installs it.
OF_SETTINGS = {
    constants.SECURITY_CONFIG_KEY: ("cryptography", "security"),
    constants.METRICS_ADDRESS_CONFIG_KEY: ("prometheus_client", "prometheus"),
    constants.OPENAPI_CONFIG_KEY: ("pydantic", "schema"),
    constants.OTEL_CONFIG_KEY: ("opentelemetry.sdk", "otel"),
}

_SCHEME = re.compile(r"(?:^|,\s*)([a-z][a-z0-9+.-]*):")


def examine(settings: dict[str, Any], source: str, timeout: float) -> Iterator[Finding]:
    """Yield all findings, each as soon as it is known.

    `source`: where the settings come from. `timeout`: seconds in which each peer must answer.
    """
    from discovery import DirectoryError
    from zmqservices.cluster.settings import Settings

    extras = list(of_extras(settings))
    yield from extras
    try:
        read, problem = Settings.read(settings), ""
    except ConfigurationError as error:
        read, problem = None, str(error)
    yield from diagnosis.of_settings(problem, configuration.unknown_keys(settings), source)
    yield of_descriptors(0)
    if read is None:
        return
    yield diagnosis.of_security(read.keys is not None, configuration.insecure(settings))
    yield from of_journals(read.events.folder, read.events.max_bytes)
    if read.keys is not None:
        yield diagnosis.of_certificate(read.keys.certificate.name, read.keys.days_left(time.time()))
    if any(one.level == diagnosis.ERROR for one in extras):
        return  # The directory could not be opened either, and would report the same error.
    try:
        directory = directory_of(settings)
    except DirectoryError as error:
        yield Finding("directory", diagnosis.ERROR, str(error), "correct DIRECTORY")
        return
    yield from _of_cluster(settings, read, directory, timeout)


def _of_cluster(settings: dict[str, Any], read: Settings, directory: Directory, timeout: float) -> Iterator[Finding]:
    began = time.monotonic()
    directory.start()
    try:
        yield from of_directory(directory, read, timeout, began)
        seen = list(directory.view().records.values())
    finally:
        directory.stop()
    yield of_advertised(read, directory.capabilities, timeout)
    yield from of_ports(settings, seen)
    alive = [one for one in seen if not one.suspect and state_of(one) != DEAD]
    answers = ask(settings, nodes_of(alive, None), "info", timeout)
    yield from of_nodes(answers)
    if len(alive) > diagnosis.FEWEST_FILES // 2:
        yield of_descriptors(len({one.record.node for one in alive}))


# --- this host ----------------------------------------------------------------------------------------------------------


def of_extras(settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that the libraries are installed that the settings need."""
    url = configuration.directory_url(dict(settings))
    for scheme in dict.fromkeys(_SCHEME.findall(url)):
        if scheme in OF_DIRECTORIES:
            extra, modules = OF_DIRECTORIES[scheme]
            yield from (_of_extra(module, extra, f"DIRECTORY {scheme}:") for module in modules)
    for key, (module, extra) in OF_SETTINGS.items():
        if settings.get(key) or (key == constants.SECURITY_CONFIG_KEY and os.environ.get(constants.SECURITY_ENVIRONMENT_KEY)):
            yield _of_extra(module, extra, key)


def _of_extra(module: str, extra: str, why: str) -> Finding:
    return diagnosis.of_extra(extra, module, why, _is_installed(module))


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # The package of the module is missing.
        return False


def of_descriptors(nodes: int) -> Finding:
    """Check the limits of open files that a service started from here would have. `nodes`: how many nodes are listed."""
    soft, hard = (-1 if one == resource.RLIM_INFINITY else one for one in resource.getrlimit(resource.RLIMIT_NOFILE))
    return diagnosis.of_descriptors(soft, hard, nodes)


def of_journals(folder: str, max_bytes: int) -> Iterator[Finding]:
    """Check the folder of the journals. If it is missing, check the folder in which the first publisher would make it."""
    path = Path(folder)
    existing = next(one for one in (path, *path.parents) if one.is_dir())
    is_open = existing == path and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    yield diagnosis.of_permissions(str(existing), os.access(existing, os.W_OK | os.X_OK), is_open)
    yield diagnosis.of_space(str(existing), shutil.disk_usage(existing).free, max_bytes)
    yield diagnosis.of_file_system(str(existing), file_system_of(existing))


def file_system_of(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system of `path`; "" if the system does not tell."""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    best, found = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        # Spaces and the like are written as \040.
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
        if path.resolve().is_relative_to(point) and len(point) >= best:
            best, found = len(point), after.split()[0]
    return found


def of_ports(settings: Mapping[str, Any], seen: Iterable[Seen]) -> Iterator[Finding]:
    """Check the ports that settings name, except for port 0, which means any free port."""
    here = [one for one in seen if one.record.host == socket.gethostname() and state_of(one) != DEAD]
    for setting, host, port in _wanted_ports(settings):
        problem = problem_of_binding(host, port)
        holder = next((one.record.service for one in here if f":{port}" in _ends_of(one)), "")
        yield diagnosis.of_port(setting, f"{host or '*'}:{port}", problem, holder, bool(here))


def _ends_of(seen: Seen) -> set[str]:
    return {":" + str(address).rstrip("/").rpartition(":")[2] for address in seen.record.endpoints.values()}


def _wanted_ports(settings: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    from zmqservices.observability.binding import parse as metrics_address
    from zmqservices.transport import addresses
    from zmqservices.web.addresses import parse_address

    readers: dict[str, Callable[[Any], tuple[str, int]]] = {
        constants.BIND_ADDRESS_CONFIG_KEY: lambda text: addresses.parse(text, constants.BIND_ADDRESS_CONFIG_KEY),
        constants.EVENTS_BIND_ADDRESS_CONFIG_KEY: lambda text: addresses.parse(text, constants.EVENTS_BIND_ADDRESS_CONFIG_KEY),
        constants.METRICS_ADDRESS_CONFIG_KEY: metrics_address,
        constants.WEB_SERVER_CONFIG_KEY: parse_address,
    }
    for setting, read in readers.items():
        if settings.get(setting) is not None:
            host, port = read(settings[setting])
            if port:
                yield setting, "" if host in addresses.ANY_HOST else host, port


def problem_of_binding(host: str, port: int) -> str:
    """Why nothing can listen there; "" if it can."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            # Binding alone may succeed where another process listens.
            probe.listen(1)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def of_advertised(read: Settings, capabilities: Capabilities, timeout: float) -> Finding:
    """Check the announced address: listen as a node would, at another port, and connect to the address of that."""
    from zmqservices.cluster.node_addresses import NodeAddresses
    from zmqservices.transport import addresses

    known = NodeAddresses(read, capabilities)
    try:
        host, _ = addresses.parse(known.to_bind())
        bound = "" if host in addresses.ANY_HOST else host
        with socket.socket(socket.AF_INET6 if ":" in bound else socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind((bound, 0))
            listener.listen(1)
            address = known.advertised(addresses.join(host, listener.getsockname()[1]), keep_port=True)
            told, port = addresses.parse(address)
            problem = _problem_of_reaching(listener, told, port, timeout)
    except (ConfigurationError, OSError) as error:
        return Finding("address", diagnosis.ERROR, str(error), "correct BIND_ADDRESS or ADVERTISE_ADDRESS")
    is_far = any(not addresses.is_loopback(server) for server, _ in capabilities.servers)
    return diagnosis.of_advertised(told, problem, addresses.is_loopback(told), is_far)


def _problem_of_reaching(listener: socket.socket, host: str, port: int, timeout: float) -> str:
    token = os.urandom(16)
    listener.settimeout(timeout)
    try:
        with socket.create_connection((host, port), timeout) as client:
            client.sendall(token)
            # The token shows that the connection reached this process, and not another host with the same address.
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(timeout)
                return "" if accepted.recv(16) == token else "something else listens there"
    except TimeoutError:
        return f"no connection within {timeout:g} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()


# --- the directory and the nodes ----------------------------------------------------------------------------------------


def of_directory(directory: Directory, read: Settings, timeout: float, began: float) -> Iterator[Finding]:
    """Check the directory, which was started at the monotonic time `began`, and each of its servers."""
    from discovery.model import shown_url

    capabilities, url = directory.capabilities, shown_url(read.directory)
    is_hosted_here = nobody_hosts(capabilities)
    has_answered = not is_hosted_here and directory.wait_ready(timeout)
    seconds = time.monotonic() - began if has_answered else None
    if not capabilities.is_hosted_by_clients:
        for host, port in capabilities.servers:
            yield diagnosis.of_registry(f"{host}:{port}", problem_of_connecting(host, port, timeout), has_answered)
    count = sum(not one.record.service.startswith("events:") for one in directory.view().records.values())
    yield diagnosis.of_directory(url, seconds, count, is_hosted_here, read.keys is not None)


def problem_of_connecting(host: str, port: int, timeout: float) -> str:
    """Why no connection can be made; "" if one can."""
    try:
        socket.create_connection((host, port), timeout).close()
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def of_nodes(answers: list[NodeAnswer]) -> Iterator[Finding]:
    """Check the answers of nodes to `info`: whether they answered, their clocks, versions and certificates.

    Each fault is a finding of its own. What is in order is told of all nodes together, so that no fault is lost among it.
    """
    told = [one for one in answers if one.answer is not None]
    clocks: list[float] = []
    certificates: list[float] = []
    for one in answers:
        if one.answer is None:
            yield diagnosis.of_node(one.address, ", ".join(one.services), one.problem)
            continue
        if "at" in one.answer:
            # The node read its clock at some time between the question and the answer.
            skew, uncertainty = one.answer["at"] - (one.asked_at + one.seconds / 2), one.seconds / 2
            clock = diagnosis.of_clock(f"{one.answer.get('host')} ({one.address})", skew, uncertainty)
            if clock.level == diagnosis.OK:
                clocks.append(diagnosis.clock_error(skew, uncertainty))
            else:
                yield clock
        shown = one.answer.get("certificate")
        if shown:
            certificate = diagnosis.of_certificate(shown["name"], shown["days_left"])
            if certificate.level == diagnosis.OK:
                certificates.append(shown["days_left"])
            else:
                yield certificate
    if told:
        yield diagnosis.of_answers((name for one in told for name in one.services), len(told))
    if clocks:
        yield diagnosis.of_clocks(len(clocks), max(clocks))
    if certificates:
        yield diagnosis.of_certificates(len(certificates), min(certificates))
    if told:
        yield diagnosis.of_versions(_own_version(), Counter(one.answer.get("version", "") for one in told if one.answer))


def _own_version() -> str:
    from zmqservices.observability.node_operators import version

    return version()
