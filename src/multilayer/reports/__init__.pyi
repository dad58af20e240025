from .summary import SweepFolder as SweepFolder
