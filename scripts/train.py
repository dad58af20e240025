"""`multilayer train` from a clone."""

import sys

from multilayer.cli.main import command

command(["train", *sys.argv[1:]])
