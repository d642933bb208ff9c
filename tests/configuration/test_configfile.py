"""Configuration files and the variables in them."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from zmqservices.configfile import Loader, env_var_constructor, expand, load, parse, setup_yaml_parser
from zmqservices.exceptions import ConfigurationError

ENVIRON = {
    "HOST": "10.0.0.5",
    "PORT": "4190",
    "EMPTY": "",
    "LIST": "[1, two]",
    "QUOTED": '"5"',
    "SELF": "${SELF}",
    "ONE": "${TWO}",
    "TWO": "${ONE}",
    "OTHER": "${PORT}",
}

ROWS = [
    ("v: ${PORT}", 4190),
    ("v: ${HOST}", "10.0.0.5"),
    ("v: tcp://${HOST}:${PORT}", "tcp://10.0.0.5:4190"),
    ("v: ${MISSING}", None),
    ("v: x-${MISSING}", "x-"),
    ("v: ${MISSING:5}", 5),
    ("v: ${MISSING:tcp://a:1}", "tcp://a:1"),
    ("v: ${PORT:5}", 4190),
    ("v: ${EMPTY}", None),
    ("v: ${EMPTY:5}", None),
    ('v: ${MISSING:"1"}', "1"),
    ("v: ${QUOTED}", "5"),
    ("v: ${LIST}", [1, "two"]),
    ("v: ${A:${B:c}}", "c"),
    ("v: ${A:${PORT:c}}", 4190),
    ("v: ${A:x${B:y${C:z}}}", "xyz"),
    ("v: ${OTHER}", 4190),
    ("v: ${SELF}", "${SELF}"),
    ("v: ${ONE}", "${ONE}"),
    ('v: "${PORT}"', "${PORT}"),
    ("v: '${PORT}'", "${PORT}"),
    ('v: !env_var "${PORT}"', 4190),
    ('v: !raw_env_var "${PORT}"', "4190"),
    ('v: !raw_env_var "${MISSING:yes}"', "yes"),
    ('v: !raw_env_var "${MISSING}"', ""),
    ("v: [a, '${PORT}', $PORT]", ["a", "${PORT}", "$PORT"]),
    ("v: ${}", "${}"),
    ("v: ${PORT", "${PORT"),
    ("v:\n  w: ${PORT}", {"w": 4190}),
    ("v: !env_var plain", "plain"),
]


@pytest.mark.parametrize(("text", "value"), ROWS, ids=[row[0] for row in ROWS])
def test_59_variables_become_values(text, value):
    assert parse(text, "here", ENVIRON) == {"v": value}


def test_a_key_may_be_a_variable():
    assert parse("${HOST}: 1", "here", ENVIRON) == {"10.0.0.5": 1}


@given(st.text(alphabet="${}:ABx \n"))
def test_59_any_text_is_expanded_or_left_alone(text):
    assert isinstance(expand(text, {"A": "${B}", "B": "x"}), str)


@given(st.text())
def test_a_text_without_variables_stays(text):
    assert expand(text.replace("$", ""), {}) == text.replace("$", "")


def test_a_file_is_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text('rpc_timeout: 5\nDIRECTORY: !raw_env_var "${NOT_SET_ANYWHERE:local:}"\n')

    assert load(path) == {"rpc_timeout": 5, "DIRECTORY": "local:"}


def test_an_empty_file_has_no_settings(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("# nothing yet\n")

    assert load(path) == {}


def test_a_fault_is_told_with_file_and_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: 1\nb: [1, 2\n")

    with pytest.raises(ConfigurationError, match=r"config\.yaml, line 3, column 1: "):
        load(path)


def test_a_fault_inside_a_variable_is_told(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: ${MISSING:[1}\n")

    with pytest.raises(ConfigurationError, match="config.yaml, line 1"):
        load(path)


@pytest.mark.parametrize("text", ["- 1\n", "just words\n", "5\n"])
def test_a_file_without_keys_is_refused(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)

    with pytest.raises(ConfigurationError, match="keys with values are needed"):
        load(path)


def test_a_missing_file_is_named():
    with pytest.raises(ConfigurationError, match="'nowhere.yaml' cannot be read: No such file"):
        load("nowhere.yaml")


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load(path)


@pytest.mark.parametrize(
    "text", ["a: !!python/object/apply:os.getcwd []", "a: !nonsense 1", "a: *b", "a: \x00", "a: 2000-99-99"]
)
def test_what_is_no_plain_value_is_refused_as_a_configuration_error(text):
    with pytest.raises(ConfigurationError, match="here"):
        parse(text, "here", {})


def test_the_plain_yaml_loader_is_left_alone_until_asked():
    assert yaml.safe_load("v: ${HOME}") == {"v": "${HOME}"}


def test_another_loader_can_learn_the_variables(monkeypatch):
    class Own(yaml.SafeLoader):
        pass

    monkeypatch.setenv("SOME_PORT", "4190")
    setup_yaml_parser(Own)

    assert yaml.load("v: ${SOME_PORT}", Own) == {"v": 4190}
    assert issubclass(Loader, yaml.SafeLoader)
    assert callable(env_var_constructor)
