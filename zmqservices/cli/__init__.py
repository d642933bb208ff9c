"""The command `zmqservices`: runs services, and asks running ones.

Internal, but for the names that Nameko applications import. Users have the command line (docs/cli.rst).

Rule 1: a wrong command line, a wrong setting, a service that is not there: a sentence on stderr and an exit
code (see `zmqservices.cli.main`), never a traceback.
Rule 2: only here is the standard library monkey-patched, as the first thing that `run`, `shell` and `test`
do. So modules of this package import nothing heavy at their top; what a command needs, it imports when it
runs.
Rule 3: results go to stdout, everything else to stderr.
"""
