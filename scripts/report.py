"""`multilayer report` from a clone."""

import sys

from multilayer.cli.main import main

sys.exit(main(["report", *sys.argv[1:]]))
