"""`multilayer predict` from a clone."""

import sys

from multilayer.cli.main import main

sys.exit(main(["predict", *sys.argv[1:]]))
