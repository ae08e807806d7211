"""The encoders that come with the package give a row the same bytes in whatever company and after whatever happened."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import media_files
import numpy as np
import pytest
from corpus import digests
from counting import publish_rows, publish_sources
from shard_work import local_beam

from features.encoders.base import Encoder
from features.sample import MediaRow, media_row
from pipelines.digests import sample_digests
from pipelines.embed import define_views, embed_views
from pipelines.media.audio import to_pcm16
from pipelines.params import EmbedParams
from pipelines.view_params import ReducedViewParams, ViewParams
from pipelines.view_plan import define_view

RATE_HZ = 16_000
NUM = 20
SMALL = {"size_px": 32}
PARAMS = EmbedParams(
    device="cpu",
    shard_samples=6,
    views={
        "text": ViewParams(input="text", encoder="minilm"),
        "sound": ViewParams(input="audio", encoder="logmel-mfcc", pooling="sequence"),
        "image": ViewParams(input="image", encoder="efficientnet-lite0", options=SMALL),
        "video": ViewParams(input="video", encoder="efficientnet-lite0", options=SMALL),
        "small": ReducedViewParams(view="text", reduce=["standardise", {"pca": 5, "whiten": True}, "l2"]),
        "frames": ViewParams(input="video", encoder="efficientnet-lite0", options=SMALL, pooling="sequence"),
    },
    max_reject_ratio=0.2,
)


def sample(index: int) -> MediaRow:
    """Every length differs from sample to sample: of the text, of the sound and of the film."""
    rng = np.random.default_rng(index)
    words = rng.choice(["one", "two", "three", "and", "incomprehensible"], size=1 + index * index // 3)
    wave_T = rng.normal(0, 0.1, 800 + 977 * index).astype(np.float32)
    frames = [
        media_files.image_bytes(media_files.pixels(seed=100 * index + frame), "JPEG") for frame in range(index % 5)
    ]
    row = media_row(
        key=f"rec{index:02d}",
        recording=f"rec{index:02d}",
        group=f"rec{index:02d}",
        split="train",
        variant=0,
        source_digest="0",
        start_s=0.0,
        end_s=2.0,
        text=" ".join(words),
        image=media_files.image_bytes(media_files.pixels(seed=index), "PNG") if index % 4 else None,
        audio=to_pcm16(wave_T),
        audio_rate_hz=RATE_HZ,
        audio_start_s=0.0,
        frames=frames or None,
        frame_times_s=[frame / 4 for frame in range(len(frames))] or None,
        frames_end_s=2.0 if frames else None,
    )
    return {**row, "digests": sample_digests(row)}


@dataclass
class Killed:
    """The encoder of a view, which ends its own process when it is given its num-th batch."""

    encoder: Any
    num: int
    num_seen: int = 0

    def __getattr__(self, name: str) -> Any:
        if name == "encoder":  # while it is unpickled there is none yet
            raise AttributeError(name)
        return getattr(self.encoder, name)

    def encode(self, units_B: np.ndarray) -> list[np.ndarray]:
        self.num_seen += 1
        if self.num_seen == self.num:
            os.kill(os.getpid(), signal.SIGKILL)
        return list(self.encoder.encode(units_B))


def run(folder: Path, indices: Iterable[int], *, threads: int = 2, killed_in: str | None = None) -> Path:
    """Embed the samples into folder/features, and give that folder."""
    segments = publish_rows(folder / "align", map(sample, indices))
    sources = publish_sources(folder / "ingest", {})
    defined = define_views(PARAMS)
    for place, view in enumerate(defined):
        if view.view.name == killed_in:
            encoder: Encoder = Killed(view.encoder, num=2)
            defined[place] = define_view(view.view, encoder, "cpu")
    embed_views(defined, PARAMS, [segments], folder / "features", local_beam(threads), ingest=sources)
    return folder / "features"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of all files of a store that is made in one go on one thread."""
    return digests(run(tmp_path_factory.mktemp("whole"), range(NUM), threads=1))


def test_two_threads_give_the_same_bytes(tmp_path: Path, expected: dict[str, str]) -> None:
    assert digests(run(tmp_path, range(NUM))) == expected


def test_growing_and_shrinking_gives_the_same_bytes(tmp_path: Path, expected: dict[str, str]) -> None:
    """Each version has other neighbours in its batches than the last one, and the last one copies most of its rows."""
    for indices in (range(0, NUM, 2), range(3, NUM + 5, 3), range(NUM)):
        store = run(tmp_path, indices)

    assert digests(store) == expected


def test_a_run_after_a_kill_gives_the_same_bytes(tmp_path: Path, expected: dict[str, str]) -> None:
    script = f"import sys; from pathlib import Path; sys.path[:] = {sys.path!r}\n" + (
        "from test_same_bytes import NUM, run\nrun(Path(sys.argv[1]), range(NUM), threads=1, killed_in='image')\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, tmp_path], cwd=Path(__file__).parent, capture_output=True)
    left = digests(tmp_path / "features")

    assert killed.returncode == -signal.SIGKILL
    assert left.keys() != expected.keys()
    assert digests(run(tmp_path, range(NUM))) == expected
