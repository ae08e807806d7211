"""What the tests of training and evaluation share."""

from functools import partial
from pathlib import Path

import pytest
from labelled_store import StoreMaker, labelled_store

from fusion.config import TrainConfig


@pytest.fixture
def config() -> TrainConfig:
    return TrainConfig(
        seed=0, hidden=16, dropout=0.1, epochs=40, patience=8, batch_size=32, learning_rate=0.01, weight_decay=0.0
    )


@pytest.fixture
def make_store(tmp_path: Path) -> StoreMaker:
    """labelled_store() in the test's own folder."""
    return partial(labelled_store, tmp_path)
