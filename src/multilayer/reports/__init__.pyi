from .configs import ConfigResult as ConfigResult
from .configs import rank_configs as rank_configs
from .runs import SweepRun as SweepRun
from .summary import SweepFolder as SweepFolder
from .summary import print_sweep as print_sweep
from .sweep import Sweep as Sweep
from .sweep import find_sweep as find_sweep
from .sweep import open_sweep as open_sweep
