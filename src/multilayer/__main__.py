"""`python -m multilayer` is the `multilayer` command."""

import sys

from multilayer.cli import main

sys.exit(main())
