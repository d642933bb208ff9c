"""Names on the command line are resolved to service classes."""

import json
import sys

import pytest

from zmqservices.cli import schema
from zmqservices.cli.main import main
from zmqservices.cli.nodes import NodeAnswer
from zmqservices.cli.run import import_service
from zmqservices.cli.services import import_services
from zmqservices.exceptions import CommandError, RemoteUnavailable

BASE = """
    from zmqservices.extensions import Entrypoint

    class Base:
        name = "base"

        @Entrypoint.decorator
        def method(self):
            pass
"""
SHOP = """
    from shop_base import Base

    class Plain:
        name = "plain"

    class Inheriting(Base):
        name = "inheriting"

    Alias = Base
    instance = Plain()
"""


@pytest.fixture(autouse=True)
def modules(write, tmp_path, monkeypatch):
    write("shop_base.py", BASE)
    write("shop.py", SHOP)
    write("plain_module.py", "class Plain:\n    name = 'plain'\n")
    write("broken_syntax.py", "def (:\n")
    write("broken_inside.py", "import sys\n1 / 0\n")
    (tmp_path / "package").mkdir()
    write("package/__init__.py", "")
    write("package/shop.py", "from shop_base import Base\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_20_every_class_with_entrypoints_is_a_service_imported_ones_too():
    assert [cls.__name__ for cls in import_service("shop")] == ["Base", "Inheriting"]


def test_one_class_can_be_named():
    assert [cls.__name__ for cls in import_service("shop:Inheriting")] == ["Inheriting"]


def test_a_named_class_needs_no_entrypoint():
    assert [cls.__name__ for cls in import_service("shop:Plain")] == ["Plain"]


def test_a_module_may_be_in_a_package():
    assert [cls.__name__ for cls in import_service("package.shop")] == ["Base"]


def test_a_class_that_is_named_twice_runs_once():
    assert [cls.__name__ for cls in import_services(["shop", "shop_base", "shop:Base"])] == ["Base", "Inheriting"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("shop.py", "'shop.py' is a file, not a module; did you mean 'shop'?"),
        ("package/shop.py", "did you mean 'package.shop'?"),
        ("./shop.py", "did you mean 'shop'?"),
        ("nowhere", "there is no module 'nowhere'"),
        ("nowhere.shop", "there is no module 'nowhere.shop'"),
        ("shop.nowhere", "there is no module 'shop.nowhere'"),
        ("shpo", "there is no module 'shpo' in this folder or on the Python path; did you mean 'shop'?"),
        ("package.shp", "did you mean 'package.shop'?"),
        ("shop:", "there is no class '' in the module 'shop'"),
        ("shop:Nobody", "there is no class 'Nobody' in the module 'shop'"),
        ("shop:instance", "a service is a class"),
        ("plain_module", "no service in the module 'plain_module'"),
        ("broken_syntax", "'broken_syntax' cannot be imported: SyntaxError"),
        ("broken_inside", "'broken_inside' cannot be imported: ZeroDivisionError: division by zero ("),
        ("", "cannot be imported"),
        (".shop", "cannot be imported"),
    ],
)
def test_a_target_that_cannot_be_run_is_reported_in_one_sentence(name, sentence):
    with pytest.raises(CommandError) as caught:
        import_services([name])

    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refused_declaration_is_reported_with_its_line(tmp_path, monkeypatch):
    (tmp_path / "declares_wrongly.py").write_text(
        "from zmqservices.rpc import rpc\n\n\nclass Shop:\n    name = 'shop'\n\n"
        "    @rpc\n    async def sell(self):\n        pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(CommandError) as caught:
        import_services(["declares_wrongly"])

    told = str(caught.value)
    assert told.startswith("the module 'declares_wrongly' cannot be imported: ConfigurationError: Rpc on Shop.sell")
    assert told.endswith(f"({tmp_path / 'declares_wrongly.py'}, line 7)")


@pytest.mark.parametrize("name", ["broken_syntax", ".shop"])
def test_if_no_line_of_the_module_ran_no_line_of_ours_is_named(name):
    with pytest.raises(CommandError) as caught:
        import_services([name])

    assert "zmqservices" not in str(caught.value) and "importlib" not in str(caught.value)


@pytest.mark.parametrize(("name", "error"), [("broken_syntax", SyntaxError), ("broken_inside:Shop", ZeroDivisionError)])
def test_import_service_passes_on_the_error_of_a_broken_module(name, error):
    with pytest.raises(error):
        import_service(name)


def test_import_service_passes_on_the_import_error_of_an_inner_import(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ImportError, match="^No module named 'no_such_module_at_all'$"):
        import_service("needs_more")


def test_schema_finds_a_module_in_this_folder(tmp_path, capsys, monkeypatch):
    text = "from zmqservices.rpc import rpc\nclass Here:\n    name = 'here'\n    @rpc\n    def there(self): pass\n"
    (tmp_path / "only_in_this_folder.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    # As for the command `zmqservices`; `python -m zmqservices` has the folder on its path.
    monkeypatch.setattr("sys.path", [each for each in sys.path if each not in ("", str(tmp_path))])

    assert main(["schema", "only_in_this_folder", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["info"]["title"] == "here"


def test_schema_says_where_a_module_is_broken_and_asks_no_service(write, capsys, monkeypatch):
    monkeypatch.setattr(schema, "ask_nodes", None)
    write("broken_here.py", "1 / 0")

    assert main(["schema", "broken_here:Orders"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: the module 'broken_here' cannot be imported: ZeroDivisionError") and "line 1)" in said


def test_schema_of_what_can_only_be_a_module_asks_no_service(capsys, monkeypatch):
    monkeypatch.setattr(schema, "ask_nodes", None)
    for name in ("nowhere:Orders", "nowhere.py"):
        assert main(["schema", name]) == 2
        assert "there is no module" in capsys.readouterr().err


def answering(*answers):
    return lambda flags, service, method, timeout: [
        NodeAnswer(f"tcp://10.0.0.{number}:4000", [service], 0.1, answer, "") for number, answer in enumerate(answers, 1)
    ]


def contract(version, service="some_orders"):
    return {"service": service, "instance": "one", "openapi": None, "asyncapi": {"info": {"version": version}}}


def test_schema_of_a_running_service_shows_each_of_the_contracts_of_its_instances_once(capsys, monkeypatch):
    told = [{"instances": [contract("1"), contract("9", "mails")], "problem": ""}, {"instances": [contract("1")], "problem": ""}]
    monkeypatch.setattr(schema, "ask_nodes", answering(*told))
    assert main(["schema", "some_orders", "--json", "--asyncapi"]) == 0
    said = capsys.readouterr()
    assert (json.loads(said.out), said.err) == ({"info": {"version": "1"}}, "")

    monkeypatch.setattr(schema, "ask_nodes", answering(*told, {"instances": [contract("2")], "problem": ""}))
    assert main(["schema", "some_orders", "--json"]) == 0
    said = capsys.readouterr()
    assert [one["info"]["version"] for one in json.loads(said.out)] == ["1", "2"]
    assert said.err == "the instances of some_orders have different contracts; here are all of them\n"


def test_schema_of_nothing_says_what_it_looked_for(capsys, monkeypatch):
    def unreachable(*args):
        raise RemoteUnavailable("no registry answers")

    monkeypatch.setattr(schema, "ask_nodes", unreachable)

    assert main(["schema", "some_orders"]) == 2
    said = capsys.readouterr().err
    assert "there is no module 'some_orders'" in said
    assert said.endswith("; nor can a running service be asked: no registry answers\n")


def test_schema_says_why_a_node_has_no_contract(capsys, monkeypatch):
    monkeypatch.setattr(schema, "ask_nodes", answering({"instances": [], "problem": "pydantic is not installed"}))

    assert main(["schema", "some_orders"]) == 2
    said = capsys.readouterr().err
    assert "no contract from tcp://10.0.0.1:4000: pydantic is not installed\n" in said
    assert said.endswith("no instance of some_orders can make its contract\n")
