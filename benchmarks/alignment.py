"""A corpus with the shape of CMU-MOSEI on the time base of its words: 23,453 segments of 3,228 recordings, 65 hours,
447,000 words; 74 acoustic numbers at 100 Hz and 35 visual ones at 30 Hz, 8 GB of float32.

Beside it a copy of the same bytes from the same memory maps, and the same work by a plain numpy loop over the words in
the manner of CMU-MultimodalSDK, on some of the recordings, extrapolated to all.

Run from a checkout whose environment has the extra 'test'; needs 9 GB of disk:
python benchmarks/alignment.py [--quick] [--json]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from alignment_corpus import VIEWS, Segment, make_segments, write_corpus
from measures import Measure, at_least, at_most, show

if TYPE_CHECKING:
    from features.store import Store

_QUICK_PART = 0.05
_LOOP_RECORDINGS = 40
_ROUNDS = 3
_EPSILON_S = 10e-6  # of the SDK


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the corpus")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        segments = make_segments(_QUICK_PART if options.quick else 1)
        store = Path(folder, "store")
        write_corpus(store, segments)
        for measure in measures(store, segments):
            show(measure, as_json=options.json)


def measures(store: Path, segments: list[Segment]) -> Iterator[Measure]:
    """All figures. What is timed runs in processes of its own, in turn; the first copy brings the files into memory."""
    copied = _ask(store, "copy")
    rounds = [(_ask(store, "copy"), _ask(store, "align")) for _ in range(_ROUNDS)]
    copy_s, align_s = (median(found["seconds"] for found in kind) for kind in zip(*rounds, strict=True))
    peak_bytes = max(aligned["peak_bytes"] for _, aligned in rounds)
    looped = _ask(store, "loop")
    num_words = sum(len(segment.words_W2) for segment in segments)
    gigabytes = copied["bytes"] / 1e9
    what = f"{len(segments):,} segments to {num_words:,} words"
    yield at_most(what, align_s, "s", 120)
    yield Measure(f"{what}: samples", len(segments) / align_s, "1/s")
    yield Measure(f"{what}: vectors read, {gigabytes:.2f} GB", gigabytes / align_s, "GB/s")
    yield Measure("one copy of the same bytes", gigabytes / copy_s, "GB/s")
    yield Measure("speed of one copy that is reached", copy_s / align_s, "times")
    yield at_most("peak memory, with the maps of files", peak_bytes / 2**30, "GiB", 2)
    loop_s = looped["seconds"] * num_words / looped["words"]
    yield Measure(f"numpy loop as in the SDK, extrapolated from {int(looped['words']):,} words", loop_s, "s")
    yield at_least("times as long as Plait", loop_s / align_s, "times", 100)


def _ask(store: Path, do: str) -> dict[str, float]:
    asked = subprocess.run([sys.executable, __file__, str(store), do], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(asked.stdout)


def align(store: "Store") -> dict[str, float]:
    """By the public API, batch by batch. Before the clock starts the loops are compiled and loaded."""
    store.align(store.keys[:1], list(VIEWS), to="word")
    started_s = time.perf_counter()
    num_words = sum(len(batch.times) for batch in store.align_batches(list(VIEWS), to="word"))
    return {"seconds": time.perf_counter() - started_s, "words": num_words, "peak_bytes": _peak_bytes()}


def copy(store: "Store") -> dict[str, float]:
    """All vectors from the memory maps into one buffer, shard by shard."""
    num_bytes, buffer = 0, np.zeros(1 << 26, np.float32)
    store.reader.sequence_vectors(next(iter(VIEWS)), 0)  # loads what pyarrow needs for it
    started_s = time.perf_counter()
    for index in range(len(store.reader.shards)):
        for name in VIEWS:
            vectors_VD, _ = store.reader.sequence_vectors(name, index)
            np.copyto(buffer[: vectors_VD.size], vectors_VD.reshape(-1))
            num_bytes += vectors_VD.nbytes
    return {"seconds": time.perf_counter() - started_s, "bytes": num_bytes}


def loop(store: "Store") -> dict[str, float]:
    """Some recordings, as whole timelines in memory; that the means are those of how="unweighted" is checked."""
    recordings = sorted({key.partition("/")[0] for key in store.keys})
    chosen = recordings[:: max(1, len(recordings) // _LOOP_RECORDINGS)]
    seconds, num_words = 0.0, 0
    for recording in chosen:
        keys = [key for key in store.keys if key.startswith(f"{recording}/")]
        table = store.samples
        aligned = store.align(keys, list(VIEWS), to="word", how="unweighted")
        first = store.reader.locate(keys[:1])[0]
        starts_K = table["start_s"].slice(first, len(keys)).to_numpy()
        words_W2 = aligned.targets.shifted(starts_K).times
        for name in VIEWS:
            found = store.get_sequences(keys, name)
            times_S2 = np.concatenate([one.times_T2 + start_s for one, start_s in zip(found, starts_K, strict=True)])
            features_SD = np.concatenate([one.vectors_TD for one in found])
            started_s = time.perf_counter()
            means = [mean_at(times_S2, features_SD, start_s, end_s) for start_s, end_s in words_W2]
            seconds += time.perf_counter() - started_s
            np.testing.assert_allclose(np.stack(means), aligned.values[name], atol=1e-4)
        num_words += len(words_W2)
    return {"seconds": seconds, "words": num_words}


def mean_at(times_S2: np.ndarray, features_SD: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    """The mean of all entries of a recording that a word touches, cut to it, where more than an epsilon is left."""
    mirrored_S2 = times_S2 * [-1, 1]
    touches_S = np.all(mirrored_S2 - [-end_s, start_s] > -_EPSILON_S, axis=1)
    cut_C2 = times_S2[touches_S].clip(start_s, end_s)
    left_C = np.abs(cut_C2[:, 1] - cut_C2[:, 0]) > _EPSILON_S
    return np.average(features_SD[touches_S][left_C], axis=0)


def _peak_bytes() -> int:
    """The most memory that this process had at once, the pages of mapped files among it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[2] in ("align", "copy", "loop"):
        import features

        print(json.dumps({"align": align, "copy": copy, "loop": loop}[sys.argv[2]](features.open(sys.argv[1]))))
    else:
        main()
