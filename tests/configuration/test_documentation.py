"""docs/configuration.rst names every key, with the default that the code has."""

import re
from pathlib import Path

import pytest
import yaml

from zmqservices import constants
from zmqservices.configuration import ENVIRONMENT, IGNORED_KEYS, KNOWN_KEYS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.rst").read_text("utf-8")
ENTRY = re.compile(r"^``(?P<key>\w+)`` : (?P<type>[\w ]+), default (``(?P<default>.+)``|none)$", re.MULTILINE)
ENTRIES = {match["key"]: match["default"] for match in ENTRY.finditer(PAGE)}
DEFAULTS = {
    value: getattr(constants, "DEFAULT_" + name.removesuffix("_CONFIG_KEY"), None)
    for name, value in vars(constants).items()
    if name.endswith("_CONFIG_KEY")
}
# One has no constant, the others' have longer names.
DEFAULTS[constants.PARENT_CALLS_CONFIG_KEY] = constants.DEFAULT_PARENT_CALLS_TRACKED
DEFAULTS[constants.RPC_TRACEBACKS_CONFIG_KEY] = True
DEFAULTS[constants.WEB_SERVER_CONFIG_KEY] = constants.DEFAULT_WEB_SERVER_ADDRESS


def test_every_key_has_its_entry_and_no_other():
    assert set(ENTRIES) == KNOWN_KEYS


@pytest.mark.parametrize("key", sorted(KNOWN_KEYS))
def test_the_default_is_the_one_of_the_code(key):
    shown = ENTRIES[key]
    default = DEFAULTS[key]

    assert shown == default if isinstance(default, str) else yaml.safe_load(shown or "null") == default


@pytest.mark.parametrize("key", sorted(IGNORED_KEYS))
def test_settings_of_a_broker_are_named(key):
    assert f"``{key}``" in PAGE


@pytest.mark.parametrize("variable", sorted(ENVIRONMENT.values()))
def test_variables_of_the_environment_are_named(variable):
    assert f"``{variable}``" in PAGE
