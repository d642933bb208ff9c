"""`zmqservices policy`: checks a policy file, and explains its verdict on one call."""

from __future__ import annotations

import difflib
import time
from pathlib import Path

import click

from discovery.security.certificates import Certificate, SignedCertificate
from discovery.security.verdicts import Trust
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
@click.option("--verb", type=click.Choice(["calls", "handles", "administers"]), default="calls", show_default=True,
              help="The right. For `handles`, the target is SOURCE.TYPE; for `administers`, SOURCE.METHOD.")  # fmt: skip
@click.option("-a", "--authority", metavar="DIR", default=".", envvar="ZMQSERVICES_AUTHORITY", show_envvar=True,
              help="The authority's folder, for a CALLER that is the name of a node, and for revoked certificates.")  # fmt: skip
def explain(caller: str, target: str, path: str | None, verb: str, authority: str) -> None:
    """Say whether CALLER may call SERVICE.METHOD, and which rule says so.

    CALLER is the name of a node, a node's folder, or a file with its certificate. The exit code is 0 if it may, and 1 if
    it may not or if its certificate is revoked or has ended.

    \b
    Example:
        zmqservices policy explain orders stock.reserve -a cluster --policy policy.yaml
    """
    from zmqservices.security.policy import VERBS, Policy, load

    service, dot, method = target.rpartition(".")
    if not dot or not service or not method:
        raise CommandError(f"{target!r} is not of the form SERVICE.METHOD, such as orders.place")
    policy = load(path) if path else Policy()
    certificate, problem = _certificate(caller, Path(authority))
    if problem:
        click.echo(f"forbidden: {problem}")
        raise click.exceptions.Exit(1)
    if verb == "calls":
        verdict = policy.may_call(certificate, service, method)
    else:
        verdict = policy.allows(certificate, VERBS[verb], service, method)
    click.echo(f"{'allowed' if verdict else 'forbidden'}: {verdict.rule}")
    if not verdict:
        raise click.exceptions.Exit(1)


def _certificate(caller: str, authority: Path) -> tuple[Certificate, str]:
    """The certificate of a caller, and why processes refuse it today; "" if they accept it."""
    from discovery.security import files
    from discovery.security.authority import trust_of
    from discovery.security.authority_folder import ISSUED
    from discovery.security.certificates import Certificate, SignedCertificate
    from discovery.security.keys import CERTIFICATE_LINE, NODE_CERTIFICATE, read_trust

    path, trusts = Path(caller), []
    if path.is_dir():
        trusts, path = [read_trust(path)], path / NODE_CERTIFICATE
    elif not path.is_file():
        path = _issued(caller, authority / ISSUED)
    signed = SignedCertificate.from_bytes(files.read(path, CERTIFICATE_LINE)[0])
    # The authority knows a revoked certificate before the nodes do.
    trusts += [one for one in (trust_of(authority),) if one is not None and signed.authority in one.authorities]
    certificate = Certificate.unpack(signed.packed)
    return certificate, _problem(signed, certificate, trusts)


def _problem(signed: SignedCertificate, certificate: Certificate, trusts: list[Trust]) -> str:
    from discovery.security.verdicts import Refusal, check_time

    now = time.time()
    try:
        check_time(certificate, now)
        for trust in trusts:
            trust.believed(signed.to_bytes(), certificate.key, now)
    except Refusal as refusal:
        return str(refusal)
    return ""


def _issued(name: str, folder: Path) -> Path:
    """The file of the newest certificate of a node, also of a revoked one. Raises CommandError for an unknown name."""
    if not folder.is_dir():
        raise CommandError(
            f"{name[:100]!r} is no folder of keys and no file, and {str(folder.parent)!r} is no authority's folder, which "
            "would know nodes by their names; `--authority DIR` names it"
        )
    found = sorted(one.name for one in folder.iterdir() if not one.name.startswith("."))
    revoked = [folder / one for one in found if one.endswith(".revoked") and one.split(".")[:-2] == name.split(".")]
    if name in found:
        return folder / name
    if revoked:
        return max(revoked, key=lambda one: one.stat().st_mtime)
    known = [one for one in found if not one.endswith(".revoked")]
    near = difflib.get_close_matches(name, known, n=1)
    mend = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known[:20])}"
    raise CommandError(f"no certificate of {name[:100]!r} was issued by the authority in {str(folder.parent)!r}; {mend}")
