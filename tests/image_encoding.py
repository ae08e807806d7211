"""What tests of encoders of images and videos share."""

from io import BytesIO

import numpy as np
import torch
from PIL import Image

from features.encoders.base import Encoded, Encoder, Media, Video
from features.encoders.catalogue import make_encoder
from features.encoders.session import encode_samples
from features.reasons import MediaError
from features.view import View


def load(encoder: str, *, modality: str = "image", **options: object) -> Encoder:
    made = make_encoder(View(name="view", input=modality, encoder=encoder, options=options))
    torch.set_num_threads(1)  # as in a worker
    made.load("cpu")
    return made


def encode(encoder: Encoder, samples: list[Media]) -> list[Encoded | MediaError]:
    return [outcome for _, outcome in encode_samples(encoder, enumerate(samples))]


def vectors(encoder: Encoder, sample: Media) -> np.ndarray:
    """float32 [vector, dim] of a sample that has to come through."""
    (outcome,) = encode(encoder, [sample])
    assert isinstance(outcome, Encoded), outcome
    return outcome.vectors_TD


def encoded(image: Image.Image, file_format: str = "PNG") -> bytes:
    file = BytesIO()
    image.save(file, file_format)
    return file.getvalue()


def pictures(count: int, seed: int = 0) -> list[bytes]:
    """Random JPEGs of random shapes."""
    rng = np.random.default_rng(seed)
    shapes = rng.integers(20, 90, (count, 2))
    return [encoded(Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)), "JPEG") for shape in shapes]


def video_of(frames: list[bytes], rate_hz: float) -> Video:
    return Video(frames, np.arange(len(frames)) / rate_hz, end_s=len(frames) / rate_hz)


def decoded(image: bytes) -> Image.Image:
    return Image.open(BytesIO(image)).convert("RGB")


def cosine(a_ND: np.ndarray, b_ND: np.ndarray) -> float:
    """The smallest cosine between the rows of two arrays."""
    norms = np.linalg.norm(a_ND, axis=-1) * np.linalg.norm(b_ND, axis=-1)
    return float(((a_ND * b_ND).sum(axis=-1) / norms).min())


def assert_company_leaves_bytes(encoder: Encoder, samples: list[Media]) -> None:
    """Each sample has the same bytes alone and among the others, in any order."""
    alone = [vectors(encoder, sample).tobytes() for sample in samples]
    order = np.random.default_rng(1).integers(0, len(samples), 2 * len(samples) + 1)
    crowded = encode(encoder, [samples[index] for index in order])
    assert [outcome.vectors_TD.tobytes() for outcome in crowded] == [alone[index] for index in order]
