"""`zmqservices policy`: checks a policy file, and explains its verdict on one call."""

from __future__ import annotations

import click

from discovery.security.certificates import Certificate
from zmqservices.exceptions import CommandError

_policy = click.option("--policy", "path", metavar="FILE", help="The policy file. Without it, only certificates decide.")


@click.group("policy")
def policy_command() -> None:
    """Check a policy, and explain whom it lets call what.

    A policy is a YAML file with rules that allow or deny calls in addition to the certificates; see docs/security.rst.

    \b
    Examples:
        zmqservices policy check policy.yaml
        zmqservices policy explain cluster/orders stock.reserve --policy policy.yaml
    """


@policy_command.command("check")
@click.argument("path", metavar="FILE")
def check(path: str) -> None:
    """Check a policy file: say what is wrong with it, or how many rules it has.

    \b
    Example:
        zmqservices policy check policy.yaml
    """
    from zmqservices.security.policy import load

    policy = load(path)
    click.echo(f"{path} is in order: {len(policy.deny)} rules deny, {len(policy.allow)} allow")


@policy_command.command("explain")
@click.argument("caller")
@click.argument("target", metavar="SERVICE.METHOD")
@_policy
@click.option("-a", "--authority", metavar="DIR", default=".", envvar="ZMQSERVICES_AUTHORITY", show_envvar=True,
              help="The folder of the authority, for a CALLER that is the name of a node.")  # fmt: skip
def explain(caller: str, target: str, path: str | None, authority: str) -> None:
    """Say whether CALLER may call SERVICE.METHOD, and which rule says so.

    CALLER is the name of a node, a node's folder, or a file with its certificate. The exit code is 0 if it may, and 1 if
    it may not.

    \b
    Example:
        zmqservices policy explain orders stock.reserve -a cluster --policy policy.yaml
    """
    from zmqservices.security.policy import Policy, load

    service, dot, method = target.rpartition(".")
    if not dot or not service or not method:
        raise CommandError(f"{target!r} is not of the form SERVICE.METHOD, such as orders.place")
    certificate = _certificate(caller, authority)
    verdict = (load(path) if path else Policy()).may_call(certificate, service, method)
    click.echo(f"{'allowed' if verdict else 'forbidden'}: {verdict.rule}")
    if not verdict:
        raise click.exceptions.Exit(1)


def _certificate(caller: str, authority: str) -> Certificate:
    from pathlib import Path

    from discovery.security import files
    from discovery.security.authority import ISSUED
    from discovery.security.certificates import SignedCertificate
    from discovery.security.keys import CERTIFICATE_LINE, NODE_CERTIFICATE

    path = Path(caller)
    if path.is_dir():
        path = path / NODE_CERTIFICATE
    elif not path.exists():
        path = Path(authority) / ISSUED / caller
    return Certificate.unpack(SignedCertificate.from_bytes(files.read(path, CERTIFICATE_LINE)[0]).packed)
