"""`multilayer predict` from a clone."""

import sys

from multilayer.cli.main import command

command(["predict", *sys.argv[1:]])
