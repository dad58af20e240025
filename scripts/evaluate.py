"""`multilayer evaluate` from a clone."""

import sys

from multilayer.cli import main

sys.exit(main(["evaluate", *sys.argv[1:]]))
