"""Where Hydra looks for sweepers; it imports this at every start, so that it imports little."""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser


class GridSweeper(BasicSweeper):
    """`hydra/sweeper=grid`: Hydra's own grid, with a ledger; see `multilayer.cli.grid`."""

    def sweep(self, arguments: list[str]) -> Any:
        """Called by Hydra with the command line; returns what came of each job."""
        from multilayer.cli.grid import GridSweep

        assert self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        (jobs,) = self.split_arguments(overrides, max_batch_size=None)
        sweep = GridSweep(self.hydra_context, self.config, self.launcher, self.max_batch_size)
        return sweep.run(jobs)
