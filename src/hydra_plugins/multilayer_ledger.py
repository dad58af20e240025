"""Where Hydra looks for sweepers; it imports this at every start, so that it imports little."""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class LedgerSweeper(Sweeper):
    """`hydra/sweeper=ledger`: the jobs of a sweep's ledger; see `multilayer.cli.work`."""

    def __init__(self, **_: Any) -> None:
        """Hydra gives the options with references resolved once too often."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before the sweep."""
        self.context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Called by Hydra; the ledger knows what came of each job."""
        from multilayer.cli.work import Work

        options: Any = OmegaConf.to_container(self.config.hydra.sweeper, resolve=True)
        del options["_target_"]
        Work(self.context, self.config, self.launcher, **options).run()
