"""`python -m zmqservices` is the command `zmqservices`."""

import sys

from zmqservices.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
