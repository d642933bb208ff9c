"""Services for Nameko from the command line, and nameko-sqlalchemy from PyPI as it is."""

import json
import os
import subprocess
import sys

import pytest

from tests.cli.conftest import HOME, fork_servers, servers, start, write, zmqservices
from tests.ports import free_port

__all__ = ["fork_servers", "servers", "start", "write", "zmqservices"]

pytestmark = pytest.mark.system
#: See tests/cli/conftest.py.
FRESH_PROCESSES = True

SERVICE = """
    from nameko.rpc import rpc

    class Greeting:
        name = "greeting"

        @rpc
        def hello(self, who):
            import nameko
            return f"Hello, {who}, from {nameko.__name__}!"
"""


@pytest.fixture
def environ():
    """A directory of the test's own."""
    return {"ZMQSERVICES_LOCAL_PORT": str(free_port())}


@pytest.mark.parametrize("options", [(), ("--processes", "1")])
def test_run_as_nameko(write, start, zmqservices, environ, options):
    write("greeting.py", SERVICE)

    start("run", "greeting", "--as-nameko", *options, **environ).until("Services started")

    answer = zmqservices("call", "greeting.hello", "Ada", **environ)
    assert json.loads(answer.stdout) == "Hello, Ada, from zmqservices!"


def test_without_the_option_the_module_cannot_be_imported(write, zmqservices, environ):
    write("greeting.py", SERVICE)

    done = zmqservices("run", "greeting", **environ)

    assert done.returncode == 2
    assert "No module named 'nameko'" in done.stderr


def test_shell_as_nameko(zmqservices, environ):
    done = zmqservices("shell", "--as-nameko", input="import nameko.rpc; print(nameko.rpc.rpc.__module__)\n", **environ)

    assert "zmqservices" in done.stdout


# --- nameko-sqlalchemy -----------------------------------------------------------------------------------------------

PRODUCTS = """
    from nameko.rpc import rpc
    from nameko_sqlalchemy import Database, DatabaseSession
    from sqlalchemy import Column, Integer, String, select
    from sqlalchemy.orm import declarative_base

    Base = declarative_base()

    class Product(Base):
        __tablename__ = "products"
        id = Column(Integer, primary_key=True)
        title = Column(String)

    class Products:
        name = "products"
        db = Database(Base)
        session = DatabaseSession(Base)

        @rpc
        def make(self):
            Base.metadata.create_all(self.db.session.get_bind())

        @rpc
        def add(self, title):
            with self.db.get_session() as session:
                product = Product(title=title)
                session.add(product)
                session.flush()
                return product.id

        @rpc
        def fail(self, title):
            with self.db.get_session() as session:
                session.add(Product(title=title))
                raise ValueError("rolled back")

        @rpc
        def titles(self):
            return list(self.session.scalars(select(Product.title).order_by(Product.id)))
"""


@pytest.fixture(scope="session")
def nameko_sqlalchemy(tmp_path_factory):
    """A folder with nameko-sqlalchemy and wrapt, without the nameko that they ask for."""
    folder = tmp_path_factory.mktemp("nameko-sqlalchemy")
    # What pip has built once it finds again: its cache is not the tests' own.
    environ = {key: value for key, value in os.environ.items() if key != "XDG_CACHE_HOME"}
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile",
         "--target", str(folder), "nameko-sqlalchemy==1.5.0", "wrapt"],
        capture_output=True, text=True, timeout=150, env=environ,
    )  # fmt: skip
    if fetched.returncode:
        reason = f"nameko-sqlalchemy could not be fetched: {fetched.stderr.strip()[-300:]}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(f"NOT TESTED: {reason}")
    return folder


@pytest.mark.timeout(240)  # The network may be slow.
def test_nameko_sqlalchemy_works_unmodified(tmp_path, write, start, zmqservices, environ, nameko_sqlalchemy):
    write("products.py", PRODUCTS)
    write("config.yaml", f'DB_URIS:\n  "products:Base": sqlite:///{tmp_path}/products.db\n')
    environ["PYTHONPATH"] = f"{nameko_sqlalchemy}:{HOME}"
    assert not (nameko_sqlalchemy / "nameko").exists()

    def call(*arguments):
        return zmqservices("call", *arguments, **environ)

    start("run", "products", "--as-nameko", "-c", "config.yaml", **environ).until("Services started")

    assert call("products.make").returncode == 0
    assert [call("products.add", title).stdout for title in ("tea", "coffee")] == ["1\n", "2\n"]
    assert "ValueError: rolled back" in call("products.fail", "milk").stderr
    assert json.loads(call("products.titles").stdout) == ["tea", "coffee"]
