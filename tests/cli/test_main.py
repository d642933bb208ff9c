"""The command line itself: help, versions, errors, exit codes, completion."""

import ast
from pathlib import Path

import pytest
from click.testing import CliRunner

import discovery
from zmqservices import exceptions
from zmqservices.cli import main as main_module
from zmqservices.cli.main import COMMANDS, cli, exit_code, main, sentence

HOME = Path(__file__).resolve().parents[2]
#: See tests/cli/conftest.py.
FRESH_PROCESSES = True


def test_nameko_names_of_commands_exist():
    from zmqservices.cli.main import ENV_VAR_MATCHER, env_var_constructor, setup_yaml_parser
    from zmqservices.cli.run import import_service, run, setup_backdoor
    from zmqservices.cli.shell import ShellRunner, make_nameko_helper

    assert ENV_VAR_MATCHER.fullmatch("${A:b}").groups() == ("A", "b")
    assert ENV_VAR_MATCHER.fullmatch("${A}").groups() == ENV_VAR_MATCHER.fullmatch("${A:}").groups() == ("A", None)
    assert ENV_VAR_MATCHER.fullmatch("${A:${B:{c}}}").groups() == ("A", "${B:{c}}")
    assert ENV_VAR_MATCHER.findall("${A:${B:c}} and ${D:e}") == [("A", "${B:c}"), ("D", "e")]
    assert ENV_VAR_MATCHER.search("${A B}") is None and ENV_VAR_MATCHER.search("${A:{b}") is None
    assert all(
        callable(one)
        for one in [
            env_var_constructor,
            setup_yaml_parser,
            import_service,
            run,
            setup_backdoor,
            ShellRunner,
            make_nameko_helper,
        ]
    )


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0

    shown = capsys.readouterr().out
    assert all(f"\n  {command}" in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example(command, capsys):
    assert main([command, "--help"]) == 0

    shown = capsys.readouterr().out
    assert "Example" in shown
    assert f"zmqservices {command}" in shown


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_the_version_is_printed(flag, capsys):
    assert main([flag]) == 0
    assert capsys.readouterr().out.startswith("zmqservices ")


def test_a_mistyped_command_gets_a_suggestion(capsys):
    assert main(["rum"]) == 2
    assert "no such command 'rum'; did you mean 'run'?" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys):
    main([])

    shown = capsys.readouterr()
    assert "Usage: zmqservices" in shown.out + shown.err


@pytest.mark.parametrize("text", ["novalue", "=5", "a=[1"])
def test_an_invalid_definition_is_reported(text, capsys):
    assert main(["show-config", "-d", text]) == 2

    assert "Error: " in capsys.readouterr().err


ERRORS = [
    (exceptions.ConfigurationError("max_workers is 'ten'"), 2, "max_workers is 'ten'"),
    (exceptions.CommandError("no"), 2, "no"),
    (exceptions.UnknownService("maths", "gone"), 3, "Unknown service `maths`: gone"),
    (exceptions.RpcTimeout("after 1 s"), 4, "RpcTimeout: after 1 s"),
    (exceptions.RemoteError("ValueError", "boom"), 1, "ValueError: boom"),
    (exceptions.RemoteError("ValueError", ""), 1, "ValueError"),
    (exceptions.MethodNotFound("frobnicate"), 1, "MethodNotFound: frobnicate"),
    (exceptions.IncorrectSignature("missing a"), 1, "IncorrectSignature: missing a"),
    (exceptions.Overloaded("full"), 5, "Overloaded: full"),
    (exceptions.MaybeExecuted("lost"), 5, "MaybeExecuted: lost"),
    (exceptions.MessageTooLarge(), 5, "MessageTooLarge"),
    (discovery.DirectoryConfigurationError("bad url"), 2, "bad url"),
    (discovery.DirectoryError("gone"), 5, "DirectoryError: gone"),
]


@pytest.mark.parametrize(("error", "code", "text"), ERRORS, ids=[repr(row[0]) for row in ERRORS])
def test_an_error_is_a_sentence_and_an_exit_code(error, code, text, monkeypatch, capsys):
    def failing(**_):
        raise error

    monkeypatch.setattr(main_module.cli, "main", failing)

    assert main([]) == code
    assert capsys.readouterr().err == f"Error: {text}\n"


def test_an_error_of_any_class_from_a_service_is_a_remote_error():
    error = KeyError("x")
    error.__cause__ = exceptions.RemoteTraceback("Traceback ...")

    assert exit_code(error) == 1
    assert sentence(error) == "KeyError: 'x'"


def test_a_bug_shows_its_traceback(monkeypatch):
    def failing(**_):
        raise ZeroDivisionError

    monkeypatch.setattr(main_module.cli, "main", failing)

    with pytest.raises(ZeroDivisionError):
        main([])


def test_ctrl_c_shows_no_traceback(monkeypatch):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module.cli, "main", interrupted)

    assert main([]) == 130


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_completion_script(shell):
    done = CliRunner().invoke(cli, ["completion", shell])

    assert done.exit_code == 0
    assert "_ZMQSERVICES_COMPLETE" in done.output


def test_completion_knows_the_commands(zmqservices):
    done = zmqservices(_ZMQSERVICES_COMPLETE="bash_complete", COMP_WORDS="zmqservices i", COMP_CWORD="1")

    assert done.stdout == "plain,inspect\nplain,info\n"


def test_python_m_is_the_same_command(zmqservices):
    assert "Usage: zmqservices [OPTIONS] COMMAND" in zmqservices("--help").stdout


def test_output_to_a_pipe_has_no_colours(zmqservices):
    done = zmqservices("run", "nowhere")

    assert done.stderr == "Error: there is no module 'nowhere' in this folder or on the Python path\n"


# --- monkey-patching


def calls_of_patching(path):
    """The calls of gevent.monkey.patch_*() in a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name.startswith("patch_") and not name.startswith("patch_object"):
                yield f"{path.relative_to(HOME)}:{node.lineno} {name}"


def test_only_the_command_line_patches_the_standard_library():
    files = [*HOME.glob("zmqservices/**/*.py"), *HOME.glob("discovery/**/*.py")]
    found = [call for path in files for call in calls_of_patching(path)]

    assert len(files) > 30
    # The other is what an application's own call of eventlet.monkey_patch() does, where it asked for eventlet's names.
    assert {call.split(":")[0] for call in found} == {"zmqservices/cli/patching.py", "zmqservices/compat/eventlet_names.py"}


def test_importing_the_command_line_patches_nothing_and_imports_nothing_heavy(zmqservices, write, tmp_path):
    import os
    import subprocess
    import sys

    program = (
        "import sys, importlib\n"
        "from zmqservices.cli.main import COMMANDS\n"
        "[importlib.import_module(module) for module in COMMANDS.values()]\n"
        "print([name for name in ('gevent', 'zmq', 'ssl', 'socket', 'subprocess') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert (done.stdout, done.stderr) == ("[]\n", "")
