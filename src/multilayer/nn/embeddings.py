"""First layers that map features to learnt vectors."""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from multilayer.nn.mlp import MLP

if TYPE_CHECKING:
    from rtdl_num_embeddings import PeriodicEmbeddings


class CategoryEmbeddings(nn.Module):
    """A learnt vector for each label of a categorical column, in place of its one-hot features.

    Maps `(B, n_numbers + sum(sizes))` to `(B, n_features)`. A row with none of a column's labels
    has a vector of zeros.

    Args:
        n_numbers: the features before those of the categories, which pass unchanged.
        sizes: the number of one-hot features of each categorical column.

    Attributes:
        n_features: the width of the output.

    >>> layer = CategoryEmbeddings(2, [3, 20])
    >>> layer.n_features, layer(torch.zeros(5, 25)).shape
    (14, torch.Size([5, 14]))
    """

    def __init__(self, n_numbers: int, sizes: Sequence[int]) -> None:
        super().__init__()
        widths = [_embedding_width(size) for size in sizes]
        self.sizes = [n_numbers, *sizes]
        self.n_features = n_numbers + sum(widths)
        self.vectors = nn.ParameterList(map(torch.randn, sizes, widths))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_numbers + sum(sizes))` to `(B, n_features)`."""
        numbers, *one_hot = torch.split(x, self.sizes, dim=1)
        embedded = [part @ own for part, own in zip(one_hot, self.vectors, strict=True)]
        return torch.cat([numbers, *embedded], dim=1)


def _embedding_width(n_labels: int) -> int:
    """The rule of thumb of fastai (Howard and Gugger 2020): `1.6 n^0.56`, at most 50.

    >>> _embedding_width(3), _embedding_width(20), _embedding_width(10_000)
    (3, 9, 50)
    """
    return int(min(50, ceil(1.6 * n_labels**0.56)))


class NumberEmbeddings(nn.Module):
    """A vector for each number, made of periodic functions of it whose frequencies are learnt.

    Periodic, linear, relu: "PLR" of Gorishniy, Rubachev and Babenko 2022, by the authors' package.
    Maps `(B, n_features)` to `(B, n_numbers * d_embedding + n_features - n_numbers)`.

    Args:
        embeddings: those of the first features; the other features pass unchanged.
    """

    def __init__(self, embeddings: "PeriodicEmbeddings") -> None:
        super().__init__()
        self.embeddings = embeddings
        self.n_numbers = embeddings.get_output_shape()[0]

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to the vectors, concatenated, and the other features."""
        vectors = self.embeddings(x[:, : self.n_numbers]).flatten(1)  # (B, n, d) -> (B, n * d)
        return torch.cat([vectors, x[:, self.n_numbers :]], dim=1)


class PLRMLP(MLP):
    """A multilayer perceptron whose numeric features are embedded by learnt periodic functions.

    Maps `(B, n_features)` to `(B, n_outputs)`.

    Args:
        n_features: the width of the input.
        n_outputs: the width of the output.
        n_numbers: the number of numeric features, which come first.
        d_embedding: the length of the vector for each of them.
        n_frequencies: the number of frequencies for each of them.
        frequency_scale: the standard deviation of the initial frequencies. It matters: larger ones
            fit finer detail.
        lite: whether all features share one linear layer.
        mlp: the other arguments of `MLP`.

    Raises:
        ValueError: `n_numbers` is not from 1 to `n_features`.

    >>> network = PLRMLP(6, 3, n_numbers=4, d_embedding=8, d_hidden=[16])
    >>> network(torch.zeros(5, 6)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        *,
        n_numbers: int,
        d_embedding: int = 24,
        n_frequencies: int = 48,
        frequency_scale: float = 0.01,
        lite: bool = False,
        **mlp: Any,
    ) -> None:
        if not 1 <= n_numbers <= n_features:
            raise ValueError(f"n_numbers must be from 1 to {n_features}, got {n_numbers}")
        from rtdl_num_embeddings import PeriodicEmbeddings  # imports scikit-learn: half a second

        embeddings = PeriodicEmbeddings(
            n_numbers,
            d_embedding,
            n_frequencies=n_frequencies,
            frequency_init_scale=frequency_scale,
            lite=lite,
        )
        d_first = n_numbers * d_embedding + n_features - n_numbers
        super().__init__(d_first, n_outputs, **mlp)
        self.insert(0, NumberEmbeddings(embeddings))
