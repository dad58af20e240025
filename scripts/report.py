"""`multilayer report` from a clone."""

import sys

from multilayer.cli.main import command

command(["report", *sys.argv[1:]])
