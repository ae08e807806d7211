"""Encoders at the speed of the bare model: Plait's embed beside a hand-written loop and other ways to feed a model.

All encode the same media with the same weights, each in a process of its own, one after the other in each round, and a
ratio is the median of its rounds. The bare loop has its media in memory, decoded and shaped, before its clock starts;
all others read files, or as Plait does the shards of the stage before. On a GPU, where there is one, the bare loop has
its batches there.

Run from a checkout whose environment has the extras 'bench' and 'test':
python benchmarks/embed.py [--quick] [--json] [--only WAY ...] [--tasks WORD ...] [--rounds N]
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from encoding.media import make_media
from encoding.tasks import TASKS, Task
from measures import Measure, at_least, at_most, show
from workers import ENVIRONMENT, Missing

PLAIT, BARE = "Plait", "bare loop"
WAYS = {
    BARE: "bare_loop",
    PLAIT: "plait_embed",
    "files read and decoded, no model": "decode_only",
    "DataLoader": "data_loader",
    "Beam RunInference": "run_inference",
    "Hugging Face datasets.map": "datasets_map",
    "Ray Data": "ray_data",
    "Daft": "daft_frames",
}
DECODE = "files read and decoded, no model"
ON_GPU = (BARE, PLAIT, DECODE)
ROUNDS = 3
_LONGEST_S = 1800
_ALIKE = 0.999  # cosine of a vector to the bare loop's: less is another feature
_MOST_BYTES = 2 << 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few samples, one round, Plait beside the bare loop")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--only", nargs="+", choices=WAYS, help="these ways alone")
    parser.add_argument("--tasks", nargs="+", default=[""], help="the tasks whose names hold one of these words")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of all ways over all media")
    options = parser.parse_args()
    ways = options.only or ([BARE, PLAIT, DECODE] if options.quick else list(WAYS))
    tasks = [task for name, task in TASKS.items() if any(word in name for word in options.tasks)]
    tasks = [task for task in tasks if _runs_here(task, quick=options.quick)]
    with tempfile.TemporaryDirectory() as folder:
        for task in tasks:
            its_ways = [way for way in ways if way in ON_GPU] if task.is_for_gpu else ways
            comparison = Comparison(task, Path(folder) / task.modality, its_ways, quick=options.quick)
            comparison.run(1 if options.quick else options.rounds)
            for measure in comparison.measures():
                show(measure, as_json=options.json)
            shutil.rmtree(comparison.folder)


def _runs_here(task: Task, *, quick: bool) -> bool:
    return not task.is_for_gpu or task.device == "cuda" or (quick and not task.needs_gpu)


class Comparison:
    """All ways over the media of one task; found: for each way a dictionary a round."""

    def __init__(self, task: Task, folder: Path, ways: list[str], *, quick: bool) -> None:
        self.task, self.folder, self.ways = task, folder, ways
        self.num_samples = task.quick_number if quick else task.number
        self.found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        self.missing: dict[str, Missing] = {}
        make_media(task, folder / "media", self.num_samples)

    def run(self, num_rounds: int) -> None:
        for number in range(num_rounds):
            right = None
            for way in self.ways:
                if way in self.missing:
                    continue
                answer = self._ask(way, self.folder / f"{WAYS[way]}{number}")
                if isinstance(answer, Missing):
                    self.missing[way] = answer
                    continue
                answer["rate"] = self.num_samples / answer["seconds"]
                self.found[way].append(answer)
                right = self._check(way, self.folder / f"{WAYS[way]}{number}", right)

    def _ask(self, way: str, folder: Path) -> dict[str, float] | Missing:
        folder.mkdir()
        command = [sys.executable, str(Path(__file__).with_name("embed_worker.py")), WAYS[way], self.task.name]
        command += [str(self.folder / "media"), str(folder)]
        with open(folder / "log", "w+") as log:
            worker = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=_environment(), start_new_session=True
            )
            try:
                said, _ = worker.communicate(timeout=_LONGEST_S)
            except subprocess.TimeoutExpired:
                return Missing("failed", f"no end within {_LONGEST_S} s")
            finally:
                _end_session(worker)
            log.seek(0)
            errors = log.read().strip().splitlines() or [""]
        if worker.returncode:
            return Missing("failed", f"its process ended with {worker.returncode}: {errors[-1]}"[:200])
        answer = json.loads(said)
        if "not_installed" in answer:
            return Missing("n/a", f"needs {answer['not_installed']}: pip install -e '.[bench]'")
        return answer

    def _check(self, way: str, folder: Path, right: np.ndarray | None) -> np.ndarray | None:
        """Leave out who does not give the vectors of the bare loop; gives those."""
        path = folder / "vectors.npy"
        vectors = np.load(path).astype(np.float64) if path.exists() else None
        shutil.rmtree(folder)
        if vectors is None or right is None:
            return right if vectors is None else vectors
        if vectors.shape != right.shape:
            self.missing[way] = Missing("failed", f"gives vectors of shape {vectors.shape}, not {right.shape}")
            return right
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(right, axis=1)
        worst = float(((vectors * right).sum(axis=1) / lengths).min())
        if not worst >= _ALIKE:
            self.missing[way] = Missing("failed", f"gives other vectors: cosine {worst:.4f}")
        return right

    def ratio(self, way: str, to: str, name: str = "rate") -> float:
        """Median over the rounds of one way's figure by another's."""
        return median(ours[name] / theirs[name] for ours, theirs in zip(self.found[way], self.found[to], strict=True))

    def measures(self) -> Iterator[Measure]:
        task = self.task.name
        for way in self.ways:
            if way in self.missing:
                yield Measure(f"{task}: {way}", None, f"{self.missing[way].kind}: {self.missing[way].reason}")
                continue
            yield Measure(f"{task}: {way}", median(found["rate"] for found in self.found[way]), "samples/s")
            if way not in (BARE, PLAIT, DECODE) and PLAIT in self.ways and PLAIT not in self.missing:
                yield at_least(f"{task}: Plait over {way}", self.ratio(PLAIT, way), "times", 1)
        if {PLAIT, BARE} <= set(self.ways) - set(self.missing):
            yield from self._against_bare()

    def _against_bare(self) -> Iterator[Measure]:
        task = self.task.name
        has_decode = DECODE in self.ways and DECODE not in self.missing
        over_bare = self.ratio(PLAIT, BARE)
        if has_decode:
            # Where the model is on the processors as well, no way that starts at files can do more than this allows.
            rounds = zip(self.found[PLAIT], self.found[BARE], self.found[DECODE], strict=True)
            over_both = median(
                plait["rate"] * (1 / bare["rate"] + 1 / decode["rate"]) for plait, bare, decode in rounds
            )
            yield Measure(f"{task}: Plait over decoding and the bare loop in turn", over_both, "times")
        is_model_slower = not has_decode or self.ratio(BARE, DECODE) <= 1
        if is_model_slower:
            bound = 0.9 if self.task.is_for_gpu else 0.95
            yield at_least(f"{task}: Plait over the bare loop", over_bare, "times", bound)
        else:  # decoding cannot keep up with the model
            yield Measure(f"{task}: Plait over the bare loop", over_bare, "times")
            yield at_least(f"{task}: Plait over decoding alone", self.ratio(PLAIT, DECODE), "times", 0.9)
        if self.task.is_for_gpu:
            yield self._busy(is_model_slower)
        # The bare loop holds its media in memory as well, so that only Plait's own peak says something.
        peak_bytes = max(found["peak_bytes"] - found["model_bytes"] for found in self.found[PLAIT])
        yield at_most(f"{task}: peak memory of Plait beside the model", peak_bytes / 2**20, "MiB", _MOST_BYTES / 2**20)

    def _busy(self, is_model_slower: bool) -> Measure:
        name = f"{self.task.name}: GPU busy"
        percents = [found["busy_percent"] for found in self.found[PLAIT]]
        if self.task.device != "cuda":
            return Measure(name, None, "n/a: no GPU, so all ran on the CPU")
        if None in percents:
            return Measure(name, None, "unknown: it wants nvidia-ml-py and a whole GPU")
        if not is_model_slower:  # it waits for decoding, whatever is done
            return Measure(name, median(percents), "percent")
        return at_least(name, median(percents), "percent", 90)


def _environment() -> dict[str, str]:
    """That of all ways: each uses all processors as it does by default, one GPU, and asks the network for nothing."""
    silent = {"RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "true"}
    # Some start processes of their own, which know no path that a script adds.
    here = Path(__file__).parent
    # The bare loop has a use for one GPU alone, the first of those that are allowed.
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    silent |= {"CUDA_VISIBLE_DEVICES": gpu}
    merged = {**os.environ, **ENVIRONMENT, **silent, "PYTHONPATH": f"{here}:{here.parent}"}
    del merged["OMP_NUM_THREADS"]
    return merged


def _end_session(leader: subprocess.Popen[str]) -> None:
    """End a worker and what it started and left behind, which is in its session whatever its parent is now."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getsid(int(entry.name)) == leader.pid:
                os.kill(int(entry.name), signal.SIGKILL)
    leader.wait()


if __name__ == "__main__":
    main()
