"""First layers that turn features into vectors which are learnt."""

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor, nn


class CategoryEmbeddings(nn.Module):
    """A vector for each label of a column of categories, in place of its one-hot features.

    A row without any of a column's labels has a vector of zeros.

    n_numbers: the features before those of the categories, which pass as they are.
    sizes: for each column of categories how many one-hot features it has.

    **Shape**

    - Input: `(B, n_numbers + sum(sizes))`
    - Output: `(B, n_features)`

    >>> layer = CategoryEmbeddings(2, [3, 20])
    >>> layer.n_features, layer(torch.zeros(5, 25)).shape
    (14, torch.Size([5, 14]))
    """

    def __init__(self, n_numbers: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = [n_numbers, *sizes]
        self.vectors = nn.ParameterList(
            [torch.randn(size, embedding_width(size)) for size in sizes]
        )

    @property
    def n_features(self) -> int:
        """The width of its output."""
        widths = [embedding_width(size) for size in self.sizes[1:]]
        return self.sizes[0] + sum(widths)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_numbers + sum(sizes))` to `(B, n_features)`."""
        numbers, *one_hot = torch.split(x, self.sizes, dim=1)
        embedded = [part @ own for part, own in zip(one_hot, self.vectors, strict=True)]
        return torch.cat([numbers, *embedded], dim=1)


def embedding_width(n_labels: int) -> int:
    """The rule of thumb of fastai (Howard and Gugger 2020): `1.6 n^0.56`, at most 50.

    >>> embedding_width(3), embedding_width(20), embedding_width(10_000)
    (3, 9, 50)
    """
    return int(min(50, ceil(1.6 * n_labels**0.56)))
