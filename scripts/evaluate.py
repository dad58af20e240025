"""`multilayer evaluate` from a clone."""

import sys

from multilayer.cli.main import command

command(["evaluate", *sys.argv[1:]])
