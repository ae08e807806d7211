"""What a lower precision and compilation do to features: cosines to those of plain float32, for the packaged models.

What is for a GPU runs on one where there is one, and elsewhere on one that the tests simulate: torch casts what it
would cast there, and products of rounded numbers are added up in float32 and rounded, all of it on the CPU.

Run from a checkout whose environment has the extras 'demo' and 'test':
python benchmarks/precision.py [--quick] [--json]
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from simulated_gpu import simulated_gpus

from encoding.media import make_media
from encoding.segments import publish_samples
from encoding.tasks import TASKS, Task, media_paths
from features.encoders.catalogue import find_family
from measures import Measure, show
from pipelines.params import EmbedParams
from pipelines.precision import PrecisionEffect, measure_precision
from pipelines.view_params import ViewParams

HAS_GPU = torch.cuda.is_available()
NUMBER, QUICK_NUMBER = 200, 16
MODELS = {
    "MiniLM": ("MiniLM, sentences", "minilm"),
    "EfficientNet-Lite0": ("EfficientNet-Lite0, JPEGs", "efficientnet-lite0"),
    "resemblyzer": ("log-mel and MFCC, clips", "resemblyzer"),
}
RUNNINGS: list[tuple[str, dict[str, Any]]] = [
    ("cuda", {"precision": "float16"}),
    ("cuda", {"precision": "bfloat16"}),
    ("cpu", {"precision": "bfloat16"}),
    ("cpu", {"precision": "int8"}),
    ("cpu", {"compile": True}),
]
_NO_LINEAR_LAYERS = ("EfficientNet-Lite0",)  # which int8 is for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_NUMBER} samples, and nothing is compiled")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    for name, (task_name, encoder) in MODELS.items():
        if not find_family(encoder, "").is_installed:
            show(Measure(name, None, f"n/a: {find_family(encoder, '').install}"), as_json=options.json)
            continue
        for measure in _measures(name, TASKS[task_name], encoder, quick=options.quick):
            show(measure, as_json=options.json)


def _measures(name: str, task: Task, encoder: str, *, quick: bool) -> Iterator[Measure]:
    number = QUICK_NUMBER if quick else NUMBER
    with tempfile.TemporaryDirectory() as folder:
        media = Path(folder) / "media"
        make_media(task, media, number)
        segments = publish_samples(task, media_paths(media), Path(folder) / "align")
        for device, running in RUNNINGS:
            if (quick and "compile" in running) or ("int8" in running.values() and name in _NO_LINEAR_LAYERS):
                continue
            found = _effect(replace(task, view={"encoder": encoder, "options": running}), device, segments, number)
            is_simulated = device == "cuda" and not HAS_GPU
            what = f"{name}, {running.get('precision', 'compiled')}, {'a simulated GPU' if is_simulated else device}"
            away_N = 1e6 * (1 - found.cosine_N)
            yield Measure(f"{what}: 1 - cosine, mean", float(away_N.mean()), "1e-6")
            yield Measure(f"{what}: 1 - cosine, most", float(away_N.max()), "1e-6")
            if not is_simulated:
                yield Measure(f"{what}: time", found.seconds / found.plain_seconds, "of float32's")


def _effect(task: Task, device: str, segments: Path, number: int) -> PrecisionEffect:
    views = {"view": ViewParams(input=task.modality, **task.view)}
    params = EmbedParams(device=device, shard_samples=256, views=views, max_reject_ratio=0.0)
    with _on(device):
        return measure_precision(params, "view", [segments], num_samples=number, threads=2)


@contextmanager
def _on(device: str) -> Iterator[None]:
    if device == "cpu" or HAS_GPU:
        yield
        return
    with simulated_gpus(), patch("pipelines.embed._has_cuda", lambda: True):
        yield


if __name__ == "__main__":
    main()
