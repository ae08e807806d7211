"""How the fusion models are built and trained."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """hidden: width of each view's projection and of the head; patience: epochs without a better val loss."""

    seed: int
    hidden: int
    dropout: float
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    weight_decay: float
