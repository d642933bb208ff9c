"""`zmqservices run` in real processes: how services start and stop, and how mistakes are reported."""

import platform
import signal

import pytest

pytestmark = pytest.mark.system
#: See tests/cli/conftest.py. The others are about what happens once a process is up.
FRESH_PROCESSES = {
    "test_20_it_says_when_all_services_are_up_and_stops_on_sigterm",
    "test_sigterm_while_services_come_up_stops_them_once_they_are_up",
    "test_services_that_hang_while_coming_up_can_be_killed",
    "test_the_library_is_patched_before_the_service_is_imported",
    "test_the_garbage_collector_skips_imported_objects_unless_the_service_configured_it",
    "test_the_allocator_keeps_large_blocks_before_the_first_message",
    "test_the_exit_of_a_methods_first_child_is_noticed_however_soon_it_comes",
}


def run_until(start, module, words):
    """Run the services of a module until its output has the text, and stop them gracefully."""
    process = start("run", module)
    process.until(words)
    process.signal(signal.SIGTERM)
    assert process.end() == 0


def test_20_it_says_when_all_services_are_up_and_stops_on_sigterm(start, ticker):
    process = start("run", "ticker_module")

    assert process.until("Services started") == "Services started: ticker\n"
    process.signal(signal.SIGTERM)

    assert process.end() == 0
    assert "stopped" in process.said


def test_20_ctrl_c_stops_gracefully(start, ticker):
    process = start("run", "ticker_module:Ticker", SLOW_STOP="0.2")

    process.until("Services started")
    process.signal(signal.SIGINT)

    assert process.end() == 0
    assert process.said.index("stopping\n") < process.said.index("stopped\n")


def test_20_a_second_ctrl_c_kills(start, ticker):
    process = start("run", "ticker_module", SLOW_STOP="3600")

    process.until("Services started")
    process.signal(signal.SIGINT)
    process.until("stopping\n")
    process.signal(signal.SIGINT)

    assert process.end() == 130
    assert "stopped" not in process.said.splitlines()


def test_ctrl_c_while_it_drains_after_sigterm_kills(start, ticker):
    process = start("run", "ticker_module", SLOW_STOP="3600")

    process.until("Services started")
    process.signal(signal.SIGTERM)
    process.until("stopping\n")
    process.signal(signal.SIGTERM)
    process.signal(signal.SIGINT)

    assert process.end() == 130


def test_sigterm_while_services_come_up_stops_them_once_they_are_up(start, write):
    write(
        "slow_start.py",
        """
        import gevent
        from zmqservices.extensions import DependencyProvider, Entrypoint

        class SlowStart(DependencyProvider):
            def setup(self):
                print("setting up", flush=True)
                gevent.sleep(0.5)
                print("set up", flush=True)

        class Service:
            name = "slow"
            slow = SlowStart()

            @Entrypoint.decorator
            def method(self):
                pass
        """,
    )
    process = start("run", "slow_start")

    process.until("setting up")
    process.signal(signal.SIGTERM)

    assert process.end() == 0
    assert "set up\n" in process.said
    assert "Services started" not in process.said


def test_services_that_hang_while_coming_up_can_be_killed(start, write):
    write(
        "hanging_start.py",
        """
        import gevent.event
        from zmqservices.extensions import DependencyProvider, Entrypoint

        class Hanging(DependencyProvider):
            def setup(self):
                print("setting up", flush=True)
                gevent.event.Event().wait(3600)

        class Service:
            name = "hanging"
            dependency = Hanging()

            @Entrypoint.decorator
            def method(self):
                pass
        """,
    )
    process = start("run", "hanging_start")

    process.until("setting up")
    process.signal(signal.SIGINT)
    process.until("Ctrl-C again")
    process.signal(signal.SIGINT)

    assert process.end() == 130


def test_the_library_is_patched_before_the_service_is_imported(start, write):
    write(
        "patched.py",
        """
        import socket, threading, time
        from time import sleep
        from gevent import monkey
        from zmqservices.extensions import Entrypoint

        print([monkey.is_object_patched(*what) for what in [
            ("socket", "socket"), ("threading", "Event"), ("time", "sleep"), ("subprocess", "Popen")]], flush=True)
        print(sleep.__module__, flush=True)

        class Service:
            name = "patched"

            @Entrypoint.decorator
            def method(self):
                pass
        """,
    )
    process = start("run", "patched")

    process.until("Services started: patched")
    process.signal(signal.SIGTERM)

    assert process.end() == 0
    assert "[True, True, True, True]\ngevent.hub\n" in process.said


@pytest.mark.parametrize(
    ("own", "told"),
    [("", "(True, True)"), ("gc.set_threshold(99)", "(False, False)"), ("gc.disable()", "(False, False)")],
)
def test_the_garbage_collector_skips_imported_objects_unless_the_service_configured_it(start, write, own, told):
    write(
        "collected.py",
        f"""
        import gc
        from zmqservices.timer import timer
        {own}

        class Service:
            name = "collected"
            told = False

            @timer(interval=0.05)
            def tell(self):
                frozen = gc.get_freeze_count() > 10_000
                if frozen == {own == ""} and not Service.told:
                    Service.told = True
                    print((gc.get_threshold()[0] == 10_000, frozen), flush=True)
        """,
    )
    run_until(start, "collected", told)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_the_allocator_keeps_large_blocks_before_the_first_message(start, write):
    write(
        "large.py",
        """
        import os
        from zmqservices.timer import timer

        def rss():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        class Service:
            name = "large"

            @timer(interval=3600, eager=True)
            def take(self):
                blocks = [bytearray(b"x" * 2**20) for _ in range(60)]
                full = rss()
                blocks.clear()
                print("given back:", full - rss() > 20 * 2**20, flush=True)
        """,
    )
    run_until(start, "large", "given back: False")


def test_the_exit_of_a_methods_first_child_is_noticed_however_soon_it_comes(start, write):
    write(
        "forking.py",
        """
        import os
        from gevent.monkey import get_original
        from zmqservices.timer import timer

        class Service:
            name = "forking"

            @timer(interval=3600, eager=True)
            def fork(self):
                child = os.fork()
                if not child:
                    os._exit(7)
                print("it ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

        # The parent goes on so late that its child is long gone.
        os.register_at_fork(after_in_parent=lambda: get_original("time", "sleep")(0.2))
        """,
    )
    run_until(start, "forking", "it ended with 7")


def test_a_service_that_dies_ends_the_process_with_its_traceback_in_the_log(start, write):
    write(
        "dying.py",
        """
        from zmqservices.extensions import DependencyProvider, Entrypoint

        class Dying(DependencyProvider):
            def start(self):
                self.container.spawn_managed_thread(self.die)

            def die(self):
                raise ZeroDivisionError("as planned")

        class Service:
            name = "dying"
            dependency = Dying()

            @Entrypoint.decorator
            def method(self):
                pass
        """,
    )
    process = start("run", "dying")

    assert process.end() == 1
    assert "ZeroDivisionError: as planned" in process.said
    assert "a service died" in process.said


def test_logging_follows_the_configuration(start, ticker, write):
    write(
        "config.yaml",
        """
        LOGGING:
          version: 1
          disable_existing_loggers: false
          formatters: {short: {format: "MINE %(message)s"}}
          handlers: {console: {class: logging.StreamHandler, formatter: short}}
          root: {level: INFO, handlers: [console]}
        """,
    )
    process = start("run", "ticker_module", "-c", "config.yaml", "-d", "rpc_timout=5")

    process.until("Services started")
    process.signal(signal.SIGTERM)

    assert process.end() == 0
    assert "MINE the setting 'rpc_timout' is not known; did you mean 'rpc_timeout'?" in process.said


def test_a_broker_url_is_ignored_with_a_warning(start, ticker):
    process = start("run", "ticker_module", "--broker", "amqp://guest:secret@localhost")

    process.until("--broker is ignored")
    process.until("Services started")
    process.signal(signal.SIGTERM)

    assert process.end() == 0
    assert "secret" not in process.said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ticker_module.py"], "did you mean 'ticker_module'?"),
        (["nowhere"], "there is no module 'nowhere'"),
        (["ticker_module:Nobody"], "there is no class 'Nobody' in the module 'ticker_module'"),
        (["broken"], "the module 'broken' cannot be imported: ModuleNotFoundError: No module named 'nothing_like_it'"),
        (["ticker_module", "-c", "nowhere.yaml"], "'nowhere.yaml' cannot be read"),
        (["ticker_module", "-d", "LOGGING=5"], "LOGGING is no logging configuration"),
        (["ticker_module", "-d", "max_workers=ten"], "max_workers is 'ten'"),
        (["ticker_module", "--no-such-flag"], "--no-such-flag"),
        ([], "Missing argument"),
    ],
)
def test_mistakes_are_reported_in_one_sentence(zmqservices, ticker, write, arguments, sentence):
    write("broken.py", "import nothing_like_it\n")

    done = zmqservices("run", *arguments)

    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_the_line_of_a_broken_import_is_named(zmqservices, write):
    path = write("broken.py", "import os\n\nimport nothing_like_it\n")

    done = zmqservices("run", "broken")

    assert f"({path}, line 3)" in done.stderr
