"""Providers of context data, settings and loggers; and context data as headers."""

import logging
from types import SimpleNamespace

import pytest

from tests.hosting.stage import Call, entry
from zmqservices import config
from zmqservices.contextdata import AuthToken, ContextDataProvider, Language, UserAgent, UserId
from zmqservices.dependency_providers import CallLogger, Config, Logger
from zmqservices.messaging import HeaderDecoder, HeaderEncoder, decode_from_headers, encode_to_headers
from zmqservices.testing.services import entrypoint_hook


class Tenant(ContextDataProvider):
    context_key = "tenant"


class Service:
    name = "service"

    language, user_id, user_agent, auth_token, tenant = Language(), UserId(), UserAgent(), AuthToken(), Tenant()
    config = Config()
    logger = Logger()
    other_logger = Logger("other")

    @entry
    def who(self):
        return self.language, self.user_id, self.user_agent, self.auth_token, self.tenant

    @entry
    def setting(self, key):
        self.config["changed"] = True
        return self.config[key]

    @entry
    def log(self, text, *args, **extra):
        self.logger.info(text, *args, extra=extra)
        self.other_logger.warning(text, *args)


# --- context data ----------------------------------------------------------------------------------------------------


def test_context_data_of_a_call_are_injected(make_container):
    data = {"language": "da", "user_id": 7, "user_agent": "curl", "auth_token": "x", "tenant": "acme"}

    call = Call(make_container(Service), "who", context_data=data)

    assert call.result() == ("da", 7, "curl", "x", "acme")


def test_missing_context_data_are_none(make_container):
    assert Call(make_container(Service), "who").result() == (None,) * 5


# --- Config ----------------------------------------------------------------------------------------------------------


def test_settings_are_a_copy(make_container):
    settings = {"key": "value"}
    container = make_container(Service, settings)

    assert Call(container, "setting", "key").result() == "value"
    assert settings == {"key": "value"}


def test_the_settings_of_the_process_are_copied_too(make_container):
    with config.patch({"key": "value"}):
        assert Call(make_container(Service, config), "setting", "key").result() == "value"
        assert "changed" not in config


# --- Logger ----------------------------------------------------------------------------------------------------------


def test_a_log_line_names_its_call(make_container, caplog):
    container = make_container(Service)

    with caplog.at_level(logging.INFO), entrypoint_hook(container, "log", {"call_id_stack": ["gateway.get.1"]}) as log:
        log("ordered %s", "tea", order=3)

    first, second = caplog.records
    assert (first.getMessage(), first.name, first.order) == ("ordered tea", __name__, 3)
    assert (first.service_name, first.method_name) == ("service", "log")
    assert first.call_id.startswith("service.log.")
    assert first.call_id_stack == ["gateway.get.1", first.call_id]
    assert (second.name, second.levelno, second.call_id) == ("other", logging.WARNING, first.call_id)


def test_a_line_that_is_not_logged_makes_no_call_id():
    class Untouched:
        def __getattr__(self, name):
            raise AssertionError(f"{name} was looked at")

    logger = logging.getLogger("test.quiet")
    logger.setLevel(logging.ERROR)

    CallLogger(logger, Untouched()).info("nothing")


# --- headers ---------------------------------------------------------------------------------------------------------


class Sender(HeaderEncoder, HeaderDecoder):
    pass


class Own(HeaderEncoder, HeaderDecoder):
    header_prefix = "own"


@pytest.mark.parametrize("both, name", [(Sender(), "nameko.language"), (Own(), "own.language")])
def test_context_data_become_headers_and_back(both, name):
    headers = both.get_message_headers(SimpleNamespace(context_data={"language": "da"}))

    assert headers == {name: "da"}
    assert both.unpack_message_headers(SimpleNamespace(headers=headers)) == {"language": "da"}


def test_headers_without_the_prefix_keep_their_names():
    assert decode_from_headers({"nameko.a": 1, "b": 2, "namekoc": 3}) == {"a": 1, "b": 2, "namekoc": 3}


def test_26_context_data_of_none_give_a_warning_and_no_header():
    with pytest.warns(UserWarning, match="makes no header: user_id"):
        assert encode_to_headers({"language": "da", "user_id": None}, prefix="p") == {"p.language": "da"}
