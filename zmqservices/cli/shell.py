"""`zmqservices shell`: opens a Python prompt that can call services and dispatch events."""

from __future__ import annotations

import code
import os
import platform
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from zmqservices import configuration
from zmqservices.cli.options import AS_NAMEKO, INSECURE, Flags, be_nameko, takes_settings
from zmqservices.cli.patching import import_from_here, monkey_patch
from zmqservices.exceptions import CommandError

INTERFACES = ("bpython", "ipython", "plain")


@click.command("shell")
@takes_settings
@AS_NAMEKO
@INSECURE
@click.option("--interface", type=click.Choice(INTERFACES), help="The prompt to open. [default: the first that is installed]")
def shell_command(flags: Flags, as_nameko: bool, insecure: bool, interface: str | None) -> int:
    """Open a Python prompt that can call services and dispatch events.

    At the prompt, n.rpc.SERVICE.METHOD(...) calls a method, n.dispatch_event(SERVICE, TYPE, DATA) dispatches an event,
    n.config has the settings, and n.disconnect() disconnects.

    \b
    Examples:
        zmqservices shell
        echo 'print(n.rpc.maths.add(2, 3))' | zmqservices shell

    If the input comes from a pipe or a file, the first error ends the shell with its traceback and exit code 1. The shell
    runs the file that PYTHONSTARTUP names.
    """
    monkey_patch()
    import_from_here()
    if as_nameko:
        be_nameko()
    settings = replace(flags, insecure=insecure).setup()
    helper = make_nameko_helper(settings)
    try:
        runner = ShellRunner(banner(settings), {"n": helper})
        runner.start_shell(interface)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except ErrorInScript as error:
        click.echo(error.text, err=True, nl=False)
        return 1
    finally:
        helper.disconnect()
    return 0


def banner(settings: Mapping[str, Any]) -> str:
    """The text before the first prompt."""
    from discovery.model import shown_url

    where = shown_url(configuration.directory_url(settings))
    return (
        f"zmqservices on Python {platform.python_version()}, directory {where}, "
        f"namespace {configuration.namespace(settings)}\n"
        "n.rpc.SERVICE.METHOD(...) calls; n.dispatch_event(SERVICE, TYPE, DATA), n.config, n.disconnect()"
    )


class Helper:
    """The object `n` of a shell."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        from zmqservices.standalone.events import event_dispatcher
        from zmqservices.standalone.rpc import ClusterRpcProxy

        self.config = config
        self._client = ClusterRpcProxy(config)
        #: All services: `rpc.maths.add(2, 3)`, `rpc["a-name"].method()`.
        self.rpc: Any = self._client.start()
        #: `dispatch_event(service_name, event_type, event_data)`; returns once the event is kept.
        self.dispatch_event = event_dispatcher(config)

    def disconnect(self) -> None:
        """Disconnect from all services. `rpc` and `dispatch_event` cannot be used afterwards."""
        self.dispatch_event.stop()
        self._client.stop()

    def __repr__(self) -> str:
        return "<n: n.rpc.SERVICE.METHOD(...), n.dispatch_event(SERVICE, TYPE, DATA), n.config, n.disconnect()>"


def make_nameko_helper(config: Mapping[str, Any]) -> Helper:
    """Make the object `n` of a shell, and connect it with these settings."""
    return Helper(config)


class ErrorInScript(Exception):
    """A statement of a script raised an error; `text` is the traceback."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)


class ScriptConsole(code.InteractiveConsole):
    """Runs statements as it reads them, and stops at the first error."""

    def showtraceback(self) -> None:
        kind, error, trace = sys.exc_info()
        # The first frame is the console's own.
        lines = traceback.format_exception(kind, error, trace.tb_next if trace else None)
        raise ErrorInScript("".join(lines))

    def showsyntaxerror(self, filename: str | None = None, **kwargs: object) -> None:
        raise ErrorInScript("".join(traceback.format_exception_only(*sys.exc_info()[:2])))


class ShellRunner:
    """A prompt in one of the installed interfaces.

    `local`: the names that the prompt knows.
    """

    def __init__(self, banner: str, local: dict[str, Any]) -> None:
        self.banner = banner
        self.local = local

    def start_shell(self, name: str | None = None) -> None:
        """Open the interface `name`, or the first that is installed. Runs a script if stdin is no terminal.

        Returns when the user leaves. Raises ErrorInScript if a statement of a script fails, and CommandError if the
        interface `name` is not installed.
        """
        self.run_startup_file()
        if not sys.stdin.isatty():
            self.script()
            return
        for candidate in [name] if name else INTERFACES:
            try:
                getattr(self, candidate)()
                return
            except ImportError as error:
                if name:
                    raise CommandError(f"{name} is not installed; `pip install {name}` brings it") from error

    def run_startup_file(self) -> None:
        """Run the file that PYTHONSTARTUP names, with the names of the prompt."""
        path = os.environ.pop("PYTHONSTARTUP", "")
        if path and os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                exec(compile(file.read(), path, "exec"), self.local)  # nosec B102  # the user's own PYTHONSTARTUP, as Python runs it

    def bpython(self) -> None:
        """Open bpython. Raises ImportError if it is not installed."""
        import bpython  # type: ignore[import-not-found,unused-ignore]

        bpython.embed(banner=self.banner, locals_=self.local)

    def ipython(self) -> None:
        """Open IPython. Raises ImportError if it is not installed."""
        from IPython import embed  # type: ignore[import-not-found,unused-ignore]

        embed(banner1=self.banner, user_ns=self.local, colors="neutral")

    def plain(self) -> None:
        """Open Python's own prompt, with completion if readline is installed."""
        try:
            import readline
            import rlcompleter

            readline.set_completer(rlcompleter.Completer(self.local).complete)
            readline.parse_and_bind("tab: complete")
        except ImportError:
            pass
        code.interact(self.banner, local=self.local, exitmsg="")

    def script(self) -> None:
        """Run the statements of stdin, without prompts, up to the first error."""
        console = ScriptConsole(self.local)
        has_more = False
        for line in sys.stdin:
            has_more = console.push(line.rstrip("\n"))
        if has_more:
            console.push("")
