"""The classifier over one view or several: standardise, project, put side by side, classify."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# Share of the views hidden from each training sample: the model learns not to lean on the strongest one alone, and
# to do without one that is absent.
VIEW_DROPOUT = 0.2


class Projection(nn.Module):
    """One view, standardised and projected; a sample without it counts as average, which is zero."""

    mean_D: Tensor
    scale_D: Tensor

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(dim))
        self.register_buffer("scale_D", torch.ones(dim))
        self.linear = nn.Linear(dim, hidden)

    def forward(self, vectors_BD: Tensor, present_B: Tensor) -> Tensor:
        standardised_BD = (vectors_BD - self.mean_D) * self.scale_D
        projected_BH: Tensor = self.linear(standardised_BD * present_B[:, None])
        return projected_BH


class FusionModel(nn.Module):
    """Fusion by concatenation; over a single view it is that view's own classifier, of the same shape.

    Which views are present is an input of its own, so that an absent one is told apart from an average one.
    """

    def __init__(self, dims: Sequence[int], num_classes: int, *, hidden: int, dropout: float) -> None:
        super().__init__()
        self.projections = nn.ModuleList(Projection(dim, hidden) for dim in dims)
        self.dropout = nn.Dropout(dropout)
        self.joint = nn.Linear(len(dims) * (hidden + 1), hidden)
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, vectors: Sequence[Tensor], present_BV: Tensor) -> Tensor:
        """Logits [sample, class] of vectors, float32 [sample, dim] a view, and present_BV, bool [sample, view]."""
        if self.training and len(self.projections) > 1:
            present_BV = present_BV & (torch.rand(present_BV.shape) >= VIEW_DROPOUT)
        projected = [
            self.dropout(torch.relu(projection(vectors_BD, present_B)))
            for projection, vectors_BD, present_B in zip(self.projections, vectors, present_BV.unbind(1), strict=True)
        ]
        joint_BH = torch.relu(self.joint(torch.cat([*projected, present_BV.float()], dim=1)))
        logits_BC: Tensor = self.head(self.dropout(joint_BH))
        return logits_BC


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """One thread, deterministic kernels and a seeded generator in the block; the caller's are put back after it."""
    num_threads = torch.get_num_threads()
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)  # how many threads share a sum decides its last bits
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was_deterministic)
            torch.set_num_threads(num_threads)
