"""Texts through an encoder, as tests ask it."""

import numpy as np
import torch

from features.encoders.base import Encoded, Encoder
from features.encoders.catalogue import make_encoder
from features.encoders.session import encode_samples
from features.view import Pooling, View


def load(encoder: str, *, pooling: Pooling = "mean", **options) -> Encoder:
    made = make_encoder(View(name="text", input="text", encoder=encoder, pooling=pooling, options=options))
    torch.set_num_threads(1)  # as in a worker
    made.load("cpu")
    return made


def encode(encoder: Encoder, texts: list[str]) -> list[np.ndarray]:
    outcomes = [outcome for _, outcome in encode_samples(encoder, enumerate(texts))]
    assert all(isinstance(outcome, Encoded) for outcome in outcomes)
    return [outcome.vectors_TD for outcome in outcomes]
