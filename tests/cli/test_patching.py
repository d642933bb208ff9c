"""Monkey-patching: all of the standard library is patched, `ssl` only when it is first imported. Gevent's plugins are called."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]

PATCHED = """
import sys, warnings
warnings.simplefilter("error")
from zmqservices.cli.patching import monkey_patch
monkey_patch()
"""


def run(program, *folders):
    """Run `program` in a new process that is patched like a service. Return its output."""
    path = os.pathsep.join([str(HOME), *map(str, folders)])
    done = subprocess.run(
        [sys.executable, "-c", PATCHED + textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_service_does_without_openssl_until_it_asks_for_it():
    said = run(
        """
        import zmqservices.runners, zmqservices.rpc, zmqservices.timer, discovery.backends.registries
        print(sorted({"ssl", "_ssl", "hashlib", "_hashlib", "yaml", "logging.config"} & set(sys.modules)))
        import ssl
        print(ssl.SSLContext.__module__)
        """
    )

    assert said == ["[]", "gevent.ssl"]


WAYS = {
    "import ssl": "import ssl",
    "from ssl": "from ssl import SSLContext",
    "by another library": "import urllib.request",
    "gevent's first": "import gevent.ssl",
    "patched by name": "from gevent import monkey; monkey.patch_ssl()",
    "patched again": "from gevent import monkey; monkey.patch_all(); import ssl",
    "in a thread": "import gevent; gevent.get_hub().threadpool.apply(__import__, ('ssl',))",
    "side by side": "import gevent; gevent.joinall([gevent.spawn(__import__, 'ssl') for _ in range(3)], raise_error=True)",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_ssl_is_patched_whichever_way_it_is_first_imported(way):
    said = run(
        f"""
        {way}
        import inspect, ssl, gevent.ssl
        from gevent import monkey
        print(ssl.SSLContext is gevent.ssl.SSLContext, ssl.SSLSocket is gevent.ssl.SSLSocket)
        print(monkey.is_module_patched("ssl"), monkey.get_original("ssl", "SSLContext").__module__)
        # The module is what it would have been: nothing of the detour is left.
        loader = ssl.__spec__.loader
        print(type(loader).__name__, ssl.__loader__ is loader, "class SSLObject" in inspect.getsource(ssl))
        print([finder for finder in sys.meta_path if "patching" in type(finder).__module__])
        """
    )

    assert said == ["True True", "True ssl", "SourceFileLoader True True", "[]"]


def test_modules_imported_before_are_patched_at_once():
    done = subprocess.run(
        [sys.executable, "-c", f"import ssl{PATCHED}\nprint(ssl.SSLContext.__module__)"],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.stdout, done.stderr) == ("gevent.ssl\n", "")


def test_two_greenlets_of_one_thread_speak_tls():
    """A handshake that blocked the thread would never end: its other side runs in the same one."""
    said = run(
        """
        import gevent, socket, ssl

        def context(purpose):
            made = ssl.SSLContext(purpose)
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
            made.maximum_version = ssl.TLSVersion.TLSv1_2
            made.set_ciphers("aNULL:@SECLEVEL=0")  # Nobody needs a certificate.
            return made

        here, there = socket.socketpair()

        def serve():
            with context(ssl.PROTOCOL_TLS_SERVER).wrap_socket(there, server_side=True) as end:
                end.sendall(end.recv(100).upper())

        server = gevent.spawn(serve)
        with gevent.Timeout(30), context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(here) as end:
            end.sendall(b"hello")
            print(end.recv(100))
            server.get()
        """
    )

    assert said == ["b'HELLO'"]


def test_gevents_patching_plugins_are_called(tmp_path):
    folder = tmp_path / "listener-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: listener\nVersion: 1.0\n", "utf-8")
    (folder / "entry_points.txt").write_text(
        "[gevent.plugins.monkey.did_patch_module]\nlistener = listener:told\n", "utf-8"
    )
    (tmp_path / "listener.py").write_text(
        "names = []\ndef told(event):\n    names.append(event.module_name)\n", "utf-8"
    )
    said = run(
        """
        import listener
        from importlib import metadata
        print({"time", "threading", "socket", "select"} <= set(listener.names))
        import ssl
        print("ssl" in listener.names)
        print(metadata.entry_points.__module__)
        """,
        tmp_path,
    )

    assert said == ["True", "True", "importlib.metadata"]
