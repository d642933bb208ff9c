"""Services for Nameko from the command line, and nameko-sqlalchemy from PyPI as it is."""

import os
import platform
import shutil
import subprocess
import sys

import pytest

from tests.cli.conftest import HOME, fork_servers, servers, start, write, zmqservices
from tests.ports import free_port
from zmqservices.exceptions import RemoteError
from zmqservices.standalone.rpc import ClusterRpcProxy

__all__ = ["fork_servers", "servers", "start", "write", "zmqservices"]

pytestmark = pytest.mark.system
#: See tests/cli/conftest.py.
FRESH_PROCESSES = True

NAMEKO_SQLALCHEMY = "nameko-sqlalchemy==1.5.0"

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


def client(environ):
    """A proxy of the services that run in this environment."""
    return ClusterRpcProxy({"DIRECTORY": f"local:{environ['ZMQSERVICES_LOCAL_PORT']}"}, timeout=60)


@pytest.mark.parametrize("options", [(), ("--processes", "1")])
def test_run_as_nameko(write, start, environ, options):
    write("greeting.py", SERVICE)

    start("run", "greeting", "--as-nameko", *options, **environ).until("Services started")

    with client(environ) as cluster:
        assert cluster.greeting.hello("Ada") == "Hello, Ada, from zmqservices!"


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
def nameko_sqlalchemy(tmp_path_factory, pytestconfig):
    """A folder with nameko-sqlalchemy and wrapt, without the nameko that they ask for. It is fetched once, not in each run."""
    version = f"{sys.implementation.cache_tag}-{platform.machine()}"
    kept = pytestconfig.cache.mkdir("nameko-sqlalchemy") / f"{NAMEKO_SQLALCHEMY}-{version}"
    if kept.exists():
        return kept
    folder = tmp_path_factory.mktemp("nameko-sqlalchemy")
    # What pip has built once it finds again: its cache is not the tests' own.
    environ = {key: value for key, value in os.environ.items() if key != "XDG_CACHE_HOME"}
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile",
         "--target", str(folder), NAMEKO_SQLALCHEMY, "wrapt"],
        capture_output=True, text=True, timeout=150, env=environ,
    )  # fmt: skip
    if fetched.returncode:
        reason = f"nameko-sqlalchemy could not be fetched: {fetched.stderr.strip()[-300:]}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(f"NOT TESTED: {reason}")
    # It gets its place under its name in one step: nobody finds a part of it.
    whole = kept.with_name(f"{kept.name}.{os.getpid()}")
    shutil.copytree(folder, whole)
    try:
        return whole.rename(kept)
    except OSError:
        assert kept.exists()  # Another run was first.
        return kept


@pytest.mark.timeout(240)  # The network may be slow.
def test_nameko_sqlalchemy_works_unmodified(tmp_path, write, start, environ, nameko_sqlalchemy):
    write("products.py", PRODUCTS)
    write("config.yaml", f'DB_URIS:\n  "products:Base": sqlite:///{tmp_path}/products.db\n')
    environ["PYTHONPATH"] = f"{nameko_sqlalchemy}:{HOME}"
    assert not (nameko_sqlalchemy / "nameko").exists()

    start("run", "products", "--as-nameko", "-c", "config.yaml", **environ).until("Services started")

    with client(environ) as cluster:
        cluster.products.make()
        assert [cluster.products.add(title) for title in ("tea", "coffee")] == [1, 2]
        with pytest.raises(RemoteError, match="ValueError rolled back"):
            cluster.products.fail("milk")
        assert cluster.products.titles() == ["tea", "coffee"]
