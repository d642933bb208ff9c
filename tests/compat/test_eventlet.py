"""`import eventlet` on gevent: the names that tests of Nameko applications use, and a sentence for every other one."""

import threading

import gevent
import pytest

from tests.compat.test_alias import python
from zmqservices.compat import eventlet_names as eventlet
from zmqservices.testing.utils import assert_stops_raising, wait_for_call


@pytest.fixture(autouse=True)
def bound_on_time():
    with gevent.Timeout(120):
        yield


# --- what is imported ------------------------------------------------------------------------------------------------


def test_the_names_are_found_where_they_are_asked_for(tmp_path):
    assert python(
        """
        from zmqservices import compat
        compat.install(eventlet=True)
        compat.install(eventlet=True)

        import eventlet
        from eventlet import corolocal, greenthread, event, sleep, spawn, Timeout, GreenPool, Semaphore
        from eventlet.event import Event
        from eventlet.greenthread import GreenThread
        from eventlet.queue import Queue
        import eventlet.patcher
        import nameko.rpc

        assert eventlet.Event is Event and eventlet.event.Event is Event and greenthread.spawn is spawn
        assert eventlet.spawn(lambda: 7).wait() == 7
        eventlet.monkey_patch()
        eventlet.monkey_patch()
        assert eventlet.patcher.is_monkey_patched("socket")
        print("found")
        """,
        tmp_path,
    ) == "found"


def test_every_other_name_says_what_to_use(tmp_path):
    lines = python(
        """
        from zmqservices import compat
        compat.install(eventlet=True)
        for line in ("from eventlet import wsgi", "import eventlet.green.urllib", "from eventlet.green import socket",
                     "from eventlet import whatever", "import eventlet; eventlet.hubs.use_hub()", "import eventlet.nothing"):
            try:
                exec(line)
            except ImportError as error:
                print(error)
        import eventlet
        print(hasattr(eventlet, "__path_to_nothing__"))
        """,
        tmp_path,
    ).splitlines()

    assert lines[0] == "eventlet has no wsgi: use @http of zmqservices.web.handlers, or gevent.pywsgi"
    assert all("eventlet.green is not here: run in a patched process" in line for line in lines[1:3])
    assert lines[3].startswith("eventlet has no whatever: this eventlet is a handful of names on gevent")
    assert lines[4] == "eventlet has no hubs: the hub is gevent's: gevent.get_hub()"
    assert lines[5].startswith("eventlet.nothing is not here: this eventlet is")
    assert lines[6] == "False"


def test_without_being_asked_for_it_is_not_there(tmp_path):
    (tmp_path / "eventlet.py").write_text("real = True\n")

    assert python("from zmqservices import compat; compat.install(); import eventlet; print(eventlet.real)", tmp_path) == "True"


def test_where_the_real_one_is_imported_it_is_refused_and_nothing_is_changed(tmp_path):
    (tmp_path / "eventlet.py").write_text("real = True\n")

    said = python(
        """
        import eventlet
        from zmqservices import compat
        try:
            compat.install(eventlet=True)
        except ImportError as error:
            print(error)
        print(compat.is_installed(), eventlet.real)
        """,
        tmp_path,
    ).splitlines()

    assert said[0].startswith("the real eventlet was imported already (from ")
    assert "call zmqservices.compat.install(eventlet=True) before anything imports eventlet" in said[0]
    assert said[1] == "False True"


def test_what_is_installed_is_hidden_until_uninstall(tmp_path):
    (tmp_path / "eventlet.py").write_text("real = True\n")

    assert python(
        """
        from zmqservices import compat
        compat.install(eventlet=True)
        import eventlet, eventlet.event
        print(hasattr(eventlet, "spawn"))
        compat.uninstall()
        import eventlet
        print(eventlet.real)
        """,
        tmp_path,
    ).split() == ["True", "True"]


def test_kombus_types_can_be_declared_where_kombu_is_not_installed(tmp_path):
    assert python(
        """
        import sys
        sys.path[:] = [entry for entry in sys.path if entry]
        from zmqservices import compat
        compat.install()
        from kombu import Exchange, Queue
        from kombu.messaging import Queue as Same
        from nameko.messaging import Consumer, Publisher, consume
        from nameko.containers import ServiceContainer

        class Old:
            name = "old"

            @consume(Queue("letters", exchange=Exchange("post")))
            def take(self, body):
                pass

        class Older:
            name = "older"
            publish = Publisher(exchange=Exchange("post"))

        assert Queue is Same and Queue("letters").name == "letters"
        for service in (Old, Older):
            try:
                ServiceContainer(service, {})
            except Exception as error:
                print(type(error).__name__, error)
        try:
            from kombu import Connection
        except ImportError as error:
            print(error)
        """,
        tmp_path,
    ).splitlines() == [
        "ConfigurationError old.take consumes <Queue 'letters': a declaration, without a broker>; there are no queues to "
        "consume, events that wait for their handlers are zmqservices.events: @event_handler and EventDispatcher",
        "ConfigurationError older.publish is a Publisher; there is no broker to publish to, events that wait for their handlers "
        "are zmqservices.events: @event_handler and EventDispatcher",
        "kombu has no Connection: there is no AMQP and no broker here; calls are zmqservices.rpc, events are zmqservices.events "
        "(docs/moving-from-nameko.rst has a table)",
    ]


def test_event_handlers_are_consumers_as_in_nameko():
    from zmqservices.events import EventHandler
    from zmqservices.messaging import Consumer

    assert issubclass(EventHandler, Consumer)
    assert EventHandler("orders", "paid").requeue_on_error is False


# --- how it behaves ----------------------------------------------------------------------------------------------------


def test_a_timeout_runs_from_its_making_and_can_be_cancelled():
    limit = eventlet.Timeout(0.01)
    with pytest.raises(eventlet.Timeout) as caught:
        gevent.sleep(10)
    assert caught.value is limit

    limit = eventlet.Timeout(0.01)
    limit.cancel()
    gevent.sleep(0.03)


def test_a_timeout_of_a_block_raises_what_it_is_told_or_nothing():
    with pytest.raises(KeyError), eventlet.Timeout(0.01, KeyError):
        gevent.sleep(10)
    with pytest.raises(eventlet.Timeout), eventlet.Timeout(0.01, True):
        gevent.sleep(10)
    with eventlet.Timeout(0.01, False):
        gevent.sleep(10)
    with eventlet.Timeout(None):
        gevent.sleep(0)
    assert eventlet.with_timeout(0.01, gevent.sleep, 10, timeout_value="late") == "late"
    assert eventlet.with_timeout(10, int, "7") == 7


def test_what_the_testing_kit_raises_is_an_eventlet_timeout_too():
    from unittest.mock import Mock

    mock = Mock()
    mock.method.called = False
    with pytest.raises(eventlet.Timeout), wait_for_call(0.01, mock.method):
        pass
    with pytest.raises(eventlet.Timeout):
        assert_stops_raising(lambda: int("x"), timeout=0.01, interval=0.001)


def test_a_green_thread_is_waited_for_linked_and_killed():
    ended = []
    thread = eventlet.spawn(lambda a, b: a + b, 1, b=2)
    thread.link(lambda which, word: ended.append((which is thread, word)), "word")

    assert thread.wait() == 3
    gevent.sleep(0)
    assert ended == [(True, "word")]

    sleeping = eventlet.spawn(gevent.sleep, 100)
    gevent.sleep(0)
    sleeping.kill()
    with pytest.raises(eventlet.GreenletExit):
        sleeping.wait()

    later = eventlet.spawn_after(100, ended.append, "never")
    later.cancel()
    assert later.dead and "never" not in ended


def test_a_pool_and_a_pile():
    pool = eventlet.GreenPool(2)
    gate = eventlet.Event()
    for _ in range(2):
        pool.spawn_n(gate.wait)
    assert (pool.running(), pool.free()) == (2, 0)
    gate.send()
    pool.waitall()

    assert list(pool.imap(str, range(3))) == ["0", "1", "2"]
    assert list(pool.starmap(max, [(1, 2), (4, 3)])) == [2, 4]
    pile = eventlet.GreenPile(2)
    for number in range(3):
        pile.spawn(str, number)
    assert list(pile) == ["0", "1", "2"]


def test_an_event_is_sent_once_until_it_is_reset():
    event = eventlet.Event()
    assert (event.ready(), event.poll("not yet"), event.wait(timeout=0.001)) == (False, "not yet", None)

    waiting = eventlet.spawn(event.wait)
    event.send(7)
    assert (waiting.wait(), event.wait(), event.poll(), event.has_result()) == (7, 7, 7, True)
    with pytest.raises(AssertionError, match="already-triggered"):
        event.send(8)

    event.reset()
    event.send(None, exc=(ValueError, ValueError("no"), None))
    assert event.has_exception()
    with pytest.raises(ValueError, match="no"):
        event.wait()
    event.reset()
    event.send_exception(KeyError)
    with pytest.raises(KeyError):
        event.wait()


def test_an_outer_time_limit_goes_through_the_wait_for_an_event():
    with pytest.raises(eventlet.Timeout), eventlet.Timeout(0.01):
        eventlet.Event().wait(timeout=10)


def test_each_greenlet_has_attributes_of_its_own_and_they_go_with_it():
    mine = eventlet.local()
    mine.word = "here"

    def elsewhere():
        assert not hasattr(mine, "word")
        mine.word = "there"
        return vars(mine)

    assert eventlet.spawn(elsewhere).wait() == {"word": "there"}
    assert (mine.word, vars(mine)) == ("here", {"word": "here"})
    del mine.word
    assert not hasattr(mine, "word")
    with pytest.raises(AttributeError):
        del mine.word
    gevent.sleep(0)
    assert list(mine._local__greens) == [gevent.getcurrent()]


def test_sockets_and_native_threads():
    listener = eventlet.listen(("127.0.0.1", 0))
    accepted = eventlet.spawn(listener.accept)
    client = eventlet.connect(listener.getsockname())
    server, _ = accepted.wait()
    server.sendall(b"hello")

    assert client.recv(5) == b"hello"
    assert eventlet.execute(threading.get_ident) != threading.get_ident()
    for each in (client, server, listener):
        each.close()
