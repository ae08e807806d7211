"""The views of params.yaml as it comes: what they give for media that never change."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.encoders.base import Audio, Encoded, Media, Video
from features.encoders.catalogue import make_encoder
from features.encoders.pooling import pool
from features.encoders.session import encode_samples
from features.view import View
from pipelines.params import load_params
from pipelines.view_params import ViewParams

ROOT = Path(__file__).parents[2]
VIEWS = load_params(ROOT / "params.yaml").embed.views

# An update of a library or an edit that moves these numbers makes other features under the same declaration: they may
# change only on purpose. Numbers and not bytes, since those differ between kinds of CPU.
GOLDEN = {
    "text": [1.0, 0.0991, -0.0449, -0.0271, 0.0309, 0.0067, 0.1125, -0.0012, -0.0146],
    "image": [29.5624, 1.241, 0.0, 0.0, 3.0359, 0.0, 0.1817, 0.0, 0.0],
    "audio": [210.0717, -18.0402, -12.0072, -21.5049, -23.0259, 3.7165, 6.0282, 1.654, 0.0],
    "video": [27.9343, 1.0459, 0.0309, 0.0, 2.2985, 0.0, 0.2723, 0.0, 0.0],
}


def picture(shift: int) -> bytes:
    """A PNG, which every decoder reads alike."""
    rows, columns = np.mgrid[0:96, 0:128]
    pixels_HWC = np.stack([(2 * columns + shift) % 256, (3 * rows) % 256, (rows * columns + shift) % 256], axis=2)
    file = BytesIO()
    Image.fromarray(pixels_HWC.astype(np.uint8)).save(file, "png")
    return file.getvalue()


def chirp() -> Audio:
    times_T = np.arange(16_000) / 16_000
    return Audio((0.3 * np.sin(2 * np.pi * (200 + 900 * times_T) * times_T)).astype(np.float32), 16_000)


MEDIA: dict[str, Media] = {
    "text": "Größe 12,5 km: seven, not ate, and a naïve façade.",
    "image": picture(0),
    "audio": chirp(),
    "video": Video([picture(0), picture(40), picture(80)], np.array([0.0, 0.25, 0.5]), 0.75),
}


@pytest.mark.parametrize("name", VIEWS)
def test_default_view_gives_the_numbers_that_it_always_gave(name: str) -> None:
    declared = VIEWS[name]
    assert isinstance(declared, ViewParams)
    encoder = make_encoder(View(name=name, **declared.model_dump()))
    encoder.load("cpu")
    ((_, outcome),) = encode_samples(encoder, [(name, MEDIA[declared.input])])
    assert isinstance(outcome, Encoded)
    vector_D, _ = pool(outcome.vectors_TD, outcome.times_T2, declared.pooling)
    spread_D = vector_D[:: len(vector_D) // 8][:8]
    found = [round(float(number), 4) for number in (np.linalg.norm(vector_D), *spread_D)]
    assert found == pytest.approx(GOLDEN[name], rel=1e-3, abs=1e-3), found
