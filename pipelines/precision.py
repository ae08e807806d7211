"""What a view's precision and compilation do to its vectors, and what they save: measured on the project's samples."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.encoders.base import Encoded
from features.encoders.catalogue import make_encoder
from features.encoders.memory import within_memory
from features.encoders.opening import open_session
from features.encoders.pooling import pool
from features.encoders.running import check_device, take_running
from features.errors import EncoderError, StageError
from features.view import View
from pipelines.embed import choose_device
from pipelines.inventory import read_inventory
from pipelines.params import EmbedParams
from pipelines.view_params import ViewParams
from pipelines.view_worker import MediaFile


@dataclass(frozen=True)
class PrecisionEffect:
    """cosine_N: float64 [sample], of each sample's vector to that of plain float32; seconds for all of them each way,
    once the model is loaded and has seen the shapes."""

    view: str
    precision: str
    compile: bool
    channels_last: bool
    cosine_N: np.ndarray
    seconds: float
    plain_seconds: float


def measure_precision(
    params: EmbedParams, name: str, before: Sequence[Path], *, num_samples: int, threads: int
) -> PrecisionEffect:
    """Encode samples, spread evenly over the keys, as the view says and in plain float32.

    Raises EncoderError if the view is not declared, is plain or is not for the device, StageError if there are no
    samples for it.
    """
    if name not in params.views:
        raise EncoderError(f"params.yaml declares no view {name!r}; it has {', '.join(params.views)}")
    declared = params.views[name]
    if not isinstance(declared, ViewParams):
        raise EncoderError(f"view {name!r} runs no encoder: ask for {declared.view!r}, which it is made from")
    view = View(name=name, **declared.model_dump())
    plain, running = take_running(view)
    if running.is_plain:
        raise EncoderError(
            f"view {name!r} runs in plain float32: set its option precision, compile or channels_last, to measure it"
        )
    device = choose_device(params.device)
    check_device(view, device)
    samples = _choose(read_inventory(before), view.input, num_samples)
    as_declared, seconds = _encode(view, samples, device, threads)
    exact, plain_seconds = _encode(replace(plain, pooling=view.pooling), samples, device, threads)
    lengths_N = np.linalg.norm(as_declared, axis=1) * np.linalg.norm(exact, axis=1)
    cosine_N = (as_declared * exact).sum(axis=1) / np.maximum(lengths_N, np.finfo(np.float64).tiny)
    return PrecisionEffect(
        name, running.precision, running.compile, running.channels_last, cosine_N, seconds, plain_seconds
    )


def _choose(inventory: pa.Table, modality: str, num_samples: int) -> pa.Table:
    present = inventory.filter(inventory.column(f"has_{modality}"))
    if present.num_rows == 0:
        raise StageError(f"no sample has {modality}: run 'dvc repro augment', or choose a view of another input")
    places_N = np.unique(np.linspace(0, present.num_rows - 1, num_samples).astype(int))
    return present.take(pa.array(places_N))


def _encode(view: View, samples: pa.Table, device: str, threads: int) -> tuple[np.ndarray, float]:
    """float64 [sample, dim] and the seconds that it took, the second time; sequences count by their mean."""
    paths, rows = samples.column("path").to_pylist(), samples.column("row").to_pylist()
    files = {path: MediaFile(Path(path), view.source) for path in set(paths)}
    reads = [(place, partial(files[path].read, row)) for place, (path, row) in enumerate(zip(paths, rows, strict=True))]
    with within_memory(view, device):
        opened = open_session(make_encoder(view), device, threads=threads)
    with opened as session:
        list(session.encode(reads))
        started_s = time.perf_counter()
        outcomes = [outcome for _, outcome in session.encode(reads)]
        seconds = time.perf_counter() - started_s
    vectors = []
    for outcome in outcomes:
        if not isinstance(outcome, Encoded):
            raise EncoderError(f"view {view.name!r} cannot encode a sample: {outcome}")
        pooling = "mean" if view.pooling == "sequence" else view.pooling
        vectors.append(pool(outcome.vectors_TD, outcome.times_T2, pooling)[0].astype(np.float64))
    return np.stack(vectors), seconds
