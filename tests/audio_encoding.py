"""Audio encoders as a worker runs them, for tests."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from features.encoders.base import Audio, Encoded, Encoder, Media
from features.encoders.catalogue import make_encoder
from features.encoders.session import Session, encode_samples
from features.reasons import MediaError
from features.view import View


def load_encoder(encoder: str, modality: str = "audio", **options) -> Encoder:
    made = make_encoder(View(name=modality, input=modality, encoder=encoder, options=options))
    torch.set_num_threads(1)  # as in a worker
    made.load("cpu")
    return made


def encode_all(encoder: Encoder, *clips: Media) -> list[Encoded | MediaError]:
    return [outcome for _, outcome in encode_samples(encoder, enumerate(clips))]


def chirp(num_samples: int, rate_hz: int = 16_000) -> Audio:
    """A rising tone with noise that no other length has."""
    times_T = np.arange(num_samples) / rate_hz
    noise_T = np.random.default_rng(num_samples).normal(0, 0.01, num_samples)
    return Audio((0.3 * np.sin(2 * np.pi * (200 + 900 * times_T) * times_T) + noise_T).astype(np.float32), rate_hz)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.ravel(a).astype(np.float64), np.ravel(b).astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def assert_bytes_of_their_own(encoder: Encoder, media: Sequence[Media]) -> None:
    """The vectors of a sample are the same bytes alone, in company, in another order, and on two threads, which on a
    CPU encode several clips in one go."""
    alone = [encode_all(encoder, medium)[0].vectors_TD.tobytes() for medium in media]
    crowded = encode_all(encoder, *reversed(media), *media)
    assert [outcome.vectors_TD.tobytes() for outcome in crowded] == [*alone[::-1], *alone]
    for is_cpu in (False, True):
        with Session([encoder] * 2, num_decoders=2, is_cpu=is_cpu) as session:
            on_two = list(session.encode((place, partial(media.__getitem__, place)) for place in range(len(media))))
        assert [outcome.vectors_TD.tobytes() for _, outcome in on_two] == alone
