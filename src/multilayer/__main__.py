"""`python -m multilayer` is the `multilayer` command."""

import sys

from multilayer.cli.main import main

sys.exit(main())
