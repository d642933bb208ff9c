"""Settings: who wins, what is refused, what is taken for a typo."""

import logging
import math

import pytest

from zmqservices import config as global_config
from zmqservices.configuration import (
    IGNORED_KEYS,
    KNOWN_KEYS,
    Config,
    boolean,
    config,
    directory_url,
    namespace,
    resolve,
    seconds,
    text,
    unknown_keys,
    warn_unknown_keys,
    whole_number,
)
from zmqservices.exceptions import ConfigurationError

ENVIRON = {"ZMQSERVICES_DIRECTORY": "tcp://environment:1", "ZMQSERVICES_NAMESPACE": "outside"}


def test_there_is_one_config():
    assert config is global_config


# --- who wins


def test_without_anything_the_defaults_hold():
    assert resolve({}, {}, {}) == {"DIRECTORY": "local:", "NAMESPACE": "default"}


def test_the_environment_beats_the_defaults():
    assert resolve({}, {}, ENVIRON) == {"DIRECTORY": "tcp://environment:1", "NAMESPACE": "outside"}


def test_an_empty_variable_counts_as_none():
    assert resolve({}, {}, {"ZMQSERVICES_DIRECTORY": ""})["DIRECTORY"] == "local:"


def test_the_file_beats_the_environment():
    assert resolve({}, {"DIRECTORY": "tcp://file:1"}, ENVIRON)["DIRECTORY"] == "tcp://file:1"


def test_flags_beat_all():
    settings = resolve({"DIRECTORY": "tcp://flag:1", "own": 1}, {"DIRECTORY": "tcp://file:1"}, ENVIRON)

    assert settings == {"DIRECTORY": "tcp://flag:1", "NAMESPACE": "outside", "own": 1}


def test_a_flag_that_was_not_given_does_not_count():
    assert resolve({"DIRECTORY": None}, {"DIRECTORY": "tcp://file:1"}, {})["DIRECTORY"] == "tcp://file:1"


def test_nothing_that_was_given_is_changed():
    flags, file = {"a": 1}, {"b": 2}

    resolve(flags, file, ENVIRON)

    assert (flags, file) == ({"a": 1}, {"b": 2})


def test_settings_that_were_never_resolved_still_follow_the_environment():
    assert directory_url({}, ENVIRON) == "tcp://environment:1"
    assert directory_url({}, {}) == "local:"
    assert directory_url({"DIRECTORY": "static:"}, ENVIRON) == "static:"
    assert namespace({}, ENVIRON) == "outside"
    assert namespace({}, {}) == "default"


# --- the mapping


def test_setup_replaces_what_was_there():
    settings = Config({"old": 1})
    given = {"new": {"a": 1}}

    settings.setup(given)
    given["new"]["a"] = 2

    assert settings == {"new": {"a": 1}}


def test_a_patch_lies_over_the_settings_for_a_while():
    settings = Config({"a": 1, "b": 2})

    with settings.patch({"b": 3}) as inside:
        assert inside is settings
        assert settings == {"a": 1, "b": 3}

    assert settings == {"a": 1, "b": 2}


def test_a_patch_can_clear_first():
    settings = Config({"a": 1})

    with settings.patch({"b": 3}, clear=True):
        assert settings == {"b": 3}

    assert settings == {"a": 1}


def test_patches_can_be_nested_and_end_with_an_error():
    settings = Config({"a": 1})

    with pytest.raises(ZeroDivisionError):
        with settings.patch({"a": 2}), settings.patch({"a": 3}):
            assert settings == {"a": 3}
            raise ZeroDivisionError

    assert settings == {"a": 1}


def test_what_is_set_inside_a_patch_does_not_stay():
    settings = Config({"a": 1})

    with settings.patch({}):
        settings["a"] = 5

    assert settings == {"a": 1}


def test_a_patch_decorates_a_function_for_each_of_its_calls():
    settings = Config()

    @settings.patch({"depth": 1})
    def again(times):
        assert settings == {"depth": 1}
        return times and again(times - 1)

    again(2)
    again(0)

    assert settings == {}


# --- typos


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("rpc_timout", "rpc_timeout"),
        ("RPC_TIMEOUT", "rpc_timeout"),
        ("directory", "DIRECTORY"),
        ("max_worker", "max_workers"),
        ("max-workers", "max_workers"),
        ("NAMESPCE", "NAMESPACE"),
        ("amqp_uri", "AMQP_URI"),
    ],
)
def test_a_key_that_looks_like_a_typo_or_was_renamed_is_recognised(key, meant):
    assert unknown_keys({key: 1}) == {key: meant}


@pytest.mark.parametrize("key", ["DB_URIS", "SENTRY", "my_timeout", 5, *sorted(KNOWN_KEYS | IGNORED_KEYS)])
def test_known_keys_and_the_applications_own_are_left_alone(key):
    assert unknown_keys({key: 1}) == {}


def test_the_warning_names_both(caplog):
    with caplog.at_level(logging.WARNING):
        warn_unknown_keys({"rpc_timout": 5, "DB_URIS": {}})

    assert [record.getMessage() for record in caplog.records] == [
        "the setting 'rpc_timout' is not known; did you mean 'rpc_timeout'?"
    ]


def test_a_brokers_settings_are_ignored_with_one_warning(caplog):
    with caplog.at_level(logging.WARNING):
        warn_unknown_keys({"AMQP_URI": "pyamqp://guest:secret@localhost", "AMQP_SSL": True})

    (record,) = caplog.records
    assert "ignored AMQP_SSL, AMQP_URI" in record.getMessage()
    assert "secret" not in record.getMessage()


# --- typed reads


@pytest.mark.parametrize("value", [0, 5, 0.25])
def test_seconds_are_numbers(value):
    assert seconds({"rpc_timeout": value}, "rpc_timeout", 30.0) == value


@pytest.mark.parametrize("value", ["5", "ten", True, -1, math.nan, math.inf, [1]])
def test_what_is_no_span_of_time_is_quoted(value):
    with pytest.raises(ConfigurationError) as caught:
        seconds({"rpc_timeout": value}, "rpc_timeout", 30.0)

    assert str(caught.value) == f"rpc_timeout is {value!r}; a number of seconds is needed, such as 30.0"


def test_seconds_that_are_missing_or_null():
    assert seconds({}, "t", 30.0) == 30.0
    assert seconds({"t": None}, "t", 30.0) == 30.0
    assert seconds({}, "t", 30.0, allow_none=True) == 30.0
    assert seconds({"t": None}, "t", 30.0, allow_none=True) is None
    assert seconds({}, "t", None) is None


def test_whole_numbers():
    assert whole_number({"max_workers": 3}, "max_workers", 10) == 3
    assert whole_number({}, "max_workers", 10) == 10
    assert whole_number({"max_workers": None}, "max_workers", 10) == 10
    assert whole_number({"n": 0}, "n", 10, minimum=0) == 0


@pytest.mark.parametrize("value", ["ten", "10", 1.5, True])
def test_what_is_no_whole_number_is_quoted(value):
    with pytest.raises(ConfigurationError) as caught:
        whole_number({"max_workers": value}, "max_workers", 10)

    assert str(caught.value) == f"max_workers is {value!r}; a whole number is needed"


def test_a_number_that_is_too_small_is_quoted():
    with pytest.raises(ConfigurationError, match="^max_workers is 0; it must be 1 or more$"):
        whole_number({"max_workers": 0}, "max_workers", 10)


def test_texts():
    assert text({"NAMESPACE": "shop"}, "NAMESPACE", "default") == "shop"
    assert text({"NAMESPACE": None}, "NAMESPACE", "default") == "default"
    for value in ["", 5, ["a"]]:
        with pytest.raises(ConfigurationError, match="^NAMESPACE is .*; a text is needed, such as"):
            text({"NAMESPACE": value}, "NAMESPACE", "default")


def test_booleans():
    assert boolean({"rpc_tracebacks": False}, "rpc_tracebacks", True) is False
    assert boolean({"rpc_tracebacks": None}, "rpc_tracebacks", True) is True
    for value in ["yes", 0, 1]:
        with pytest.raises(ConfigurationError, match="^rpc_tracebacks is .*; true or false is needed$"):
            boolean({"rpc_tracebacks": value}, "rpc_tracebacks", True)
