"""The lecture's example, generated: "Will I pass this class?"."""

import torch

from multilayer.data.dataset import Dataset
from multilayer.data.table import Columns, Table


class PassClassDataset(Dataset):
    """Students, and whether they passed; the arguments are those of `Dataset`.

    Two features: the number of lectures attended (0 to 25) and the hours spent on the final
    project (0 to 50). Lectures and project compensate for each other only in part, so that the
    boundary is a curve; near it, chance decides.

    >>> PassClassDataset().load().features.shape
    torch.Size([600, 2])
    """

    task = "binary"

    def load(self) -> Table:
        """Generate 600 students, always the same."""
        generator = torch.Generator().manual_seed(0)
        lectures = torch.randint(0, 26, (600,), generator=generator).float()
        hours = torch.rand(600, generator=generator) * 50
        # Passing takes some of both: the product counts, with a little for either alone.
        score = (lectures / 25) * (hours / 50) * 3 + (lectures / 25 + hours / 50) / 2
        chance = torch.sigmoid(12 * (score - 1.15))
        passed = (torch.rand(600, generator=generator) < chance).long()
        return Table(
            torch.stack([lectures, hours], dim=1),  # (600,), (600,) -> (600, 2)
            passed,
            Columns(["lectures", "hours"], "passed", "binary", ["no", "yes"], times={}),
        )
