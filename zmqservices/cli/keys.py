"""`zmqservices keys`: makes the authority of a cluster, and the keys and certificates of its nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from zmqservices.cli.jsontext import to_json
from zmqservices.cli.listing import as_json

_authority = click.option(
    "-a", "--authority", metavar="DIR", default=".", show_default=True, envvar="ZMQSERVICES_AUTHORITY", show_envvar=True,
    help="The folder of the authority, which `keys init` made.",
)  # fmt: skip
_days = click.option(
    "--days", type=click.FloatRange(0, 36_500, min_open=True), default=365, metavar="N", show_default=True,
    help="Days for which the certificate is valid.",
)  # fmt: skip

#: The options for permissions: the name in a certificate, the option's metavar, its help.
_PERMISSIONS = (
    ("serves", "S", "A service that the node serves (and registers)."),
    ("calls", "S[.M]", "A service, or a method, that the node calls."),
    ("publishes", "P", "A source whose events the node publishes."),
    ("handles", "P[.T]", "A source, or a type of event of it, that the node handles."),
    ("registers", "S", "A service that the node registers in the directory without serving it."),
    ("administers", "P", "A source whose events the node may inspect, requeue, drop and replay."),
)


def _takes_permissions(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, metavar, text in reversed(_PERMISSIONS):
        command = click.option(f"--{name}", multiple=True, metavar=metavar, help=f"{text} May be repeated.")(command)
    return command


@click.group("keys")
def keys_command() -> None:
    """Make the keys and certificates of a closed cluster.

    An authority signs a certificate for each node. The certificate names what the node may do, in patterns where `*` stands
    for any characters. Each node gets a folder with its private key, its certificate and the public key of the authority.

    \b
    Examples:
        zmqservices keys init cluster
        zmqservices keys issue orders -a cluster --serves orders --calls 'stock.*' --publishes orders
        zmqservices keys verify cluster/orders
        zmqservices keys revoke orders -a cluster
    """


@keys_command.command("init")
@click.argument("folder", metavar="DIR")
@_days
@click.option(
    "--succeeds", metavar="OLD",
    help="The folder of an authority that this one replaces: its nodes and registries keep their keys.",
)  # fmt: skip
def init(folder: str, days: float, succeeds: str | None) -> None:
    """Make an authority in DIR, and the keys of the cluster's registries in DIR/registry.

    Whoever has DIR/authority.key can sign for the whole cluster: keep the file off the hosts that run services.

    With --succeeds OLD, DIR has a folder for each node of OLD, with a certificate for its key. Copy `authorities`, which
    names both, to every node, then `node.certificate` and `registry`. Last, remove the line of OLD from `authorities` there.
    The private key of OLD is not needed: it may be lost.

    \b
    Examples:
        zmqservices keys init cluster
        zmqservices keys init successor --succeeds cluster
    """
    from discovery.security.authority import Authority

    authority = Authority.create(folder, days, former=succeeds)
    key = authority.public_key[:8].hex()
    if succeeds is None:
        click.echo(f"made the authority {key} in {folder}, and the keys of registries in {Path(folder) / 'registry'}")
    else:
        names = ", ".join(authority.names())
        click.echo(f"made the authority {key} in {folder}, which replaces {succeeds}, with certificates for {names}")


@keys_command.command("issue")
@click.argument("name")
@_authority
@_takes_permissions
@click.option("--registry", "is_registry", is_flag=True, help="The node is a registry: it keeps the directory.")
@_days
def issue(name: str, authority: str, days: float, is_registry: bool, **permissions: tuple[str, ...]) -> None:
    """Make a folder DIR/NAME with a new key and its certificate. Move the folder to the host of the node.

    With --registry it is the folder of a registry that has a key of its own, so that it can be revoked alone. All nodes must
    know its certificate before it starts: copy DIR/NAME/registry, which has those of all registries, to the folder of one
    running registry or node.

    \b
    Examples:
        zmqservices keys issue orders -a cluster --serves orders --calls 'stock.*' --publishes orders
        zmqservices keys issue registry-2 -a cluster --registry
    """
    from discovery.security.authority import Authority

    # A node that serves a service must register it, so that callers find it.
    permissions["registers"] = tuple(dict.fromkeys((*permissions["serves"], *permissions["registers"])))
    folder = Authority(authority).issue(name, permissions, days, is_registry)
    click.echo(f"issued {name}: {folder}")
    if is_registry:
        known = folder / "registry"
        click.echo(f"copy {known} to the folder of one running registry or node before {name} starts; all nodes learn from there")


@keys_command.command("renew")
@click.argument("name")
@_authority
@_days
def renew(name: str, authority: str, days: float) -> None:
    """Issue a new certificate for the key of NAME, with the same permissions and a later end.

    Copy the printed file to the folder of the node as `node.certificate`; the running node reads it within seconds. If
    DIR/NAME is still there, the command writes the certificate there as well. A node whose keys were made by an earlier
    release has no key to sign records; the command makes DIR/NAME/node.signing for it. Copy that file too, and restart the
    node.

    \b
    Example:
        zmqservices keys renew orders -a cluster --days 90
    """
    from discovery.security.authority import Authority

    click.echo(f"renewed {name}: {Authority(authority).renew(name, days)}")


@keys_command.command("revoke")
@click.argument("name")
@_authority
def revoke(name: str, authority: str) -> None:
    """Revoke the certificate of NAME: sign a new list of revoked certificates, DIR/revoked.

    Copy the list to the folder of one running registry or node. All processes get it from there, through the registries, or
    through etcd, ZooKeeper or Consul. With dns: and static: nodes pass it on over their connections: choose a node that is
    connected to others.

    \b
    Example:
        zmqservices keys revoke orders -a cluster
    """
    from discovery.security.authority import Authority

    opened = Authority(authority)
    serial = opened.revoke(name)
    click.echo(
        f"revoked certificate {serial} of {name}; copy {opened.folder / 'revoked'} to the folder of one running registry or node "
        "(with static: of a service that is called; nodes that have no connection to others need it in their own folders)"
    )


@keys_command.command("show")
@click.argument("path")
@click.option("--key", "key_only", is_flag=True, help="Print only the public key, as static: and dns:// URLs have it after #.")
@as_json
def show(path: str, key_only: bool, as_json: bool) -> None:
    """Show certificates: that of a node's folder, those in a file, or the newest of each node of an authority.

    Shows the fields without a check of the signature or the dates; `keys verify` checks them.

    \b
    Examples:
        zmqservices keys show cluster/orders
        zmqservices keys show cluster --json
        zmqservices ls --directory "dns://shop:4000#$(zmqservices keys show --key cluster/shop)"
    """
    is_file = not Path(path).is_dir()
    found = [one for file in _certificate_files(Path(path)) for one in _described(file, is_file)]
    if key_only:
        click.echo("\n".join(one["key"] for one in found))
    elif as_json:
        click.echo(to_json(found, indent=2))
    else:
        click.echo("\n\n".join(_as_text(one) for one in found))


@keys_command.command("verify")
@click.argument("folder", metavar="DIR")
def verify(folder: str) -> None:
    """Check the folder of a node: nobody else can read its key, and its certificate is for that key and valid today.

    \b
    Example:
        zmqservices keys verify cluster/orders
    """
    from discovery.security.keys import Keys

    keys = Keys.read(folder)
    certificate, left = keys.certificate, keys.days_left(time.time())
    click.echo(f"{folder} is in order: {certificate.name}, certificate {certificate.serial}, {left:.0f} days left")


def _certificate_files(path: Path) -> list[Path]:
    from discovery.exceptions import SecurityError
    from discovery.security.authority_folder import ISSUED
    from discovery.security.keys import NODE_CERTIFICATE

    if not path.is_dir():
        return [path]
    if (path / NODE_CERTIFICATE).exists():
        return [path / NODE_CERTIFICATE]
    if (path / ISSUED).is_dir():
        return sorted(one for one in (path / ISSUED).iterdir() if not one.name.startswith("."))
    raise SecurityError(
        f"{str(path)!r} has no {NODE_CERTIFICATE} and no folder {ISSUED!r}; a node's or an authority's folder is needed"
    )


def _described(path: Path, all_of_them: bool) -> list[dict[str, Any]]:
    """The newest certificate in a file, or all of them."""
    from discovery.security import files
    from discovery.security.authority import date, permissions_of
    from discovery.security.certificates import Certificate, SignedCertificate
    from discovery.security.keys import CERTIFICATE_LINE
    from discovery.security.verdicts import short

    found = []
    lines = files.read(path, CERTIFICATE_LINE)
    for line in lines if all_of_them else lines[:1]:
        signed = SignedCertificate.from_bytes(line)
        certificate = Certificate.unpack(signed.packed)
        found.append({
            "name": certificate.name,
            "serial": certificate.serial,
            "key": certificate.key.hex(),
            "from": date(certificate.starts),
            "until": date(certificate.ends),
            "authority": short(signed.authority),
            "registry": certificate.is_registry,
            **{name: list(patterns) for name, patterns in permissions_of(certificate).items()},
            "file": str(path),
        })  # fmt: skip
    return found


def _as_text(found: dict[str, Any]) -> str:
    lines = []
    for name, value in found.items():
        if isinstance(value, bool):
            value = "yes" if value else ""
        text = ", ".join(value) if isinstance(value, list) else str(value)
        if text:
            lines.append(f"{name:<12} {text}")
    return "\n".join(lines)
