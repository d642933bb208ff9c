"""Replaces Nameko's command classes, which do not exist here: each command is a click command in a module of this package."""

from zmqservices.removed import removed_names

__getattr__ = removed_names(
    __name__,
    {
        "Run": "use zmqservices.cli.run.run_command, or `run` there to run services from Python",
        "Shell": "use zmqservices.cli.shell.shell_command",
        "ShowConfig": "use zmqservices.cli.show_config.show_config_command",
        "Backdoor": "use zmqservices.cli.backdoor.backdoor_command",
        "Test": "use zmqservices.cli.testing.test_command",
        "Command": "commands are click commands; see zmqservices.cli.main.COMMANDS",
        "commands": "use zmqservices.cli.main.COMMANDS",
    },
)
