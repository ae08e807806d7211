"""What a model's predictions are worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

NUM_DRAWS = 2000
_SEED = 0  # of the draws: the same predictions always have the same interval
DIGITS = 6  # of a written score: beyond them is noise of the machine


def score(actual: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """Accuracy and macro precision, recall and F1; a class that is never predicted, or never occurs, has 0."""
    precision, recall, f1, _ = precision_recall_fscore_support(actual, predicted, average="macro", zero_division=0)
    scores = {"accuracy": accuracy_score(actual, predicted), "precision": precision, "recall": recall, "f1": f1}
    return {name: round(float(value), DIGITS) for name, value in scores.items()}


@dataclass(frozen=True)
class Gain:
    """How much more accurate one model is than another on the same rows, with its 95% interval over the groups; a
    single group gives no interval."""

    gain: float
    low: float | None
    high: float | None
    num_groups: int


def paired_gain(right: Sequence[bool], right_before: Sequence[bool], groups: Sequence[str]) -> Gain:
    """Accuracy gained, with an interval by paired bootstrap: whole groups are drawn with replacement, NUM_DRAWS
    times, since rows of one group (a speaker, a recording) are not independent evidence.

    The interval does not know that the model to beat was chosen on these rows, which only makes the gain harder.
    """
    difference_N = np.asarray(right, dtype=np.float64) - np.asarray(right_before, dtype=np.float64)
    _, group_N = np.unique(np.asarray(groups), return_inverse=True)
    gained_G = np.bincount(group_N, weights=difference_N)
    num_rows_G = np.bincount(group_N)
    gain, num_groups = round(float(difference_N.mean()), DIGITS), len(gained_G)
    if num_groups < 2:
        return Gain(gain, None, None, num_groups)
    rng = np.random.default_rng(_SEED)
    draws = np.empty(NUM_DRAWS)
    for draw in range(NUM_DRAWS):
        drawn = rng.integers(num_groups, size=num_groups)
        draws[draw] = gained_G[drawn].sum() / num_rows_G[drawn].sum()
    low, high = np.quantile(draws, [0.025, 0.975])
    return Gain(gain, round(float(low), DIGITS), round(float(high), DIGITS), num_groups)
