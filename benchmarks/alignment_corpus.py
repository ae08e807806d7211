"""A corpus with the published shape of CMU-MOSEI, as a store: numbers are random, times are like those of speech."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

NUM_SEGMENTS, NUM_RECORDINGS, NUM_WORDS, TOTAL_S = 23_453, 3_228, 447_143, 65 * 3600
VIEWS = {"acoustic": (100, 74), "visual": (30, 35)}  # hertz and numbers
_POOL_VECTORS = 60_000  # what vectors are taken from; longer than any segment


@dataclass(frozen=True)
class Segment:
    """One sample: words_W2 in seconds from its start, which is start_s in its recording."""

    key: str
    start_s: float
    duration_s: float
    words_W2: np.ndarray

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s


def make_segments(part: float) -> list[Segment]:
    """All segments, or a part of the recordings with theirs; the same for the same part."""
    rng = np.random.default_rng(0)
    recording_N = np.arange(NUM_SEGMENTS) * NUM_RECORDINGS // NUM_SEGMENTS
    duration_N = rng.gamma(4, size=NUM_SEGMENTS) + 0.2
    duration_N = np.round(duration_N * TOTAL_S / duration_N.sum(), 2)
    words_N = np.maximum(1, np.round(duration_N * NUM_WORDS / TOTAL_S)).astype(int)
    segments: list[Segment] = []
    for recording, duration_s, num_words in zip(recording_N, duration_N.tolist(), words_N, strict=True):
        if recording >= part * NUM_RECORDINGS:
            break
        same = segments[-1] if segments and segments[-1].key.startswith(f"rec{recording:05}") else None
        place = int(same.key[-3:]) + 1 if same else 0
        edges = np.cumsum(rng.uniform(0.2, 1, 2 * num_words + 1) * np.tile([1, 4], num_words + 1)[:-1])
        words_W2 = (edges[:-1] * duration_s / edges[-1]).reshape(-1, 2)  # pauses between them
        key = f"rec{recording:05}/{place:03}"
        segments.append(Segment(key, round(same.end_s + 0.5, 2) if same else 0.0, duration_s, words_W2))
    return segments


def write_corpus(folder: Path, segments: list[Segment]) -> None:
    """Write the store, in float32 as the features of MOSEI are published."""
    from building import build_store

    rng = np.random.default_rng(1)
    samples = [
        {"key": one.key, "text": "", "start_s": one.start_s, "end_s": one.end_s, "words": _words(one)}
        for one in segments
    ]
    views = {}
    for name, (rate_hz, dim) in VIEWS.items():
        pool_VD = rng.standard_normal((_POOL_VECTORS, dim), np.float32)
        grid_T2 = np.stack([np.arange(_POOL_VECTORS), np.arange(1, _POOL_VECTORS + 1)], axis=1) / rate_hz
        num_N = [max(1, round(one.duration_s * rate_hz)) for one in segments]
        starts_N = [int(rng.integers(_POOL_VECTORS - num)) for num in num_N]
        views[name] = {  # parts of one array, which take no memory of their own
            "vectors": [pool_VD[start : start + num] for start, num in zip(starts_N, num_N, strict=True)],
            "times": [grid_T2[:num] for num in num_N],
            "dtype": "float32",
            "input": "audio" if name == "acoustic" else "video",
        }
    build_store(folder, samples, views, shard_rows=256)


def _words(segment: Segment) -> list[dict[str, float | str]]:
    times = (segment.words_W2 + segment.start_s).tolist()
    return [{"start_s": start, "end_s": end, "text": "word"} for start, end in times]
