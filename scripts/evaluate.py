"""`multilayer evaluate` from a clone."""

import sys

from multilayer.cli.main import main

sys.exit(main(["evaluate", *sys.argv[1:]]))
