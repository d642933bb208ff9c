"""The Kubernetes manifests of deploy/, as the tests read them."""

from pathlib import Path

import yaml

HOME = Path(__file__).parents[2]
DEPLOY = HOME / "deploy"


def manifests(name="*"):
    """All manifests, or those of one file."""
    for path in sorted((DEPLOY / "kubernetes").glob(f"{name}.yaml")):
        yield from yaml.safe_load_all(path.read_text())


def pods(name="*"):
    for manifest in manifests(name):
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            yield manifest["spec"]["template"]["spec"]


def configuration_of(name):
    """The configuration that the pods of a file are given."""
    (found,) = [one for one in manifests(name) if one["kind"] == "ConfigMap"]
    return yaml.safe_load(found["data"]["config.yaml"])


def only(name, kind):
    """The one manifest of this kind in a file."""
    (found,) = [one for one in manifests(name) if one["kind"] == kind]
    return found
