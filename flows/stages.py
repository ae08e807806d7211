"""The stages by name, as dvc.yaml calls them: where each one reads and writes."""

from collections.abc import Callable
from pathlib import Path

import fusion.evaluate
import fusion.train
from pipelines.demo import make_demo

from fusion.config import TrainConfig
from pipelines.align import align
from pipelines.augment import augment
from pipelines.clean import clean
from pipelines.embed import embed
from pipelines.ingest import ingest
from pipelines.pack import pack
from pipelines.params import BeamParams, Params

DATA = Path("data")
RESULTS = Path("results")


def run_stage(name: str, params: Params, beam: BeamParams) -> None:
    """Run one stage in the current folder."""
    _STAGES[name](params, beam)


def _demo(params: Params, beam: BeamParams) -> None:
    make_demo(params.demo, DATA / "demo", beam)


def _ingest(params: Params, beam: BeamParams) -> None:
    ingest(params.ingest, DATA / "ingest", beam)


def _clean(params: Params, beam: BeamParams) -> None:
    clean(params.clean, params.ingest.shard_samples, DATA / "ingest", DATA / "clean", beam)


def _align(params: Params, beam: BeamParams) -> None:
    align(params.align, DATA / "clean", DATA / "align", beam)


def _augment(params: Params, beam: BeamParams) -> None:
    augment(params.augment, DATA / "align", DATA / "augment", beam)


def _embed(params: Params, beam: BeamParams) -> None:
    embed(params.embed, [DATA / "align", DATA / "augment"], DATA / "features", beam)


def _pack(params: Params, beam: BeamParams) -> None:
    pack(params.pack, [DATA / "align", DATA / "augment"], DATA / "features", DATA / "packed", beam)


def _train(params: Params, beam: BeamParams) -> None:
    fusion.train.train(TrainConfig(**params.train.model_dump()), DATA / "features", DATA / "models")


def _evaluate(params: Params, beam: BeamParams) -> None:
    fusion.evaluate.evaluate(DATA / "features", DATA / "models", RESULTS)


_STAGES: dict[str, Callable[[Params, BeamParams], None]] = {
    "demo": _demo,
    "ingest": _ingest,
    "clean": _clean,
    "align": _align,
    "augment": _augment,
    "embed": _embed,
    "pack": _pack,
    "train": _train,
    "evaluate": _evaluate,
}
