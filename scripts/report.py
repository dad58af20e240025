"""`multilayer report` from a clone."""

import sys

from multilayer.cli import main

sys.exit(main(["report", *sys.argv[1:]]))
