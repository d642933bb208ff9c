"""The command `zmqservices`: runs services, and inspects and calls running ones.

Internal, except for the names that Nameko applications import. Users have the command line (docs/cli.rst).

Rule 1: the command reports a wrong command line, a wrong setting or an unknown service with a sentence on stderr and an exit code
(see `zmqservices.cli.main`), never with a traceback.
Rule 2: only this package monkey-patches the standard library, as the first action of `run`, `shell` and `test`. So its modules
import nothing heavy at their top; a command imports what it needs when it runs.
Rule 3: results go to stdout, everything else to stderr.
"""
