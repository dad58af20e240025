"""`multilayer train` from a clone."""

import sys

from multilayer.cli.main import main

sys.exit(main(["train", *sys.argv[1:]]))
